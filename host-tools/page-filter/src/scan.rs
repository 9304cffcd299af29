//! Scans a machine on a host: into a whole bitmap, or window by window.

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

/// What a scan found, apart from the bitmap.
#[derive(Clone, Debug, Default)]
pub struct ScanFindings {
    /// Excluded pages, per class.
    pub counters: Counters,
    /// Ranges of frames that the scan keeps because it cannot read their `struct page`s, with the error. At most
    /// [`ScanFindings::MAX_UNREADABLE`] ranges.
    pub unreadable: Vec<(PfnRange, SectionError)>,
    /// Number of all frames whose `struct page`s cannot be read.
    pub unreadable_frames: u64,
    /// Pages that are kept because they are marked free with an impossible order.
    pub bad_orders: u64,
    /// Free lists that the scan could not follow to their end, with the error. It keeps the free blocks after the
    /// error. Only for kernels whose `struct page` does not mark free pages.
    pub broken_free_lists: Vec<(FreeLists, FreeListError)>,
    /// Duration of the scan.
    pub time: Duration,
    /// The first undecided frame.
    pub scanned_up_to: Pfn,
    /// Whether the scan completed.
    pub complete: bool,
}

impl ScanFindings {
    /// Maximum number of recorded unreadable ranges.
    pub const MAX_UNREADABLE: usize = 1000;

    /// Adds the findings in the following frames.
    fn add(&mut self, following: &Self) {
        for class in PageClass::ALL {
            self.counters.add(class, following.counters.get(class));
        }
        let recorded: u64 = following.unreadable.iter().map(|(frames, _)| frames.len()).sum();
        for (frames, error) in &following.unreadable {
            record_unreadable(self, *frames, *error);
        }
        // Frames above MAX_UNREADABLE are counted but not recorded.
        self.unreadable_frames += following.unreadable_frames.saturating_sub(recorded);
        self.bad_orders += following.bad_orders;
    }
}

/// Records that the `struct page`s of `frames` cannot be read.
fn record_unreadable(findings: &mut ScanFindings, frames: PfnRange, error: SectionError) {
    findings.unreadable_frames += frames.len();
    let ranges = &mut findings.unreadable;
    if let Some((last, _)) = ranges.last_mut()
        && last.end == frames.start
    {
        last.end = frames.end;
    } else if ranges.len() < ScanFindings::MAX_UNREADABLE {
        ranges.push((frames, error));
    }
}

/// A bitmap over all frames of a machine, and the findings of the scan.
#[derive(Clone, Debug)]
pub struct ScannedBitmap {
    /// One bit a frame: 1 for a page to dump. The bits of frames that do not exist are 1.
    pub bitmap: FrameBitmap,
    /// The findings.
    pub findings: ScanFindings,
}

/// Scans all frames of `machine` at `level`. `checkpoint` is called with the progress and can stop the scan, which then
/// keeps the undecided frames.
pub fn scan(machine: &Machine<'_>, level: DumpLevel, checkpoint: &mut dyn Checkpoint) -> ScannedBitmap {
    scan_in_threads(machine, level, 1, checkpoint)
}

/// Does what [`scan`] does with `threads` threads. The result is the same.
pub fn scan_in_threads(
    machine: &Machine<'_>,
    level: DumpLevel,
    threads: usize,
    checkpoint: &mut dyn Checkpoint,
) -> ScannedBitmap {
    let mut scan = WindowScan::new(machine, level).with_threads(threads);
    let all = PfnRange::new(Pfn::new(0), Pfn::new(machine.frames));
    let bitmap = FrameBitmap::made_by(machine.frames, |words| {
        scan.run_with(InitialBits::Unset, all, words, checkpoint);
    });
    ScannedBitmap { bitmap, findings: scan.findings }
}

/// The bits of a window before its scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InitialBits {
    /// The caller has set the bits of the frames to decide about.
    Given,
    /// The bits have no meaning, and the scan decides about all frames. Each thread sets the bits of the pieces that it
    /// scans: the first access to a page of memory (a page fault) takes longer than setting its bits, so the threads
    /// share that work.
    Unset,
}

/// A scan of a machine window by window. Only the bits of one window need memory.
#[derive(Debug)]
pub struct WindowScan<'m> {
    scan: Option<Scan<'m>>,
    machine: &'m Machine<'m>,
    scratch: Vec<u8>,
    /// Free pages that only the free lists show. The lists are not sorted by frame, so the scan follows them once for
    /// all windows. Only this part of a scan needs memory in proportion to the number of free blocks.
    free_blocks: FrameRanges,
    /// The part of an excluded range after the end of the previous window.
    carried: Option<(PfnRange, PageClass)>,
    findings: ScanFindings,
    rules: Rules,
    threads: usize,
}

impl<'m> WindowScan<'m> {
    /// Creates a scan of all frames of `machine` at `level`.
    pub fn new(machine: &'m Machine<'m>, level: DumpLevel) -> Self {
        Self::starting_at(machine, level, Pfn::new(0))
    }

    /// Creates a scan that decides about the frames from `first` on. It starts at the preceding 1 GiB boundary or
    /// before it, so that it sees the head of a free block or huge page that contains `first`. The first window must
    /// contain `first`.
    pub fn starting_at(machine: &'m Machine<'m>, level: DumpLevel, first: Pfn) -> Self {
        /// Frames of the largest huge page, 1 GiB.
        const LARGEST: u64 = 1 << 18;
        let boundary = Pfn::new(first.as_u64() / LARGEST * LARGEST);
        let start = match machine.sections.lookup(machine.image, boundary) {
            Some(Lookup::Present(section)) => section.frames.start,
            _ => boundary,
        };
        let rules = Rules::new(&machine.layout, level, machine.rule_set);
        let scan = rules.need_scan().then(|| scan_from(machine, rules, start));
        let mut findings = ScanFindings::default();
        let needs_free_lists = level.contains(DumpLevel::FREE) && machine.layout.free == FreePages::FreeLists;
        let free_blocks =
            if needs_free_lists { follow_free_lists(machine, &mut findings) } else { FrameRanges::default() };
        let scratch = vec![0; SCRATCH_BYTES];
        Self { scan, machine, scratch, free_blocks, carried: None, findings, rules, threads: 1 }
    }

    /// Sets the number of threads of [`run`](Self::run), at least one.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Clears in `keep` the bits of the frames of `window` that the dump level excludes. Bit 0 of the first word is the
    /// first frame of the window. Each window must start where the previous one ended. Returns `false` if `checkpoint`
    /// stopped the scan.
    pub fn run(&mut self, window: PfnRange, keep: &mut [u64], checkpoint: &mut dyn Checkpoint) -> bool {
        self.run_with(InitialBits::Given, window, keep, checkpoint)
    }

    /// Does what [`run`](Self::run) does, for either kind of bits.
    fn run_with(
        &mut self,
        initial: InitialBits,
        window: PfnRange,
        keep: &mut [u64],
        checkpoint: &mut dyn Checkpoint,
    ) -> bool {
        let start = Instant::now();
        // Pieces cannot share a word.
        let has_whole_words =
            window.start.as_u64().is_multiple_of(64) && keep.len() as u64 >= window.len().div_ceil(64);
        if (self.threads > 1 || initial == InitialBits::Unset)
            && has_whole_words
            && !window.is_empty()
            && let Some(scan) = self.scan.take()
        {
            let completed = self.run_pieces(scan, window, keep, initial, checkpoint);
            let Ok(mut bitmap) = Bitmap::new(window, keep) else { return false };
            return self.end_window(&mut bitmap, completed, start);
        }
        if initial == InitialBits::Unset {
            keep.fill(u64::MAX);
        }
        let Ok(mut bitmap) = Bitmap::new(window, keep) else { return false };
        self.run_into(&mut bitmap, checkpoint)
    }

    /// Reports to `target` the excluded frames of its window, with their class. Each window must start where the
    /// previous one ended. Returns `false` if `checkpoint` stopped the scan.
    pub fn run_into(&mut self, target: &mut dyn WindowTarget, checkpoint: &mut dyn Checkpoint) -> bool {
        let start = Instant::now();
        let window = target.window();
        let mut observer = WindowObserver { target, carried: None, findings: &mut self.findings };
        if let Some((frames, class)) = self.carried.take() {
            observer.exclude(frames, class);
        }
        let completed = self.scan.as_mut().is_none_or(|scan| {
            scan.run(self.machine.image, window.end, &mut self.scratch, &mut observer, checkpoint)
                == Outcome::Completed
        });
        self.carried = observer.carried.take();
        self.end_window(target, completed, start)
    }

    /// Ends the window of `target`. `completed` is whether its scan decided about all frames.
    fn end_window(&mut self, target: &mut dyn WindowTarget, completed: bool, start: Instant) -> bool {
        let window = target.window();
        if completed {
            for frames in self.free_blocks.within(window) {
                self.findings.counters.add(PageClass::Free, target.exclude(frames, PageClass::Free));
            }
        }
        self.findings.scanned_up_to = match &self.scan {
            Some(scan) if !completed => scan.next(),
            _ => window.end,
        };
        self.findings.complete = completed;
        self.findings.time += start.elapsed();
        completed
    }

    /// The findings in all windows so far.
    pub fn findings(&self) -> &ScanFindings {
        &self.findings
    }
}

/// Creates a scan that starts at `first`.
fn scan_from<'m>(machine: &'m Machine<'m>, rules: Rules, first: Pfn) -> Scan<'m> {
    Scan::starting_at(rules, &machine.sections, machine.image.facts().backed.as_slice(), first)
}

impl FrameFilter for WindowScan<'_> {
    fn filter(&mut self, window: PfnRange, keep: &mut [u64]) -> Result<()> {
        self.run(window, keep, &mut RunToCompletion);
        Ok(())
    }
}

/// Receives the decisions of a [`WindowScan`]: a bitmap, or a record of the page classes.
pub trait WindowTarget {
    /// The frames of the window.
    fn window(&self) -> PfnRange;

    /// Excludes those of `frames` that are in the window. Returns the number of newly excluded frames.
    fn exclude(&mut self, frames: PfnRange, class: PageClass) -> u64;

    /// Excludes those of the 64 frames from `first` on whose bit of `which` is set. Returns the number of newly
    /// excluded frames.
    fn exclude_masked(&mut self, first: Pfn, which: u64, class: PageClass) -> u64 {
        runs_of(first, which).map(|frames| self.exclude(frames, class)).sum()
    }

    /// Records that the `struct page`s of `frames` cannot be read.
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
        // If several ranges extend past the window, the longest one covers them all.
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
        record_unreadable(self.findings, frames, error);
    }

    fn bad_order(&mut self, _: Pfn) {
        self.findings.bad_orders += 1;
    }
}

/// Collects the free blocks in the free lists of all zones.
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
