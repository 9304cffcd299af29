//! `bench-reading [FILE] [--mib N] [--rounds N]`: measures how fast the memory of a vmcore can be read: with `read` and
//! `mmap` in blocks of several sizes, and with `cdbitmap`'s reader. FILE is `/proc/vmcore` or a copy.
//!
//! All rows read the same memory: the start of the vmcore's largest segment. Each row reads one word of each cache
//! line, from a buffer or from a mapping. The rows run in turns, and the order rotates each round. The table has
//! medians.

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

/// Measures how fast the memory of a vmcore can be read.
#[derive(Debug, Parser)]
struct Arguments {
    /// An ELF vmcore
    #[arg(default_value = "/proc/vmcore")]
    file: PathBuf,
    /// Memory that each row reads, in MiB
    #[arg(long, default_value_t = 128)]
    mib: u64,
    /// Number of measurements of each row
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

const KIB: usize = 1 << 10;
/// Block sizes of a read or a mapping, in bytes.
const BLOCKS: [usize; 6] = [4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1024 * KIB, 4096 * KIB];
/// Bytes that a dump reads at once from a run of contiguous pages.
const RUN: usize = 256 * KIB;

/// A way to read memory; the number is the block size in bytes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Call `pread` with a buffer.
    Read(usize),
    /// Map a block, read it, unmap it.
    Map(usize),
    /// Borrow bytes from the reader; copy those that it cannot lend. A dump reads this way.
    Borrowed(usize),
    /// Copy bytes with the reader.
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

/// The memory to read.
struct Subject<'a> {
    file: File,
    image: &'a dyn MemoryImage,
    /// The segment that contains it.
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
    let segment = *segment.ok_or_else(|| Error::unusable("has no segment of 4 MiB or more").at(path))?;
    let file = File::open(path).map_err(|e| Error::io(path, "cannot be opened", e))?;
    let subject = Subject { file, image: &*image, segment, bytes: bytes(&segment) };

    let ways = Way::all();
    let mut seconds = vec![Vec::new(); ways.len()];
    let failed = |e| Error::io(path, "cannot be read", e);
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
    /// Reads all of the memory, and one word of each cache line. Returns the sum of these words.
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
                    // SAFETY: The mapping is private to this block and read-only. `&[u8]` requires that the file does
                    // not change or shrink meanwhile, which nothing enforces: this benchmark relies on a vmcore that
                    // no other process writes to.
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

    /// Reads borrowed bytes where the reader lends them, and copies the others.
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
