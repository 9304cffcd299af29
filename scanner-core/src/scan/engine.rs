//! The scan: it walks every `struct page` once and reports to an observer which frames can be excluded.
//!
//! A scan is resumable and bounded. It keeps its state between calls of [`Scan::run`]. Every [`CHECKPOINT_FRAMES`]
//! frames it calls the checkpoint, which can stop it. Adjacent free blocks, which take no time, are one step, up to the
//! end of their memory section. The scan reports a page only when the decision about it is final: a bitmap that starts
//! with all bits set is a valid superset at every instant.

use super::checkpoint::{CHECKPOINT_FRAMES, Checkpoint, Outcome};
use super::observer::Observer;
use crate::addr::{Pfn, PfnRange, VirtAddr};
use crate::kernel::layout::MAX_STRUCT_PAGE;
use crate::memmap::sections::{Lookup, MemorySections, Section, SectionError};
use crate::memory::{PhysicalMemory, ReadError};
use crate::rules::{BLOCK_FRAMES, PageBatch, PageClass, Rules};

/// Size of the scratch memory for struct pages that cannot be viewed in place, in bytes: one block of frames.
pub const SCRATCH_BYTES: usize = 512 * 64;

/// The largest part of the array of `struct page` that is viewed at once, in frames: 2 MiB of 64-byte `struct page`s.
const VIEW_FRAMES: u64 = 32768;

/// The resumable state of a scan.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    rules: Rules,
    sections: &'a MemorySections,
    ranges: &'a [PfnRange],
    next: Pfn,
    /// The end of the frames that are decided together with an earlier one. Valid in the section of that frame only.
    skip_to: Pfn,
    frames_to_checkpoint: u64,
}

impl<'a> Scan<'a> {
    /// A scan of the frames in `ranges` by `rules`. `ranges` must be ascending and disjoint.
    pub fn new(rules: Rules, sections: &'a MemorySections, ranges: &'a [PfnRange]) -> Self {
        Self::starting_at(rules, sections, ranges, Pfn::new(0))
    }

    /// As [`new`](Self::new), but starts at `first`, which must be the first frame of a section.
    pub fn starting_at(
        rules: Rules,
        sections: &'a MemorySections,
        ranges: &'a [PfnRange],
        first: Pfn,
    ) -> Self {
        Self { rules, sections, ranges, next: first, skip_to: first, frames_to_checkpoint: 0 }
    }

    /// The first frame that is not decided.
    pub fn next(&self) -> Pfn {
        self.next
    }

    /// Scans the frames below `limit`.
    ///
    /// `scratch` is memory for struct pages that cannot be viewed in place. [`SCRATCH_BYTES`] suffice for a `struct
    /// page` of 64 bytes. A smaller buffer costs speed; one smaller than two struct pages makes such struct pages
    /// unreadable.
    pub fn run<M, O, C>(
        &mut self,
        memory: &M,
        limit: Pfn,
        scratch: &mut [u8],
        observer: &mut O,
        checkpoint: &mut C,
    ) -> Outcome
    where
        M: PhysicalMemory + ?Sized,
        O: Observer + ?Sized,
        C: Checkpoint + ?Sized,
    {
        while self.next < limit {
            let Some(found) = self.sections.lookup(memory, self.next) else {
                self.next = limit;
                break;
            };
            let frames = match found {
                Lookup::Present(section) => {
                    if self.next == section.frames.start {
                        // A block at the end of the previous section has no effect on this section.
                        self.skip_to = self.next;
                    }
                    if self.run_section(memory, &section, limit, scratch, observer, checkpoint)
                        == Outcome::Interrupted
                    {
                        return Outcome::Interrupted;
                    }
                    section.frames
                }
                Lookup::Absent(frames) => frames,
                Lookup::Damaged(frames, error) => {
                    for range in self.ranges_within(PfnRange::new(self.next, frames.end.min(limit))) {
                        observer.unreadable(range, error);
                    }
                    frames
                }
            };
            self.next = frames.end.min(limit);
        }
        Outcome::Completed
    }

    fn run_section<M, O, C>(
        &mut self,
        memory: &M,
        section: &Section,
        limit: Pfn,
        scratch: &mut [u8],
        observer: &mut O,
        checkpoint: &mut C,
    ) -> Outcome
    where
        M: PhysicalMemory + ?Sized,
        O: Observer + ?Sized,
        C: Checkpoint + ?Sized,
    {
        let size = self.rules.page_size();
        let window = PfnRange::new(self.next, section.frames.end.min(limit));
        for range in self.ranges_within(window) {
            let mut pfn = range.start.max(self.skip_to);
            while pfn < range.end {
                if self.is_stopped(pfn, checkpoint) {
                    return Outcome::Interrupted;
                }
                let (seen, pages) =
                    match self.struct_pages(memory, section, PfnRange::new(pfn, range.end), scratch) {
                        Ok(found) => found,
                        Err((lost, error)) => {
                            observer.unreadable(lost, error);
                            self.mark_decided(pfn, lost.end);
                            pfn = lost.end;
                            continue;
                        }
                    };
                while pfn < seen.end {
                    if self.is_stopped(pfn, checkpoint) {
                        return Outcome::Interrupted;
                    }
                    let stop = block_end_or_self(pfn.saturating_add(self.frames_to_checkpoint));
                    let rest = (pfn.frames_since(seen.start) as usize).saturating_mul(size);
                    let pages = pages.get(rest..).unwrap_or(&[]);
                    let reached = self.decide_run(PfnRange::new(pfn, seen.end), stop, pages, observer);
                    self.mark_decided(pfn, reached);
                    pfn = reached;
                }
            }
        }
        Outcome::Completed
    }

    /// Calls the checkpoint before `pfn` if it is due. Returns whether it stops the scan.
    fn is_stopped<C: Checkpoint + ?Sized>(&mut self, pfn: Pfn, checkpoint: &mut C) -> bool {
        if self.frames_to_checkpoint == 0 {
            self.next = pfn;
            if checkpoint.check(pfn).is_break() {
                return true;
            }
            self.frames_to_checkpoint = CHECKPOINT_FRAMES;
        }
        false
    }

    /// Records that the frames from `pfn` up to `reached` are decided.
    fn mark_decided(&mut self, pfn: Pfn, reached: Pfn) {
        self.skip_to = reached;
        self.frames_to_checkpoint =
            self.frames_to_checkpoint.saturating_sub(reached.frames_since(pfn).max(1));
    }

    /// The struct pages of the first frames of `frames`, as many as are contiguous: these frames, at least one, and the
    /// bytes of their struct pages. More bytes may follow.
    ///
    /// What is read at once does not depend on checkpoints, but only on blocks and ranges. An unreadable block
    /// therefore has the same effect wherever the scan is interrupted.
    ///
    /// # Errors
    /// The frames whose struct pages cannot be read, and the reason.
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
        // The head of a compound page is decided with its first tail, so pieces end where blocks end.
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
        // Not contiguous: copy the rest of this block, or as much as fits into the scratch memory.
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
                // The first tail of the last frame is not copied, so that frame is left for the next copy, unless it is
                // the only one.
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

    /// Decides the first frames of `frames`, up to `stop` or the end of `frames`. `pages` starts with their struct
    /// pages. Returns the first frame that is not decided. It can be after `stop`, if a batch or a block ends there.
    // `#[inline(never)]` keeps its locals off the stack during the page walk (stack limit: 1 KiB).
    #[inline(never)]
    fn decide_run<O: Observer + ?Sized>(
        &self,
        frames: PfnRange,
        stop: Pfn,
        pages: &[u8],
        observer: &mut O,
    ) -> Pfn {
        let size = self.rules.page_size();
        let (mut run, mut batch) = (ExcludedRun::default(), PageBatch::default());
        let mut pfn = frames.start;
        while pfn < frames.end.min(stop) {
            // Empty after the last struct page.
            let at = (pfn.frames_since(frames.start) as usize).wrapping_mul(size);
            let rest = pages.get(at..).unwrap_or(&[]);
            self.rules.decide_batch(pfn, frames.end.frames_since(pfn), rest, &mut batch);
            let word = Pfn::new(pfn.as_u64() & !63);
            observer.exclude_masked(word, &batch.excluded);
            let mut bad_orders = batch.bad_orders;
            while bad_orders != 0 {
                observer.bad_order(word.saturating_add(bad_orders.trailing_zeros().into()));
                bad_orders &= bad_orders.wrapping_sub(1);
            }
            pfn = pfn.saturating_add(batch.pages.into());
            if let Some((class, frames)) = batch.block {
                let end = pfn.saturating_add(frames);
                run.add(PfnRange::new(pfn, end), class, observer);
                pfn = end;
            } else if batch.pages == 0 {
                break;
            }
        }
        run.flush(observer);
        pfn
    }

    fn ranges_within(&self, window: PfnRange) -> impl Iterator<Item = PfnRange> + use<'a> {
        let ranges = self.ranges;
        let first = ranges.partition_point(|r| r.end <= window.start);
        let rest = ranges.get(first..).unwrap_or(&[]);
        rest.iter().take_while(move |r| r.start < window.end).map(move |r| r.intersection(window))
    }
}

/// A run of adjacent frames of one class. Merging lets the observer clear whole words.
#[derive(Default)]
struct ExcludedRun {
    frames: PfnRange,
    class: Option<PageClass>,
}

impl ExcludedRun {
    #[inline]
    fn add<O: Observer + ?Sized>(&mut self, frames: PfnRange, class: PageClass, observer: &mut O) {
        if self.class == Some(class) && self.frames.end == frames.start {
            self.frames.end = frames.end;
        } else {
            self.flush(observer);
            *self = Self { frames, class: Some(class) };
        }
    }

    fn flush<O: Observer + ?Sized>(&mut self, observer: &mut O) {
        if let Some(class) = self.class.take() {
            observer.exclude(self.frames, class);
        }
    }
}

/// The first frame of the block of `pfn`.
fn block_start(pfn: Pfn) -> Pfn {
    Pfn::new(pfn.as_u64() & !BLOCK_FRAMES.wrapping_sub(1))
}

/// The first frame after the block of `pfn`.
fn block_end(pfn: Pfn) -> Pfn {
    block_start(pfn).saturating_add(BLOCK_FRAMES)
}

/// `pfn` if it is the first frame of a block, else the end of its block.
fn block_end_or_self(pfn: Pfn) -> Pfn {
    if block_start(pfn) == pfn { pfn } else { block_end(pfn) }
}

fn bytes_of(frames: u64, size: u64) -> Option<usize> {
    usize::try_from(frames.checked_mul(size)?).ok()
}

fn unmapped(addr: VirtAddr) -> ReadError {
    ReadError::Unmapped { addr, level: 1 }
}

// The scratch memory has room for a head and its first tail.
static_assertions::const_assert!(SCRATCH_BYTES >= 2 * MAX_STRUCT_PAGE);

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
