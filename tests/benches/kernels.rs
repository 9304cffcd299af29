//! Benchmarks of the innermost loops with data in the processor's caches: `cargo bench -p cross-tests`.

use criterion::{Criterion, Throughput};
use cross_tests::memmap::{MachineInMemory, Room};
use page_filter::machine::Machine;
use scanner_core::crc32c::crc32c;
use scanner_core::scan::{BitmapRecorder, RunToCompletion, SCRATCH_BYTES, Tally};
use scanner_core::{Bitmap, DumpLevel, Pfn, PfnRange, RuleSet, Rules, Scan};
use std::hint::black_box;
use vmcore::frames::{FrameBitmap, FrameRanges};
use vmcore::image::MemoryImage;
use vmcore_synth::{KernelGeneration, Profile, Spec};

/// Memory of a machine whose `struct page` array has 4 MiB.
const MEMORY: u64 = 256 << 20;
/// Size in bytes of the bitmap of a machine with 64 GiB.
const BITMAP: usize = 2 << 20;

fn scans(criterion: &mut Criterion) {
    let mut room = Room::new(MachineInMemory::array_size(MEMORY));
    let generation = KernelGeneration::named("6.12").expect("a generation");
    let mut group = criterion.benchmark_group("scan, by struct page");
    for profile in [Profile::Crowded, Profile::Busy, Profile::Mixed, Profile::Idle] {
        let spec =
            Spec { profile, hotplug: false, edge_cases: false, ..Spec::with_everything(generation, MEMORY) };
        let memory = MachineInMemory::new(&spec, &mut room);
        let machine = Machine::new(&memory, RuleSet::Makedumpfile).expect("the simulated kernel is known");
        let all = PfnRange::new(Pfn::new(0), Pfn::new(machine.frames));
        let rules = Rules::new(&machine.layout, DumpLevel::all(), machine.rule_set);
        let ranges = memory.facts().backed.as_slice();
        let mut bits = FrameBitmap::ones(machine.frames);
        let mut scratch = vec![0; SCRATCH_BYTES];
        group.throughput(Throughput::Elements(memory.facts().backed.count()));
        group.bench_function(format!("{profile:?}"), |bench| {
            bench.iter(|| {
                let words = bits.words_mut();
                words.fill(u64::MAX);
                let mut tally = Tally::default();
                let bitmap = Bitmap::new(all, words).expect("a bit for each frame");
                let mut recorder = BitmapRecorder::new(bitmap, &mut tally);
                Scan::new(rules, &machine.sections, ranges).run(
                    &memory,
                    all.end,
                    &mut scratch,
                    &mut recorder,
                    &mut RunToCompletion,
                );
                tally.counters.total()
            });
        });
    }
}

fn bitmaps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bitmap");
    group.throughput(Throughput::Bytes(BITMAP as u64));
    let bytes = vec![0xa5; BITMAP];
    group.bench_function("checksum", |bench| bench.iter(|| crc32c(black_box(&bytes))));
    let frames = BITMAP as u64 * 8;
    let mut one = FrameBitmap::ones(frames);
    let every = FrameRanges::from_ranges([PfnRange::new(Pfn::new(3), Pfn::new(frames - 3))]);
    let other = FrameBitmap::from_ranges(&every, frames);
    group.bench_function("and", |bench| bench.iter(|| one.intersect(black_box(&other))));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    scans(&mut criterion);
    bitmaps(&mut criterion);
    criterion.final_summary();
}
