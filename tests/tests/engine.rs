//! The scan engine: stopped and resumed, in windows, on several threads, with little scratch memory, with unreadable
//! memory.

use cross_tests::fixture::Fixture;
use cross_tests::synth::file;
use page_filter::machine::Machine;
use page_filter::scan::{WindowScan, scan, scan_in_threads};
use scanner_core::scan::{
    BitmapRecorder, CHECKPOINT_FRAMES, Checkpoint, Outcome, RunToCompletion, SCRATCH_BYTES, Tally,
};
use scanner_core::{
    Bitmap, Counters, DumpLevel, Pfn, PfnRange, PhysAddr, PhysicalMemory, RuleSet, Rules, Scan, Unreadable,
};
use std::ops::ControlFlow;
use vmcore::frames::FrameBitmap;
use vmcore::image::{MemoryImage, OpenOptions, open};
use vmcore_synth::{Fault, KernelGeneration, Profile, Spec};

/// A machine with pages of all orders, and one whose hugetlb pages have an optimised memory map (HVO).
const FIXTURES: [&str; 2] = ["6.1-numa", "6.12-hvo"];

fn with_machine(name: &str, check: impl FnOnce(&Machine<'_>)) {
    let fixture = Fixture::unpack(name);
    let image = open(fixture.path(), &OpenOptions::default()).expect("the fixture opens");
    check(&Machine::new(&*image, RuleSet::Makedumpfile).expect("the machine is understood"));
}

/// The bitmap and the counters of a scan of `machine` through `memory`.
fn scan_through(
    machine: &Machine<'_>,
    memory: &dyn PhysicalMemory,
    scratch: usize,
    mut on_stop: impl FnMut(&[u64]),
    checkpoint: &mut dyn Checkpoint,
) -> (FrameBitmap, Counters, u64) {
    let mut bits = FrameBitmap::ones(machine.frames);
    let all = PfnRange::new(Pfn::new(0), Pfn::new(machine.frames));
    let rules = Rules::new(&machine.layout, DumpLevel::all(), machine.rule_set);
    let mut scan = Scan::new(rules, &machine.sections, machine.image.facts().backed.as_slice());
    let mut scratch = vec![0; scratch];
    let mut tally = Tally::default();
    loop {
        let bitmap = Bitmap::new(all, bits.words_mut()).expect("a bit for each frame");
        let mut recorder = BitmapRecorder::new(bitmap, &mut tally);
        let outcome = scan.run(memory, all.end, &mut scratch, &mut recorder, checkpoint);
        if outcome == Outcome::Completed {
            return (bits, tally.counters, tally.unreadable);
        }
        on_stop(bits.words());
    }
}

/// A checkpoint that stops the scan at every second call, so that each run makes progress.
struct Fitful(bool);

impl Checkpoint for Fitful {
    fn check(&mut self, _: Pfn) -> ControlFlow<()> {
        self.0 = !self.0;
        if self.0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

#[test]
fn a_stopped_scan_keeps_a_superset_and_resumes() {
    for name in FIXTURES {
        with_machine(name, |machine| {
            let whole = scan(machine, DumpLevel::all(), &mut RunToCompletion);
            let mut stops = 0;
            let superset = |words: &[u64]| {
                stops += 1;
                assert!(words.iter().zip(whole.bitmap.words()).all(|(now, end)| now & end == *end));
            };
            let (bits, counters, _) =
                scan_through(machine, machine.image, SCRATCH_BYTES, superset, &mut Fitful(false));
            assert!(
                stops > machine.image.facts().backed.count() / CHECKPOINT_FRAMES / 20,
                "{name}: {stops} stops"
            );
            assert_eq!(bits, whole.bitmap, "{name}");
            assert_eq!(counters, whole.findings.counters, "{name}");
        });
    }
}

#[test]
fn windows_give_the_same_as_a_whole_scan() {
    for name in FIXTURES {
        with_machine(name, |machine| {
            let whole = scan(machine, DumpLevel::all(), &mut RunToCompletion);
            for size in [64, 4096, 99_968] {
                let mut scan = WindowScan::new(machine, DumpLevel::all());
                let mut words = Vec::new();
                for start in (0..machine.frames).step_by(size) {
                    let end = (start + size as u64).min(machine.frames);
                    let window = PfnRange::new(Pfn::new(start), Pfn::new(end));
                    let mut keep = FrameBitmap::ones(end - start);
                    assert!(scan.run(window, keep.words_mut(), &mut RunToCompletion));
                    words.extend_from_slice(keep.words());
                }
                assert!(words == whole.bitmap.words(), "{name}, windows of {size} frames");
                assert_eq!(
                    scan.findings().counters,
                    whole.findings.counters,
                    "{name}, windows of {size} frames"
                );
            }
        });
    }
}

/// Several threads must give the same result as one, also for blocks that cross the borders of their ranges.
fn compare_threads(machine: &Machine<'_>, what: &str) {
    let one = scan(machine, DumpLevel::all(), &mut RunToCompletion);
    for threads in [2, 3] {
        let many = scan_in_threads(machine, DumpLevel::all(), threads, &mut RunToCompletion);
        assert!(many.bitmap == one.bitmap, "{what}, {threads} threads: the bits");
        assert_eq!(many.findings.counters, one.findings.counters, "{what}, {threads} threads");
        assert_eq!(many.findings.unreadable, one.findings.unreadable, "{what}, {threads} threads");
        assert_eq!(many.findings.unreadable_frames, one.findings.unreadable_frames, "{what}");
        assert_eq!(many.findings.bad_orders, one.findings.bad_orders, "{what}, {threads} threads");
        assert!(
            many.findings.complete && many.findings.scanned_up_to == one.findings.scanned_up_to,
            "{what}"
        );
        let mut scan = WindowScan::new(machine, DumpLevel::all()).with_threads(threads);
        let mut words = Vec::new();
        for start in (0..machine.frames).step_by(400_000) {
            let window = PfnRange::new(Pfn::new(start), Pfn::new((start + 400_000).min(machine.frames)));
            let mut keep = FrameBitmap::ones(window.len());
            assert!(scan.run(window, keep.words_mut(), &mut RunToCompletion));
            words.extend_from_slice(keep.words());
        }
        assert!(words == one.bitmap.words(), "{what}, {threads} threads in windows");
        assert_eq!(scan.findings().counters, one.findings.counters, "{what}, {threads} threads in windows");
    }
}

#[test]
fn several_threads_give_the_same_as_one() {
    for name in FIXTURES {
        with_machine(name, |machine| compare_threads(machine, name));
    }
    let generation = KernelGeneration::named("6.12").expect("a generation");
    for (memory, profile, faults) in [
        (5 << 30, Profile::Busy, vec![]),
        (2 << 30, Profile::Mixed, vec![Fault::UnmappedVmemmap, Fault::SectionOutside]),
        (1 << 30, Profile::Crowded, vec![Fault::VmemmapOutside]),
    ] {
        let spec = Spec { profile, faults, ..Spec::with_everything(generation, memory) };
        let (file, _) = file(&spec);
        let image = open(file.path(), &OpenOptions::default()).expect("a simulated machine opens");
        let machine = Machine::new(&*image, RuleSet::Makedumpfile).expect("the machine is understood");
        compare_threads(&machine, &format!("{profile:?}"));
    }
}

#[test]
fn stopped_threads_leave_a_superset() {
    struct Early(u32);
    impl Checkpoint for Early {
        fn check(&mut self, _: Pfn) -> ControlFlow<()> {
            self.0 = self.0.saturating_sub(1);
            if self.0 > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
    }
    with_machine(FIXTURES[0], |machine| {
        let whole = scan(machine, DumpLevel::all(), &mut RunToCompletion);
        for questions in [1, 2, 20] {
            let some = scan_in_threads(machine, DumpLevel::all(), 2, &mut Early(questions));
            let end = some.findings.scanned_up_to;
            // The other thread may finish before the first checkpoint.
            assert_eq!(some.findings.complete, end.as_u64() == machine.frames, "stopped at {end}");
            for pfn in (0..machine.frames).map(Pfn::new) {
                let expected = whole.bitmap.get(pfn) || pfn >= end && some.bitmap.get(pfn);
                assert_eq!(some.bitmap.get(pfn), expected, "frame {pfn}");
            }
        }
    });
}

/// An image without views, which cannot be read within `hole`.
struct Reluctant<'i> {
    image: &'i dyn MemoryImage,
    hole: PfnRange,
}

impl PhysicalMemory for Reluctant<'_> {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        let end = PhysAddr::new(addr.as_u64() + buf.len() as u64).pfn_ceil();
        let lost = self.hole.intersection(PfnRange::new(addr.pfn(), end));
        if !lost.is_empty() {
            return Err(Unreadable { addr: lost.start.addr() });
        }
        self.image.read(addr, buf)
    }
}

#[test]
fn the_size_of_scratch_memory_does_not_change_the_result() {
    let none = PfnRange::default();
    for name in FIXTURES {
        with_machine(name, |machine| {
            let whole = scan(machine, DumpLevel::all(), &mut RunToCompletion);
            let memory = Reluctant { image: machine.image, hole: none };
            for scratch in [128, 200, 4096, SCRATCH_BYTES, 3 * SCRATCH_BYTES] {
                let (bits, counters, unreadable) =
                    scan_through(machine, &memory, scratch, |_| {}, &mut RunToCompletion);
                assert_eq!(bits, whole.bitmap, "{name}, {scratch} bytes of scratch memory");
                assert_eq!((counters, unreadable), (whole.findings.counters, 0), "{name}");
            }
        });
    }
}

#[test]
fn unreadable_struct_pages_keep_only_their_own_pages() {
    with_machine("6.1-numa", |machine| {
        let whole = scan(machine, DumpLevel::all(), &mut RunToCompletion);
        // The struct pages of the second section: 2 MiB, without a page at each end.
        let section = Pfn::new(32768);
        let found = machine.sections.lookup(machine.image, section).expect("a second section");
        let scanner_core::memmap::sections::Lookup::Present(found) = found else { panic!("{found:?}") };
        let piece = machine.layout.space.translate(machine.image, found.mem_map).expect("a mapped array");
        let hole = PfnRange::from_start(piece.phys.pfn().saturating_add(1), 8);
        let memory = Reluctant { image: machine.image, hole };
        let (bits, _, unreadable) =
            scan_through(machine, &memory, SCRATCH_BYTES, |_| {}, &mut RunToCompletion);
        // A block of 512 frames is 8 pages of struct pages: the hole touches two blocks.
        assert_eq!(unreadable, 1024);
        let lost = PfnRange::from_start(section, 1024);
        for pfn in 0..machine.frames {
            let pfn = Pfn::new(pfn);
            let expected = whole.bitmap.get(pfn) || lost.contains(pfn);
            assert_eq!(bits.get(pfn), expected, "frame {pfn}");
        }
    });
}
