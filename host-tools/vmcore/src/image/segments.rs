//! What the segments of a file (`PT_LOAD`s, the lines of a map) say about memory.

use super::extents::Extents;
use super::facts::{ImageFacts, ImageFormat, Segment};
use crate::frames::FrameRanges;
use scanner_core::paging::START_KERNEL_MAP;
use scanner_core::{Pfn, PfnRange, PhysAddr};

/// Whether `size` bytes from `start` on lie in the physical address space of x86_64.
pub(super) fn is_physical(start: u64, size: u64) -> bool {
    start.checked_add(size).is_some_and(|end| end <= Pfn::END.addr().as_u64())
}

/// The facts that follow from `segments` ([`is_physical`], all of them), of whose file data `extents` is the index;
/// the rest empty.
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
    /// The address at which the kernel's image was loaded, from the segment that maps its text.
    pub fn phys_base(&self) -> Option<u64> {
        let text = self.segments.iter().find(|s| s.virt >= START_KERNEL_MAP)?;
        Some(text.phys.as_u64().wrapping_sub(text.virt.as_u64().wrapping_sub(START_KERNEL_MAP.as_u64())))
    }

    /// The 1st bitmap as makedumpfile's cyclic mode makes it: without the frame that a `PT_LOAD` ends within, unless
    /// another one covers it. ([`exists`](Self::exists) has that frame, as in the non-cyclic mode.)
    pub fn exists_in_cycles(&self) -> FrameRanges {
        if self.segments.is_empty() {
            return self.exists.clone();
        }
        let end = |s: &Segment| PhysAddr::new(s.phys.as_u64() + s.mem_size).pfn();
        FrameRanges::from_ranges(self.segments.iter().map(|s| PfnRange::new(s.phys.pfn(), end(s))))
    }

    /// Whether makedumpfile goes in cycles by default, with enough free memory: if both bitmaps take more than 4 MiB,
    /// or don't fit into `2 * max_mapnr / 8` bytes because the division leaves a rest (then `max_mapnr` is no
    /// multiple of 4). A dump that is filtered again never goes in cycles.
    pub fn makedumpfile_is_cyclic(&self) -> bool {
        let bits = self.max_pfn.saturating_mul(2);
        self.filtered.is_none() && (bits / 8).min(4 << 20) * 8 < bits
    }
}

/// Memory whose file data lies behind the end of a file that was cut off.
#[derive(Debug, Default)]
pub(super) struct CutOff {
    segments: u64,
    bytes: u64,
    first: Option<u64>,
}

impl CutOff {
    /// Counts a segment at `phys` of which `there` bytes are in the file instead of `promised`.
    pub(super) fn add(&mut self, phys: u64, there: u64, promised: u64) {
        if there < promised {
            self.segments += 1;
            self.bytes = self.bytes.saturating_add(promised - there);
            self.first = Some(self.first.map_or(phys + there, |first| first.min(phys + there)));
        }
    }

    /// What to tell the user about a file of `size` bytes whose segments are called `segments`.
    pub(super) fn warning(&self, size: u64, segments: &str) -> Option<String> {
        let first = self.first?;
        let (count, bytes) = (self.segments, self.bytes);
        Some(format!(
            "the file of {size} bytes is cut off: {bytes} bytes of memory in {count} {segments} are missing, \
             from physical address {first:#x} on; pages without data count as not backed"
        ))
    }
}
