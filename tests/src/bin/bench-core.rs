//! `bench-core [--memory SIZE] [--profile NAME ...] [--rounds N] [--loops]`: measures the scanner's core.
//!
//! It scans a machine whose `struct page` array is in RAM, and compares the time with that of one core that only reads
//! the array. With `--loops` it measures the loops over pages and bitmaps instead, relative to reading the same bytes.

use clap::Parser;
use cross_tests::measure::{first_word, median, touch};
use cross_tests::memmap::{MachineInMemory, Room};
use page_filter::machine::Machine;
use scanner_core::crc32c::crc32c;
use scanner_core::scan::{BitmapRecorder, Observer, RunToCompletion, SCRATCH_BYTES, Tally};
use scanner_core::{Bitmap, DumpLevel, PAGE_SIZE, PageClass, Pfn, PfnRange, RuleSet, Rules, Scan};
use std::hint::black_box;
use std::time::Instant;
use vmcore::dump::zero::is_zero;
use vmcore::frames::FrameBitmap;
use vmcore::image::MemoryImage;
use vmcore_synth::{KernelGeneration, Profile, Spec};

/// Bytes that the loops process; larger than any cache.
const LOOP_BYTES: usize = 1 << 30;

/// Measures the scanner's core.
#[derive(Debug, Parser)]
struct Arguments {
    /// Memory of the simulated machine in GiB; its struct page array takes 1/64 of that
    #[arg(long, default_value_t = 64)]
    memory: u64,
    /// Workloads of the simulated machines
    #[arg(long, value_enum, default_values = ["crowded", "busy", "mixed", "idle", "booted"])]
    profile: Vec<Profile>,
    /// Kernel generation
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// Number of measurements; the table has medians
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure the loops over pages and bitmaps instead of scans
    #[arg(long)]
    loops: bool,
}

fn main() {
    let arguments = Arguments::parse();
    if arguments.loops {
        return loops(arguments.rounds);
    }
    let generation =
        KernelGeneration::named(&arguments.kernel).expect("a generation that `cdbitmap synth --list` names");
    let memory = arguments.memory << 30;
    let mut room = Room::new(MachineInMemory::array_size(memory));
    println!(
        "machine of {} GiB, Linux {}, one core, medians of {}",
        arguments.memory, generation.release, arguments.rounds
    );
    println!(
        "{:<9} {:>10} {:>9} {:>9} {:>8} {:>9} {:>8} {:>9}",
        "profile", "frames", "read s", "scan s", "ns/page", "of read", "in use", "seal s"
    );
    for profile in &arguments.profile {
        let spec = Spec {
            profile: *profile,
            memory,
            hotplug: false,
            edge_cases: false,
            ..Spec::with_everything(generation, memory)
        };
        let machine = MachineInMemory::new(&spec, &mut room);
        measure(&machine, &format!("{profile:?}").to_lowercase(), arguments.rounds);
    }
}

fn measure(memory: &MachineInMemory<'_>, name: &str, rounds: usize) {
    let machine = Machine::new(memory, RuleSet::Makedumpfile).expect("the simulated kernel is known");
    let all = PfnRange::new(Pfn::new(0), Pfn::new(machine.frames));
    let rules = Rules::new(&machine.layout, DumpLevel::all(), machine.rule_set);
    let mut words = vec![u64::MAX; machine.frames.div_ceil(64) as usize];
    // As many bytes as the bitmap has.
    let bytes = vec![0xa5; words.len() * 8];
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut blocks = Vec::new();
    let mut scan = |ranges: &[PfnRange]| {
        words.fill(u64::MAX);
        let mut free = 0;
        let time = seconds(|| {
            let mut tally = Tally::default();
            let bitmap = Bitmap::new(all, &mut words).expect("a bit for each frame");
            let mut recorder = BitmapRecorder::new(bitmap, &mut tally);
            Scan::new(rules, &machine.sections, ranges).run(
                memory,
                all.end,
                &mut scratch,
                &mut recorder,
                &mut RunToCompletion,
            );
            free = tally.counters.get(PageClass::Free);
        });
        (time, free)
    };
    let ranges = memory.facts().backed.as_slice();
    let (mut read, mut whole, mut seal) = (Vec::new(), Vec::new(), Vec::new());
    let mut free = 0;
    for _ in 0..rounds {
        read.push(read_lines(memory.array()));
        let time;
        (time, free) = scan(ranges);
        whole.push(time);
        seal.push(seconds(|| {
            black_box(crc32c(&bytes));
        }));
    }
    let (read, whole, seal) = (median(read), median(whole), median(seal));
    let frames = ranges.iter().map(|r| r.len()).sum::<u64>();
    let line = |name: &str, frames: u64, time: f64, in_use: f64| {
        println!(
            "{name:<9} {frames:>10} {read:>9.4} {time:>9.4} {:>8.3} {:>9.2} {:>7.2}% {seal:>9.4}",
            time / frames as f64 * 1e9,
            read / time,
            in_use * 100.0,
        );
    };
    line(name, frames, whole, 1.0 - free as f64 / frames as f64);
    // Only the memory in free blocks of the largest order.
    let mut sink = FreeBlocks(&mut blocks);
    let mut scratch = vec![0; SCRATCH_BYTES];
    Scan::new(rules, &machine.sections, ranges).run(
        memory,
        all.end,
        &mut scratch,
        &mut sink,
        &mut RunToCompletion,
    );
    let frames = blocks.iter().map(|r| r.len()).sum::<u64>();
    if frames > machine.frames / 2 {
        let (mut alone, mut strides) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            // Evicts the `struct page`s that were just read from the caches.
            black_box(read_lines(memory.array()));
            alone.push(scan(&blocks).0);
            black_box(read_lines(memory.array()));
            strides.push(read_first_lines(memory.array()));
        }
        line("  free", frames, median(alone), 0.0);
        // Relative to all pages, since the strides cover the whole array.
        line("  stride", memory.array().len() as u64 / 64, median(strides), 0.0);
    }
}

/// Time in seconds in which one core reads one word for each block of the largest order.
fn read_first_lines(array: &[u8]) -> f64 {
    seconds(|| {
        let blocks = array.chunks_exact(1024 * 64);
        black_box(blocks.fold(0_u64, |sum, block| sum.wrapping_add(first_word(block))));
    })
}

/// An observer that collects free memory in blocks of the largest order.
struct FreeBlocks<'r>(&'r mut Vec<PfnRange>);

impl Observer for FreeBlocks<'_> {
    fn exclude(&mut self, frames: PfnRange, class: PageClass) {
        if class != PageClass::Free || frames.len() < 1024 {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.end == frames.start => last.end = frames.end,
            _ => self.0.push(frames),
        }
    }
}

/// Time in seconds in which one core reads one word of each cache line. Measured with one sum and with eight
/// independent sums; the smaller time counts.
fn read_lines(bytes: &[u8]) -> f64 {
    let one = seconds(|| {
        black_box(touch(bytes));
    });
    let (lines, _) = bytes.as_chunks::<64>();
    let eight = seconds(|| {
        let mut sums = [0_u64; 8];
        for lines in lines.as_chunks::<8>().0 {
            for (sum, line) in sums.iter_mut().zip(lines) {
                *sum = sum.wrapping_add(first_word(line));
            }
        }
        black_box(sums);
    });
    one.min(eight)
}

/// Measures the loops over pages and bitmaps, and reading one word of each cache line of the same number of bytes.
fn loops(rounds: usize) {
    let mut bytes = vec![0_u8; LOOP_BYTES];
    // Writing allocates a physical page for each page; otherwise all would map the shared zero page.
    bytes.iter_mut().step_by(64).for_each(|byte| *black_box(byte) = 0);
    let mut one = FrameBitmap::ones(LOOP_BYTES as u64 * 4);
    let other = FrameBitmap::ones(LOOP_BYTES as u64 * 4);
    let mut times: [Vec<f64>; 5] = Default::default();
    for _ in 0..rounds {
        times[0].push(read_lines(&bytes));
        times[1].push(seconds(|| assert!(bytes.as_chunks::<PAGE_SIZE>().0.iter().all(is_zero))));
        times[2].push(seconds(|| {
            black_box(crc32c(black_box(&bytes)));
        }));
        times[3].push(seconds(|| read_two_write_one(black_box(one.words_mut()), black_box(other.words()))));
        times[4].push(seconds(|| one.intersect(black_box(&other))));
    }
    let times = times.map(median);
    println!("{LOOP_BYTES} bytes, one core, medians of {rounds}");
    println!("{:<28} {:>9} {:>9} {:>9}", "loop", "s", "GB/s", "of limit");
    let names = ["read", "zero-page-test", "checksum", "read-two-write-one", "AND-of-two-bitmaps"];
    for ((name, time), limit) in names.iter().zip(times).zip([0, 0, 0, 3, 3]) {
        println!(
            "{name:<28} {time:>9.4} {:>9.1} {:>9.2}",
            LOOP_BYTES as f64 / time / 1e9,
            times[limit] / time
        );
    }
}

/// Reads one word of each cache line of both bitmaps and writes one: the memory traffic of a loop that combines two
/// bitmaps, and so its lower bound.
fn read_two_write_one(one: &mut [u64], other: &[u64]) {
    for (one, other) in one.as_chunks_mut::<8>().0.iter_mut().zip(other.as_chunks::<8>().0) {
        one[0] &= other[0];
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}
