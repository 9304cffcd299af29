//! `bench-array VMCORE [--rounds N]`: measures how fast one core reads the `struct page` array of a vmcore.
//!
//! It reads one word of each cache line. This time is the lower bound for a scan that skips nothing, and it shows how
//! much of a scan's growth with the machine's size comes from memory alone.
//!
//! Prints two medians in seconds: the first read through a new mapping, as in a scan, and a second read through the
//! same mapping.

use clap::Parser;
use cross_tests::measure::{median, touch};
use cross_tests::memmap::array_of;
use scanner_core::PhysAddr;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use vmcore::image::{MemoryImage, OpenOptions, open};
use vmcore::{Error, Result};

/// Measures how fast one core reads the struct page array of a vmcore.
#[derive(Debug, Parser)]
struct Arguments {
    /// An ELF vmcore, preferably in the page cache
    vmcore: PathBuf,
    /// Number of measurements
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok((fresh, again)) => {
            println!("{fresh:.4} {again:.4}");
            ExitCode::SUCCESS
        }
        Err(error) => cross_tests::failed("bench-array", &error),
    }
}

fn run(asked: &Arguments) -> Result<(f64, f64)> {
    let (mut fresh, mut again) = (Vec::new(), Vec::new());
    for _ in 0..asked.rounds.max(1) {
        let image = open(&asked.vmcore, &OpenOptions::default())?;
        let array = array_of(&*image);
        for times in [&mut fresh, &mut again] {
            let start = Instant::now();
            for (phys, len) in &array {
                let bytes = view(&*image, *phys, *len)
                    .ok_or_else(|| Error::unusable("the file cannot be mapped").at(&asked.vmcore))?;
                black_box(touch(bytes));
            }
            times.push(start.elapsed().as_secs_f64());
        }
    }
    Ok((median(fresh), median(again)))
}

fn view(image: &dyn MemoryImage, phys: u64, len: u64) -> Option<&[u8]> {
    image.view(PhysAddr::new(phys), usize::try_from(len).ok()?)
}
