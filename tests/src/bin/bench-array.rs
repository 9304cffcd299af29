//! `bench-array VMCORE [--rounds N]`: how fast one core reads a vmcore's array of `struct page`, if it touches one word of
//! each cache line and does nothing else. That is what a scan that jumps over nothing can't be faster than, and shows how
//! much of its growth with the machine is the memory's own.
//!
//! Prints two medians in seconds: through a mapping made for it, as a scan has one, and through the same once more.

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

/// Measures how fast a vmcore's array of struct page can be read.
#[derive(Debug, Parser)]
struct Arguments {
    /// An ELF vmcore, best in the page cache
    vmcore: PathBuf,
    /// How often it is read
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
                    .ok_or_else(|| Error::unusable("the file can't be mapped").at(&asked.vmcore))?;
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
