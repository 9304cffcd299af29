//! The scan: walks every `struct page` once, and tells a sink what can be left out.
//!
//! A scan is resumable and bounded. It holds its place between calls of [`Scan::run`], asks its caller every
//! [`PACE_FRAMES`] frames whether to go on (free blocks side by side, which take no time, it goes over at once, up to the
//! end of their memory section), and only ever reports pages that it has finished deciding about: the sink's bitmap, filled
//! with ones at the start, is a valid superset at every instant.

use crate::addr::{Pfn, PfnRange, VirtAddr};
use crate::bitmap::Bitmap;
use crate::classify::{BLOCK_FRAMES, Batch, Rules};
use crate::free_list::{FreeListError, FreeLists};
use crate::layout::MAX_STRUCT_PAGE;
use crate::level::{Counters, FramesByClass, PageClass};
use crate::memory::PhysicalMemory;
use crate::sections::{Lookup, MemorySections, Section, SectionError};

/// Frames between two questions to the caller whether to go on: more only if they went in blocks that are alike.
pub const PACE_FRAMES: u64 = 4096;

/// Bytes of scratch memory that a scan needs for struct pages that can't be viewed in place: one block of frames.
pub const SCRATCH_BYTES: usize = 512 * 64;

/// The largest piece of the array of `struct page` that is looked at in one go, in frames: what a 2 MiB page of
/// 64-byte entries describes.
const VIEW_FRAMES: u64 = 32768;

/// What a scan's caller does with its findings.
pub trait Sink {
    /// `frames` can be left out. They may reach behind the frames scanned, and over frames that don't exist.
    fn exclude(&mut self, frames: PfnRange, class: PageClass);

    /// Of the 64 frames from `first` on those can be left out whose bit of `which` is set, class by class.
    #[inline]
    fn exclude_some(&mut self, first: Pfn, which: &FramesByClass) {
        match self.word_mut(first) {
            Some((word, counters)) => counters.clear(word, which),
            None => runs_by_class(first, which).for_each(|(frames, class)| self.exclude(frames, class)),
        }
    }

    /// The word that has a bit for each of the 64 frames from `first` on, and where those that get cleared are counted, if
    /// that is all that is to be done for these frames.
    fn word_mut(&mut self, first: Pfn) -> Option<(&mut u64, &mut Counters)> {
        let _ = first;
        None
    }

    /// The `struct page`s of `frames` can't be read, so they are kept.
    fn unreadable(&mut self, frames: PfnRange, error: SectionError) {
        let _ = (frames, error);
    }

    /// `pfn` is marked free, but of an order that no free block has, so it is kept.
    fn bad_order(&mut self, pfn: Pfn) {
        let _ = pfn;
    }

    /// `lists` can't be followed to their end, so what is behind is kept.
    fn broken_free_list(&mut self, lists: FreeLists, error: FreeListError) {
        let _ = (lists, error);
    }
}

/// The frames whose bits of `which` are set, as ranges; the lowest bit stands for `first`.
pub fn runs_of(first: Pfn, which: u64) -> impl Iterator<Item = PfnRange> {
    let (mut at, mut left) = (first, which);
    core::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let gap = left.trailing_zeros();
        let start = at.saturating_add(gap.into());
        let len = (left >> gap).trailing_ones();
        left = (left >> gap).checked_shr(len).unwrap_or(0);
        at = start.saturating_add(len.into());
        Some(PfnRange::new(start, at))
    })
}

/// The frames whose bits of `which` are set, class by class, as ranges; the lowest bit stands for `first`.
pub fn runs_by_class(first: Pfn, which: &FramesByClass) -> impl Iterator<Item = (PfnRange, PageClass)> {
    let classes = PageClass::ALL.iter().zip(which);
    classes.flat_map(move |(class, which)| runs_of(first, *which).map(|frames| (frames, *class)))
}

/// Lets a caller stop a scan, touch watchdogs, and show progress.
pub trait Pace {
    /// Called every [`PACE_FRAMES`] frames with the next one; `false` interrupts the scan.
    fn go_on(&mut self, next: Pfn) -> bool;
}

/// Never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unhurried;

impl Pace for Unhurried {
    fn go_on(&mut self, _: Pfn) -> bool {
        true
    }
}

/// How a call of [`Scan::run`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every frame below the limit is decided.
    Reached,
    /// The caller stopped it; the next call goes on where this one ended.
    Interrupted,
}

/// A scan's place.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    rules: Rules,
    sections: &'a MemorySections,
    ranges: &'a [PfnRange],
    next: Pfn,
    /// Where frames that went with an earlier one end. Holds within that one's section only.
    skip_to: Pfn,
    frames_to_pace: u64,
}

impl<'a> Scan<'a> {
    /// A scan of the frames of `ranges` (ascending, disjoint: the memory that is to be looked at) by `rules`.
    pub fn new(rules: Rules, sections: &'a MemorySections, ranges: &'a [PfnRange]) -> Self {
        Self::starting_at(rules, sections, ranges, Pfn::new(0))
    }

    /// A scan that starts at `first`, which has to be the first frame of a section.
    pub fn starting_at(
        rules: Rules,
        sections: &'a MemorySections,
        ranges: &'a [PfnRange],
        first: Pfn,
    ) -> Self {
        Self { rules, sections, ranges, next: first, skip_to: first, frames_to_pace: 0 }
    }

    /// The first frame that is not decided yet.
    pub fn next(&self) -> Pfn {
        self.next
    }

    /// Scans the frames below `limit`. `scratch` is for struct pages that can't be viewed in place, of
    /// [`SCRATCH_BYTES`] for the usual `struct page` of 64 bytes; a smaller one costs speed, and one of less than
    /// two struct pages makes those unreadable.
    pub fn run<M, S, P>(
        &mut self,
        memory: &M,
        limit: Pfn,
        scratch: &mut [u8],
        sink: &mut S,
        pace: &mut P,
    ) -> Outcome
    where
        M: PhysicalMemory + ?Sized,
        S: Sink + ?Sized,
        P: Pace + ?Sized,
    {
        while self.next < limit {
            let Some(found) = self.sections.lookup(memory, self.next) else {
                self.next = limit;
                break;
            };
            let frames = match found {
                Lookup::Present(section) => {
                    if self.next == section.frames.start {
                        // Each section starts at its own first frame, whatever the one before has skipped.
                        self.skip_to = self.next;
                    }
                    if self.run_section(memory, &section, limit, scratch, sink, pace) == Outcome::Interrupted
                    {
                        return Outcome::Interrupted;
                    }
                    section.frames
                }
                Lookup::Absent(frames) => frames,
                Lookup::Damaged(frames, error) => {
                    for range in self.ranges_within(PfnRange::new(self.next, frames.end.min(limit))) {
                        sink.unreadable(range, error);
                    }
                    frames
                }
            };
            self.next = frames.end.min(limit);
        }
        Outcome::Reached
    }

    fn run_section<M, S, P>(
        &mut self,
        memory: &M,
        section: &Section,
        limit: Pfn,
        scratch: &mut [u8],
        sink: &mut S,
        pace: &mut P,
    ) -> Outcome
    where
        M: PhysicalMemory + ?Sized,
        S: Sink + ?Sized,
        P: Pace + ?Sized,
    {
        let size = self.rules.page_size();
        let window = PfnRange::new(self.next, section.frames.end.min(limit));
        for range in self.ranges_within(window) {
            let mut pfn = range.start.max(self.skip_to);
            while pfn < range.end {
                if self.is_stopped(pfn, pace) {
                    return Outcome::Interrupted;
                }
                let (seen, pages) =
                    match self.struct_pages(memory, section, PfnRange::new(pfn, range.end), scratch) {
                        Ok(found) => found,
                        Err((lost, error)) => {
                            sink.unreadable(lost, error);
                            self.went_to(pfn, lost.end);
                            pfn = lost.end;
                            continue;
                        }
                    };
                while pfn < seen.end {
                    if self.is_stopped(pfn, pace) {
                        return Outcome::Interrupted;
                    }
                    let pause = block_end_or_self(pfn.saturating_add(self.frames_to_pace));
                    let rest = (pfn.frames_since(seen.start) as usize).saturating_mul(size);
                    let pages = pages.get(rest..).unwrap_or(&[]);
                    let reached = self.decide_run(PfnRange::new(pfn, seen.end), pause, pages, sink);
                    self.went_to(pfn, reached);
                    pfn = reached;
                }
            }
        }
        Outcome::Reached
    }

    /// Asks the caller before `pfn`, if it is time to, whether to stop there.
    fn is_stopped<P: Pace + ?Sized>(&mut self, pfn: Pfn, pace: &mut P) -> bool {
        if self.frames_to_pace == 0 {
            self.next = pfn;
            if !pace.go_on(pfn) {
                return true;
            }
            self.frames_to_pace = PACE_FRAMES;
        }
        false
    }

    /// Notes that the frames from `pfn` to `reached` are decided.
    fn went_to(&mut self, pfn: Pfn, reached: Pfn) {
        self.skip_to = reached;
        self.frames_to_pace = self.frames_to_pace.saturating_sub(reached.frames_since(pfn).max(1));
    }

    /// The struct pages of the first frames of `frames`, as many as there are in one piece: which frames, at least one,
    /// and the bytes, which may go on behind them. Or how many frames have none that can be read, and why.
    ///
    /// Where a pause falls doesn't decide what is read at once, and so what is lost with an unreadable block: it ends
    /// where a block or the range does.
    #[inline(never)]
    fn struct_pages<'m, M: PhysicalMemory + ?Sized>(
        &self,
        memory: &'m M,
        section: &Section,
        frames: PfnRange,
        scratch: &'m mut [u8],
    ) -> Result<(PfnRange, &'m [u8]), (PfnRange, SectionError)> {
        let size = self.rules.page_size() as u64;
        let at = |pfn: Pfn| {
            section
                .mem_map
                .checked_add(pfn.frames_since(section.frames.start).saturating_mul(size))
                .unwrap_or_default()
        };
        // The head of a compound page is understood by its first tail, so pieces end where blocks end.
        let block_end = block_end(frames.start).min(section.frames.end);
        let wanted = PfnRange::new(frames.start, block_end_or_self(frames.end).min(section.frames.end));
        let view_len = wanted.len().min(VIEW_FRAMES).saturating_mul(size);
        if let Ok(piece) = self.sections.space().piece(memory, at(frames.start), view_len) {
            let seen = piece.len.checked_div(size).unwrap_or(0);
            let seen = PfnRange::from_start(frames.start, seen);
            let whole = if seen.end >= wanted.end { seen.end } else { block_start(seen.end) };
            if whole > frames.start
                && let Some(len) = bytes_of(whole.frames_since(frames.start), size)
                && let Some(pages) = memory.view(piece.phys, len)
            {
                return Ok((PfnRange::new(frames.start, whole.min(frames.end)), pages));
            }
        }
        // Not in one piece: copy the rest of this block, or as much as the scratch memory takes.
        let room = (scratch.len() as u64).checked_div(size).unwrap_or(0);
        let copied = PfnRange::new(frames.start, block_end.min(frames.start.saturating_add(room)));
        let lost = PfnRange::new(frames.start, block_end.min(frames.end));
        let Some(buffer) = bytes_of(copied.len(), size).and_then(|len| scratch.get_mut(..len)) else {
            return Err((lost, SectionError::Read(unmapped(at(frames.start)))));
        };
        if copied.is_empty() {
            return Err((lost, SectionError::Read(unmapped(at(frames.start)))));
        }
        match self.sections.space().read(memory, at(frames.start), buffer) {
            Ok(()) => {
                // Without its first tail the last frame waits for the next copy, unless it is the only one.
                let cut = copied.end < block_end && copied.len() > 1;
                let end = Pfn::new(copied.end.as_u64().saturating_sub(u64::from(cut)));
                Ok((PfnRange::new(frames.start, end.min(frames.end)), buffer))
            }
            Err(error) => {
                let lost = PfnRange::new(frames.start, copied.end.min(frames.end));
                Err((lost, SectionError::Read(error)))
            }
        }
    }

    /// Decides about `frames`, whose struct pages `pages` starts with, up to `pause` at least, and returns the frame to
    /// go on with. What is behind `pause` is decided about only if it went at once with what is before. Not inlined:
    /// what it remembers would stand on the stack while page tables are walked.
    #[inline(never)]
    fn decide_run<S: Sink + ?Sized>(&self, frames: PfnRange, pause: Pfn, pages: &[u8], sink: &mut S) -> Pfn {
        let size = self.rules.page_size();
        let (mut run, mut batch) = (ExcludedRun::default(), Batch::default());
        let mut pfn = frames.start;
        while pfn < frames.end.min(pause) {
            // Behind the last one there are none.
            let at = (pfn.frames_since(frames.start) as usize).wrapping_mul(size);
            let rest = pages.get(at..).unwrap_or(&[]);
            self.rules.decide_batch(pfn, frames.end.frames_since(pfn), rest, &mut batch);
            let word = Pfn::new(pfn.as_u64() & !63);
            sink.exclude_some(word, &batch.out);
            let mut bad_orders = batch.bad_orders;
            while bad_orders != 0 {
                sink.bad_order(word.saturating_add(bad_orders.trailing_zeros().into()));
                bad_orders &= bad_orders.wrapping_sub(1);
            }
            pfn = pfn.saturating_add(batch.pages.into());
            if let Some((class, frames)) = batch.block {
                let end = pfn.saturating_add(frames);
                run.add(PfnRange::new(pfn, end), class, sink);
                pfn = end;
            } else if batch.pages == 0 {
                break;
            }
        }
        run.flush(sink);
        pfn
    }

    fn ranges_within(&self, window: PfnRange) -> impl Iterator<Item = PfnRange> + use<'a> {
        let ranges = self.ranges;
        let first = ranges.partition_point(|r| r.end <= window.start);
        let rest = ranges.get(first..).unwrap_or(&[]);
        rest.iter().take_while(move |r| r.start < window.end).map(move |r| r.intersection(window))
    }
}

/// Adjacent frames of one class, put together so that the sink clears words rather than bits.
#[derive(Default)]
struct ExcludedRun {
    frames: PfnRange,
    class: Option<PageClass>,
}

impl ExcludedRun {
    #[inline]
    fn add<S: Sink + ?Sized>(&mut self, frames: PfnRange, class: PageClass, sink: &mut S) {
        if self.class == Some(class) && self.frames.end == frames.start {
            self.frames.end = frames.end;
        } else {
            self.flush(sink);
            *self = Self { frames, class: Some(class) };
        }
    }

    fn flush<S: Sink + ?Sized>(&mut self, sink: &mut S) {
        if let Some(class) = self.class.take() {
            sink.exclude(self.frames, class);
        }
    }
}

/// The usual sink: a bitmap, and counters of what was cleared in it.
#[derive(Debug)]
pub struct BitmapSink<'b, 'a, 'c> {
    /// The bitmap, to be filled with ones before.
    pub bitmap: &'b mut Bitmap<'a, 'c>,
    /// Bits cleared, per class.
    pub counters: Counters,
    /// Frames kept because their struct pages can't be read.
    pub unreadable: u64,
    /// The first of them, and why.
    pub first_unreadable: Option<(PfnRange, SectionError)>,
    /// Frames kept because they are marked free with an order that can't be.
    pub bad_orders: u64,
    /// Free lists that could not be followed to their end.
    pub broken_free_lists: u64,
}

impl<'b, 'a, 'c> BitmapSink<'b, 'a, 'c> {
    /// A sink that clears bits of `bitmap`.
    pub fn new(bitmap: &'b mut Bitmap<'a, 'c>) -> Self {
        Self {
            bitmap,
            counters: Counters::default(),
            unreadable: 0,
            first_unreadable: None,
            bad_orders: 0,
            broken_free_lists: 0,
        }
    }
}

impl Sink for BitmapSink<'_, '_, '_> {
    #[inline]
    fn exclude(&mut self, frames: PfnRange, class: PageClass) {
        self.counters.add(class, self.bitmap.clear(frames));
    }

    #[inline]
    fn word_mut(&mut self, first: Pfn) -> Option<(&mut u64, &mut Counters)> {
        Some((self.bitmap.word_mut(first)?, &mut self.counters))
    }

    fn unreadable(&mut self, frames: PfnRange, error: SectionError) {
        self.unreadable = self.unreadable.saturating_add(frames.len());
        self.first_unreadable.get_or_insert((frames, error));
    }

    fn bad_order(&mut self, _: Pfn) {
        self.bad_orders = self.bad_orders.saturating_add(1);
    }

    fn broken_free_list(&mut self, _: FreeLists, _: FreeListError) {
        self.broken_free_lists = self.broken_free_lists.saturating_add(1);
    }
}

/// The first frame of the block that `pfn` is in.
fn block_start(pfn: Pfn) -> Pfn {
    Pfn::new(pfn.as_u64() & !BLOCK_FRAMES.wrapping_sub(1))
}

/// The first frame behind the block that `pfn` is in.
fn block_end(pfn: Pfn) -> Pfn {
    block_start(pfn).saturating_add(BLOCK_FRAMES)
}

/// `pfn` if a block starts there, else the end of its block.
fn block_end_or_self(pfn: Pfn) -> Pfn {
    if block_start(pfn) == pfn { pfn } else { block_end(pfn) }
}

fn bytes_of(frames: u64, size: u64) -> Option<usize> {
    usize::try_from(frames.checked_mul(size)?).ok()
}

fn unmapped(addr: VirtAddr) -> crate::memory::ReadError {
    crate::memory::ReadError::Unmapped { addr, level: 1 }
}

const _: () =
    assert!(SCRATCH_BYTES >= 2 * MAX_STRUCT_PAGE, "scratch memory has room for a head and its tail");
