//! `bench-core [--memory SIZE] [--profile NAME ...] [--rounds N]`: how fast the scanner's core is on a machine whose
//! array of `struct page` is in memory, beside the speed at which one core can read that memory.

use cdbitmap::image::MemoryImage;
use cdbitmap::machine::Machine;
use cdbitmap::synth::{Generation, Profile, Spec};
use clap::Parser;
use cross_tests::memmap::{MachineInMemory, Room};
use scanner_core::info::crc32c;
use scanner_core::scan::{BitmapSink, SCRATCH_BYTES, Unhurried};
use scanner_core::{Bitmap, DumpLevel, Pfn, PfnRange, RuleSet, Rules, Scan};
use std::hint::black_box;
use std::time::Instant;

/// Measures the scanner's core.
#[derive(Debug, Parser)]
struct Arguments {
    /// Memory of the machine in GiB; its array of struct page takes a 64th of it
    #[arg(long, default_value_t = 64)]
    memory: u64,
    /// What the machines do
    #[arg(long, value_enum, default_values = ["crowded", "busy", "mixed", "idle"])]
    profile: Vec<Profile>,
    /// The kernel's generation
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// How often each is measured; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

fn main() {
    let arguments = Arguments::parse();
    let generation =
        Generation::named(&arguments.kernel).expect("a generation that `cdbitmap synth --list` names");
    let memory = arguments.memory << 30;
    let mut room = Room::new(MachineInMemory::array_size(memory));
    println!(
        "machine of {} GiB, Linux {}, one core, medians of {}",
        arguments.memory, generation.release, arguments.rounds
    );
    println!(
        "{:<9} {:>10} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9} {:>9}",
        "profile", "frames", "read s", "scan s", "GB/s", "ns/page", "of read", "seal s", "excluded"
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
    let machine = Machine::new(memory, RuleSet::Makedumpfile).expect("the machine is understood");
    let all = PfnRange::new(Pfn::new(0), Pfn::new(machine.frames));
    let rules = Rules::new(&machine.layout, DumpLevel::all(), machine.rule_set);
    let ranges = memory.facts().backed.as_slice();
    let mut words = vec![u64::MAX; machine.frames.div_ceil(64) as usize];
    // As many bytes as the bitmap has.
    let bytes = vec![0xa5; words.len() * 8];
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut excluded = 0;
    let (mut read, mut scan, mut seal) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        read.push(seconds(|| {
            black_box(read_lines(memory.array()));
        }));
        words.fill(u64::MAX);
        scan.push(seconds(|| {
            let mut chunks = [&mut words[..]];
            let mut bitmap = Bitmap::new(all, 63, &mut chunks).expect("one chunk for all");
            let mut sink = BitmapSink::new(&mut bitmap);
            Scan::new(rules, &machine.sections, ranges).run(
                memory,
                all.end,
                &mut scratch,
                &mut sink,
                &mut Unhurried,
            );
            excluded = sink.counters.total();
        }));
        seal.push(seconds(|| {
            black_box(crc32c(&bytes));
        }));
    }
    let (read, scan, seal) = (median(read), median(scan), median(seal));
    let frames = ranges.iter().map(|r| r.len()).sum::<u64>() as f64;
    println!(
        "{name:<9} {frames:>10} {read:>9.4} {scan:>9.4} {:>9.2} {:>8.2} {:>9.2} {seal:>9.4} {excluded:>9}",
        frames * 64.0 / scan / 1e9,
        scan / frames * 1e9,
        read / scan,
    );
}

/// Touches one word of each cache line, as fast as one core can.
fn read_lines(bytes: &[u8]) -> u64 {
    let (lines, _) = bytes.as_chunks::<64>();
    lines.iter().fold(0, |sum, line| {
        line.first_chunk().map_or(sum, |word| sum.wrapping_add(u64::from_le_bytes(*word)))
    })
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
