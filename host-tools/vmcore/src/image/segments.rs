//! The facts that follow from the segments of a file: its `PT_LOAD`s, or the lines of its map.

use super::extents::Extents;
use super::facts::{ImageFacts, ImageFormat, Segment};
use crate::frames::FrameRanges;
use scanner_core::paging::START_KERNEL_MAP;
use scanner_core::{Pfn, PfnRange, PhysAddr};

/// Whether the `size` bytes at `start` are in the physical address space of x86_64.
pub(super) fn is_physical(start: u64, size: u64) -> bool {
    start.checked_add(size).is_some_and(|end| end <= Pfn::END.addr().as_u64())
}

/// The facts that follow from `segments`. All other facts are empty.
///
/// [`is_physical`] must be true for each segment, and `extents` must be the index of their file data.
pub(super) fn facts(format: ImageFormat, segments: Vec<Segment>, extents: &Extents) -> ImageFacts {
    let end = |s: &Segment| PhysAddr::new(s.phys.as_u64() + s.mem_size).pfn_ceil();
    ImageFacts {
        exists: FrameRanges::from_ranges(segments.iter().map(|s| PfnRange::new(s.phys.pfn(), end(s)))),
        backed: extents.first_bytes(),
        max_pfn: segments.iter().map(|s| end(s).as_u64()).max().unwrap_or(0),
        segments,
        ..ImageFacts::empty(format)
    }
}

impl ImageFacts {
    /// The kernel's `phys_base`, computed from the segment of the kernel's text. `None` without such a segment.
    pub fn phys_base(&self) -> Option<u64> {
        let text = self.segments.iter().find(|s| s.virt >= START_KERNEL_MAP)?;
        Some(text.phys.as_u64().wrapping_sub(text.virt.as_u64().wrapping_sub(START_KERNEL_MAP.as_u64())))
    }

    /// The 1st bitmap of makedumpfile's cyclic mode.
    ///
    /// If a `PT_LOAD` ends within a frame, this bitmap does not have the frame, unless another `PT_LOAD` covers it.
    /// [`exists`](Self::exists) has the frame, as in the non-cyclic mode.
    pub fn exists_in_cycles(&self) -> FrameRanges {
        if self.segments.is_empty() {
            return self.exists.clone();
        }
        let end = |s: &Segment| PhysAddr::new(s.phys.as_u64() + s.mem_size).pfn();
        FrameRanges::from_ranges(self.segments.iter().map(|s| PfnRange::new(s.phys.pfn(), end(s))))
    }

    /// Whether makedumpfile uses its cyclic mode by default, if it has enough free memory.
    ///
    /// It does if both bitmaps take more than 4 MiB, or if `max_mapnr` is not a multiple of 4: then
    /// `2 * max_mapnr / 8` bytes, rounded down, are too few. It never does for a dump that is filtered again.
    pub fn makedumpfile_is_cyclic(&self) -> bool {
        let bits = self.max_pfn.saturating_mul(2);
        self.filtered.is_none() && (bits / 8).min(4 << 20) * 8 < bits
    }
}

/// Counts the memory that is missing because the file is cut off.
#[derive(Debug, Default)]
pub(super) struct CutOff {
    segments: u64,
    bytes: u64,
    first: Option<u64>,
}

impl CutOff {
    /// Counts a segment at `phys` of which the file has `present` of the `expected` bytes.
    pub(super) fn add(&mut self, phys: u64, present: u64, expected: u64) {
        if present < expected {
            self.segments += 1;
            self.bytes = self.bytes.saturating_add(expected - present);
            self.first = Some(self.first.map_or(phys + present, |first| first.min(phys + present)));
        }
    }

    /// The warning for a file of `size` bytes, if it is cut off. `segments` is the user's word for its segments.
    pub(super) fn warning(&self, size: u64, segments: &str) -> Option<String> {
        let first = self.first?;
        let (count, bytes) = (self.segments, self.bytes);
        Some(format!(
            "the file of {size} bytes is cut off: {bytes} bytes of memory in {count} {segments} are missing, \
             starting at physical address {first:#x}; pages without data count as not backed"
        ))
    }
}
