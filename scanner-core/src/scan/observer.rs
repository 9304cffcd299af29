//! The interface through which a scan reports its decisions.

use crate::addr::{Pfn, PfnRange};
use crate::memmap::sections::SectionError;
use crate::rules::PageClass;
use crate::rules::level::{FramesByClass, runs_by_class};

/// Receives the decisions of a scan. Each is final.
pub trait Observer {
    /// `frames` can be excluded. They may extend past the frames scanned, and over frames that do not exist.
    fn exclude(&mut self, frames: PfnRange, class: PageClass);

    /// The frames in `masks` can be excluded. Bit `i` stands for frame `first + i`; `first` is a multiple of 64.
    #[inline]
    fn exclude_masked(&mut self, first: Pfn, masks: &FramesByClass) {
        runs_by_class(first, masks).for_each(|(frames, class)| self.exclude(frames, class));
    }

    /// The `struct page`s of `frames` cannot be read, so the frames are kept.
    fn unreadable(&mut self, frames: PfnRange, error: SectionError) {
        let _ = (frames, error);
    }

    /// `pfn` is kept: it is marked free, but its order is out of range.
    fn bad_order(&mut self, pfn: Pfn) {
        let _ = pfn;
    }
}
