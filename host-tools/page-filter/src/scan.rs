//! Scanning a machine on a host: into a whole bitmap, or window by window.

mod threads;

use crate::machine::Machine;
use scanner_core::bitmap::runs_of;
use scanner_core::kernel::layout::FreePages;
use scanner_core::memmap::free_lists::{FreeBlockVisitor, FreeListError, FreeLists, walk_free_lists};
use scanner_core::memmap::sections::{Lookup, SectionError};
use scanner_core::rules::{FramesByClass, runs_by_class};
use scanner_core::scan::{Checkpoint, Observer, Outcome, RunToCompletion, SCRATCH_BYTES};
use scanner_core::{Bitmap, Counters, DumpLevel, PageClass, Pfn, PfnRange, Rules, Scan};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use vmcore::Result;
use vmcore::filter::FrameFilter;
use vmcore::frames::{FrameBitmap, FrameRanges};

/// What a scan found.
#[derive(Clone, Debug, Default)]
pub struct ScanFindings {
    /// Pages left out, per class.
    pub counters: Counters,
    /// Frames kept because their `struct page`s can't be read, and why; at most [`ScanFindings::MAX_UNREADABLE`] places.
    pub unreadable: Vec<(PfnRange, SectionError)>,
    /// How many frames that are in all.
    pub unreadable_frames: u64,
    /// Pages kept because they are marked free with an order that no free block has.
    pub bad_orders: u64,
    /// Free lists that could not be followed to their end, and why: the free blocks behind are kept. Only for kernels
    /// whose `struct page` doesn't tell free pages.
    pub broken_free_lists: Vec<(FreeLists, FreeListError)>,
    /// What the scan took.
    pub time: Duration,
    /// The first frame that is not decided.
    pub scanned_up_to: Pfn,
    /// Whether the scan came to its end.
    pub complete: bool,
}

impl ScanFindings {
    /// Unreadable places that are remembered one by one.
    pub const MAX_UNREADABLE: usize = 1000;

    /// Takes in what was found in the frames behind.
    fn add(&mut self, behind: &Self) {
        for class in PageClass::ALL {
            self.counters.add(class, behind.counters.get(class));
        }
        let counted: u64 = behind.unreadable.iter().map(|(frames, _)| frames.len()).sum();
        for (frames, error) in &behind.unreadable {
            note_unreadable(self, *frames, *error);
        }
        // Those whose places are not remembered.
        self.unreadable_frames += behind.unreadable_frames.saturating_sub(counted);
        self.bad_orders += behind.bad_orders;
    }
}

/// Notes that the `struct page`s of `frames` can't be read.
fn note_unreadable(findings: &mut ScanFindings, frames: PfnRange, error: SectionError) {
    findings.unreadable_frames += frames.len();
    let places = &mut findings.unreadable;
    if let Some((last, _)) = places.last_mut()
        && last.end == frames.start
    {
        last.end = frames.end;
    } else if places.len() < ScanFindings::MAX_UNREADABLE {
        places.push((frames, error));
    }
}

/// A bitmap over all frames of a machine, and what was found on the way.
#[derive(Clone, Debug)]
pub struct ScannedBitmap {
    /// 1 for "dump it"; frames that don't exist have a 1.
    pub bitmap: FrameBitmap,
    /// What was found.
    pub findings: ScanFindings,
}

/// Scans the whole of `machine` at `level`; `checkpoint` is told how far it has come, and can stop it: frames that are not
/// decided yet are then kept.
pub fn scan(machine: &Machine<'_>, level: DumpLevel, checkpoint: &mut dyn Checkpoint) -> ScannedBitmap {
    scan_in_threads(machine, level, 1, checkpoint)
}

/// [`scan`] by `threads` threads, with the same result.
pub fn scan_in_threads(
    machine: &Machine<'_>,
    level: DumpLevel,
    threads: usize,
    checkpoint: &mut dyn Checkpoint,
) -> ScannedBitmap {
    let mut scan = WindowScan::new(machine, level).with_threads(threads);
    let all = PfnRange::new(Pfn::new(0), Pfn::new(machine.frames));
    let bitmap = FrameBitmap::made_by(machine.frames, |words| {
        scan.run_as(Before::Unset, all, words, checkpoint);
    });
    ScannedBitmap { bitmap, findings: scan.findings }
}

/// What the bits of a window are before it is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// They say which frames count.
    Given,
    /// They say nothing, and all frames count: bits are set piece by piece, by whoever scans it. The first touch of memory
    /// takes the kernel longer than setting the bits, and so threads share that.
    Unset,
}

/// A scan that goes over the machine window by window, so that only a window's bits need memory.
#[derive(Debug)]
pub struct WindowScan<'m> {
    scan: Option<Scan<'m>>,
    machine: &'m Machine<'m>,
    scratch: Vec<u8>,
    /// Free pages that only the free lists tell of. Lists come in no order of frames, so they are followed once for
    /// all windows: this takes memory in proportion to the number of free blocks, as no other part of a scan does.
    free_blocks: FrameRanges,
    /// Excluded frames that the last window has cut off.
    carried: Option<(PfnRange, PageClass)>,
    findings: ScanFindings,
    rules: Rules,
    threads: usize,
}

impl<'m> WindowScan<'m> {
    /// A scan of `machine` at `level`, before its first window.
    pub fn new(machine: &'m Machine<'m>, level: DumpLevel) -> Self {
        Self::starting_at(machine, level, Pfn::new(0))
    }

    /// A scan that has to decide about the frames from `first` on. It starts before, so that no block or huge page
    /// that `first` is within goes unseen. Its first window has to have `first`.
    pub fn starting_at(machine: &'m Machine<'m>, level: DumpLevel, first: Pfn) -> Self {
        /// Frames of the largest page there is, 1 GiB.
        const LARGEST: u64 = 1 << 18;
        let largest = Pfn::new(first.as_u64() / LARGEST * LARGEST);
        let start = match machine.sections.lookup(machine.image, largest) {
            Some(Lookup::Present(section)) => section.frames.start,
            _ => largest,
        };
        let rules = Rules::new(&machine.layout, level, machine.rule_set);
        let scan = rules.need_scan().then(|| scan_from(machine, rules, start));
        let mut findings = ScanFindings::default();
        let by_lists = level.contains(DumpLevel::FREE) && machine.layout.free == FreePages::FreeLists;
        let free_blocks =
            if by_lists { follow_free_lists(machine, &mut findings) } else { FrameRanges::default() };
        let scratch = vec![0; SCRATCH_BYTES];
        Self { scan, machine, scratch, free_blocks, carried: None, findings, rules, threads: 1 }
    }

    /// The same scan by this many threads, at least one, as far as [`run`](Self::run) is what is called.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Clears in `keep` the bits of the frames of `window` that can be left out. Bit 0 of the first word is the
    /// window's first frame. Windows follow one another. `false` if `checkpoint` has stopped it.
    pub fn run(&mut self, window: PfnRange, keep: &mut [u64], checkpoint: &mut dyn Checkpoint) -> bool {
        self.run_as(Before::Given, window, keep, checkpoint)
    }

    /// [`run`](Self::run), of bits that are as `before` says.
    fn run_as(
        &mut self,
        before: Before,
        window: PfnRange,
        keep: &mut [u64],
        checkpoint: &mut dyn Checkpoint,
    ) -> bool {
        let start = Instant::now();
        // Pieces have words of their own.
        let in_words =
            window.start.as_u64().is_multiple_of(64) && keep.len() as u64 >= window.len().div_ceil(64);
        if (self.threads > 1 || before == Before::Unset)
            && in_words
            && !window.is_empty()
            && let Some(scan) = self.scan.take()
        {
            let reached = self.run_pieces(scan, window, keep, before, checkpoint);
            let Ok(mut bitmap) = Bitmap::new(window, keep) else { return false };
            return self.end_window(&mut bitmap, reached, start);
        }
        if before == Before::Unset {
            keep.fill(u64::MAX);
        }
        let Ok(mut bitmap) = Bitmap::new(window, keep) else { return false };
        self.run_into(&mut bitmap, checkpoint)
    }

    /// Tells `target` which frames of its window can be left out. Windows follow one another. `false` if `checkpoint` has
    /// stopped it.
    pub fn run_into(&mut self, target: &mut dyn WindowTarget, checkpoint: &mut dyn Checkpoint) -> bool {
        let start = Instant::now();
        let window = target.window();
        let mut observer = WindowObserver { target, carried: None, findings: &mut self.findings };
        if let Some((frames, class)) = self.carried.take() {
            observer.exclude(frames, class);
        }
        let reached = self.scan.as_mut().is_none_or(|scan| {
            scan.run(self.machine.image, window.end, &mut self.scratch, &mut observer, checkpoint)
                == Outcome::Completed
        });
        self.carried = observer.carried.take();
        self.end_window(target, reached, start)
    }

    /// Ends the window of `target`, whose scan came to its end if `reached`.
    fn end_window(&mut self, target: &mut dyn WindowTarget, reached: bool, start: Instant) -> bool {
        let window = target.window();
        if reached {
            for frames in self.free_blocks.within(window) {
                self.findings.counters.add(PageClass::Free, target.exclude(frames, PageClass::Free));
            }
        }
        self.findings.scanned_up_to = match &self.scan {
            Some(scan) if !reached => scan.next(),
            _ => window.end,
        };
        self.findings.complete = reached;
        self.findings.time += start.elapsed();
        reached
    }

    /// What was found in the windows so far.
    pub fn findings(&self) -> &ScanFindings {
        &self.findings
    }
}

/// A scan that starts where a section does.
fn scan_from<'m>(machine: &'m Machine<'m>, rules: Rules, first: Pfn) -> Scan<'m> {
    Scan::starting_at(rules, &machine.sections, machine.image.facts().backed.as_slice(), first)
}

impl FrameFilter for WindowScan<'_> {
    fn filter(&mut self, window: PfnRange, keep: &mut [u64]) -> Result<()> {
        self.run(window, keep, &mut RunToCompletion);
        Ok(())
    }
}

/// What a [`WindowScan`] leaves its decisions in: a bitmap, or the classes themselves.
pub trait WindowTarget {
    /// The frames that are asked about.
    fn window(&self) -> PfnRange;

    /// `frames` can be left out, as far as they are in the window. Returns how many could not before.
    fn exclude(&mut self, frames: PfnRange, class: PageClass) -> u64;

    /// Of the 64 frames from `first` on those can be left out whose bit of `which` is set. Returns how many could not
    /// before.
    fn exclude_masked(&mut self, first: Pfn, which: u64, class: PageClass) -> u64 {
        runs_of(first, which).map(|frames| self.exclude(frames, class)).sum()
    }

    /// The `struct page`s of `frames` can't be read.
    fn unreadable(&mut self, frames: PfnRange) {
        let _ = frames;
    }
}

impl WindowTarget for Bitmap<'_> {
    fn window(&self) -> PfnRange {
        self.frames()
    }

    fn exclude(&mut self, frames: PfnRange, _: PageClass) -> u64 {
        self.clear(frames)
    }

    fn exclude_masked(&mut self, first: Pfn, which: u64, _: PageClass) -> u64 {
        self.clear_masked(first, which)
    }
}

struct WindowObserver<'f> {
    target: &'f mut dyn WindowTarget,
    carried: Option<(PfnRange, PageClass)>,
    findings: &'f mut ScanFindings,
}

impl Observer for WindowObserver<'_> {
    fn exclude(&mut self, frames: PfnRange, class: PageClass) {
        self.findings.counters.add(class, self.target.exclude(frames, class));
        let window_end = self.target.window().end;
        // Of several ranges that reach behind the window the longest tells all.
        if frames.end > window_end && self.carried.is_none_or(|(c, _)| c.end < frames.end) {
            self.carried = Some((PfnRange::new(window_end.max(frames.start), frames.end), class));
        }
    }

    fn exclude_masked(&mut self, first: Pfn, which: &FramesByClass) {
        let window_end = self.target.window().end;
        if window_end.frames_since(first) < 64 {
            return runs_by_class(first, which).for_each(|(frames, class)| self.exclude(frames, class));
        }
        for (class, which) in PageClass::ALL.iter().zip(which).filter(|(_, which)| **which != 0) {
            self.findings.counters.add(*class, self.target.exclude_masked(first, *which, *class));
        }
    }

    fn unreadable(&mut self, frames: PfnRange, error: SectionError) {
        self.target.unreadable(frames);
        note_unreadable(self.findings, frames, error);
    }

    fn bad_order(&mut self, _: Pfn) {
        self.findings.bad_orders += 1;
    }
}

/// The free blocks that the zones' free lists have.
fn follow_free_lists(machine: &Machine<'_>, findings: &mut ScanFindings) -> FrameRanges {
    #[derive(Default)]
    struct Blocks {
        frames: Vec<PfnRange>,
        broken: Vec<(FreeLists, FreeListError)>,
    }
    impl FreeBlockVisitor for Blocks {
        fn free_block(&mut self, frames: PfnRange) -> ControlFlow<()> {
            self.frames.push(frames);
            ControlFlow::Continue(())
        }

        fn broken_lists(&mut self, lists: FreeLists, error: FreeListError) {
            self.broken.push((lists, error));
        }
    }
    let start = Instant::now();
    let mut blocks = Blocks::default();
    let _ = walk_free_lists(&machine.layout, &machine.sections, machine.image, &mut blocks);
    findings.broken_free_lists = blocks.broken;
    let frames = FrameRanges::from_ranges(blocks.frames);
    findings.time += start.elapsed();
    frames
}
