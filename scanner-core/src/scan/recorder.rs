//! The observer of the panic path and the purgatory stage: it clears bits of a bitmap in chunks, and counts pages.

use super::observer::Observer;
use crate::addr::{Pfn, PfnRange, PhysAddr};
use crate::bitmap::{BitmapChunks, clear_in_chunk};
use crate::memmap::sections::SectionError;
use crate::memory::ReadError;
use crate::rules::{Counters, FramesByClass, PageClass};

/// The counts of a scan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Excluded frames per class.
    pub counters: Counters,
    /// Frames kept because their `struct page` cannot be read.
    pub unreadable: u64,
    /// The first physical address that could not be read; 0 if there was none.
    pub first_unreadable: PhysAddr,
    /// Frames kept because they are marked free but have an order that is out of range.
    pub bad_orders: u64,
    /// Without a bitmap: the end of the frames that are counted. A scan ascends, so no frame counts twice.
    counted_to: Pfn,
}

/// Records the decisions of a scan in a bitmap and a [`Tally`]. Frames outside the bitmap are neither cleared nor
/// counted.
#[derive(Debug)]
pub struct BitmapRecorder<'t, B> {
    bitmap: B,
    tally: &'t mut Tally,
}

impl<'t, B: BitmapChunks> BitmapRecorder<'t, B> {
    /// A recorder of decisions in `bitmap`, whose bits start as 1, and in `tally`.
    pub fn new(bitmap: B, tally: &'t mut Tally) -> Self {
        Self { bitmap, tally }
    }
}

// `#[inline(never)]` keeps the locals of these methods off the stack while pages are decided.
impl<B: BitmapChunks> Observer for BitmapRecorder<'_, B> {
    #[inline(never)]
    fn exclude(&mut self, frames: PfnRange, class: PageClass) {
        let mut left = frames.intersection(self.bitmap.frames());
        if self.bitmap.counts_only() {
            left.start = left.start.max(self.tally.counted_to);
            if !left.is_empty() {
                self.tally.counters.add(class, left.len());
                self.tally.counted_to = left.end;
            }
            return;
        }
        while let Some((own, words)) = self.bitmap.chunk_mut(left.start).filter(|_| !left.is_empty()) {
            let here = left.intersection(own);
            let cleared = clear_in_chunk(words, here.start.frames_since(own.start), here.len());
            self.tally.counters.add(class, cleared);
            left.start = own.end.min(left.end);
        }
    }

    #[inline(never)]
    fn exclude_masked(&mut self, first: Pfn, masks: &FramesByClass) {
        let frames = self.bitmap.frames();
        let index = first.as_u64().wrapping_sub(frames.start.as_u64());
        if first < frames.start || index & 63 != 0 || frames.end.frames_since(first) < 64 {
            // In ascending order: frames before `counted_to` are not counted.
            let mut left = masks.iter().fold(0, |all, mask| all | mask);
            while left != 0 {
                let bit = left.trailing_zeros();
                if let Some((class, _)) =
                    PageClass::ALL.iter().zip(masks).find(|(_, mask)| *mask >> bit & 1 != 0)
                {
                    self.exclude(PfnRange::from_start(first.saturating_add(bit.into()), 1), *class);
                }
                left &= left.wrapping_sub(1);
            }
            return;
        }
        let counted = self.tally.counted_to.frames_since(first).min(64) as u32;
        let mut uncounted = u64::MAX.checked_shl(counted).unwrap_or(0);
        let word = if self.bitmap.counts_only() {
            Some(&mut uncounted)
        } else {
            self.bitmap
                .chunk_mut(first)
                .and_then(|(own, words)| words.get_mut((first.frames_since(own.start) >> 6) as usize))
        };
        if let Some(word) = word {
            self.tally.counters.clear(word, masks);
        }
    }

    fn unreadable(&mut self, frames: PfnRange, error: SectionError) {
        let tally = &mut self.tally;
        tally.unreadable = tally.unreadable.saturating_add(frames.len());
        if let SectionError::Read(ReadError::Unreadable(at)) = error
            && tally.first_unreadable == PhysAddr::new(0)
            && at.addr.pfn() < Pfn::END
        {
            tally.first_unreadable = at.addr;
        }
    }

    fn bad_order(&mut self, _: Pfn) {
        self.tally.bad_orders = self.tally.bad_orders.saturating_add(1);
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
