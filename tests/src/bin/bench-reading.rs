//! `bench-reading [FILE] [--mib N] [--rounds N]`: how fast a vmcore's memory can be read, by `read` and by `mmap` in blocks
//! of several sizes, and by `cdbitmap`'s own reader. FILE is `/proc/vmcore`, or a copy.
//!
//! All rows read the same memory: the first part of the largest piece of the vmcore that is in one piece. All of them look
//! at one word of each cache line of it, wherever it is then: in a buffer, or in a mapping. They take turns, and each is
//! the first one in one of the rounds; medians count.

use clap::Parser;
use cross_tests::measure::{median, touch};
use memmap2::MmapOptions;
use scanner_core::PhysAddr;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use vmcore::image::{MemoryImage, OpenOptions, Segment, file::Access, open};
use vmcore::{Error, Result};

/// Measures how fast a vmcore can be read.
#[derive(Debug, Parser)]
struct Arguments {
    /// An ELF vmcore
    #[arg(default_value = "/proc/vmcore")]
    file: PathBuf,
    /// How much of it each row reads, in MiB
    #[arg(long, default_value_t = 128)]
    mib: u64,
    /// How often each row does
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

const KIB: usize = 1 << 10;
/// The blocks that are read or mapped at once, in bytes.
const BLOCKS: [usize; 6] = [4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1024 * KIB, 4096 * KIB];
/// Pages that follow one another are dumped in runs of so many bytes.
const RUN: usize = 256 * KIB;

/// A way to read.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// `pread` into a buffer.
    Read(usize),
    /// Map a block, look at it, unmap it.
    Map(usize),
    /// What a dump does: the reader borrows, and copies only what it can't lend.
    Borrowed(usize),
    /// The reader copies.
    Copied(usize),
}

impl Way {
    fn all() -> Vec<Self> {
        let blocks = BLOCKS.iter();
        let by_system =
            blocks.clone().map(|block| Self::Read(*block)).chain(blocks.map(|block| Self::Map(*block)));
        by_system
            .chain([Self::Borrowed(RUN), Self::Borrowed(4 * KIB), Self::Copied(RUN), Self::Copied(4 * KIB)])
            .collect()
    }

    fn name(self) -> String {
        let (what, block) = match self {
            Self::Read(block) => ("read", block),
            Self::Map(block) => ("mmap", block),
            Self::Borrowed(block) => ("cdbitmap, in place", block),
            Self::Copied(block) => ("cdbitmap, copied", block),
        };
        format!("{what}, {} KiB", block / KIB)
    }
}

/// The memory that is read.
struct Subject<'a> {
    file: File,
    image: &'a dyn MemoryImage,
    /// The piece it is in.
    segment: Segment,
    bytes: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cross_tests::failed("bench-reading", &error),
    }
}

fn run(asked: &Arguments) -> Result<()> {
    let path = &asked.file;
    let image = open(path, &OpenOptions { access: Access::Pieces, ..OpenOptions::default() })?;
    let segment = image.facts().segments.iter().max_by_key(|segment| segment.file_size);
    let largest = *BLOCKS.iter().max().unwrap_or(&RUN) as u64;
    let bytes = |segment: &Segment| segment.file_size.min(asked.mib << 20) / largest * largest;
    let segment = segment.filter(|segment| bytes(segment) > 0);
    let segment = *segment.ok_or_else(|| Error::unusable("no piece of it has 4 MiB").at(path))?;
    let file = File::open(path).map_err(|e| Error::io(path, "it can't be opened", e))?;
    let subject = Subject { file, image: &*image, segment, bytes: bytes(&segment) };

    let ways = Way::all();
    let mut seconds = vec![Vec::new(); ways.len()];
    let failed = |e| Error::io(path, "it can't be read", e);
    for round in 0..asked.rounds.max(1) {
        for turn in 0..ways.len() {
            let index = (turn + round) % ways.len();
            let start = Instant::now();
            black_box(subject.read(ways[index]).map_err(failed)?);
            seconds[index].push(start.elapsed().as_secs_f64());
        }
    }
    let mib = subject.bytes as f64 / f64::from(1 << 20);
    let speeds: Vec<f64> = seconds.into_iter().map(|seconds| mib / median(seconds)).collect();
    let best = speeds.iter().copied().fold(0.0, f64::max);
    println!("| {mib} MiB at {:#x}, {} rounds | MiB/s | of the best |", segment.phys.as_u64(), asked.rounds);
    println!("|---|---:|---:|");
    for (way, speed) in ways.iter().zip(speeds) {
        println!("| {} | {speed:.0} | {:.2} |", way.name(), speed / best);
    }
    Ok(())
}

impl Subject<'_> {
    /// Reads all of it, and looks at each line.
    fn read(&self, way: Way) -> std::io::Result<u64> {
        let (start, end) = (self.segment.offset, self.segment.offset + self.bytes);
        let (Way::Read(block) | Way::Map(block) | Way::Borrowed(block) | Way::Copied(block)) = way;
        let mut buffer = vec![0; block];
        let mut sum = 0_u64;
        for offset in (start..end).step_by(block) {
            let addr = PhysAddr::new(self.segment.phys.as_u64() + (offset - start));
            let seen = match way {
                Way::Read(_) => {
                    self.file.read_exact_at(&mut buffer, offset)?;
                    touch(&buffer)
                }
                Way::Map(_) => {
                    // SAFETY: The mapping is read-only and ends here; of a vmcore that nobody writes to.
                    let map = unsafe { MmapOptions::new().offset(offset).len(block).map(&self.file) }?;
                    touch(&map)
                }
                Way::Borrowed(_) => self.borrowed(addr, &mut buffer)?,
                Way::Copied(_) => self.copied(addr, &mut buffer)?,
            };
            sum = sum.wrapping_add(seen);
        }
        Ok(sum)
    }

    /// As a dump does: as far as the reader borrows it.
    fn borrowed(&self, addr: PhysAddr, buffer: &mut [u8]) -> std::io::Result<u64> {
        let (mut sum, mut done) = (0_u64, 0);
        while done < buffer.len() {
            let (addr, rest) = (PhysAddr::new(addr.as_u64() + done as u64), &mut buffer[done..]);
            let (seen, bytes) = match self.image.borrow_bytes(addr, rest.len()) {
                Some(bytes) => (touch(&bytes), bytes.len()),
                None => (self.copied(addr, rest)?, rest.len()),
            };
            sum = sum.wrapping_add(seen);
            done += bytes;
        }
        Ok(sum)
    }

    fn copied(&self, addr: PhysAddr, buffer: &mut [u8]) -> std::io::Result<u64> {
        self.image.read(addr, buffer).map_err(std::io::Error::other)?;
        Ok(touch(buffer))
    }
}
