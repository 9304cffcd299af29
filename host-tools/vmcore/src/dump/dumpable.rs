//! The frames of an image that a dump can have, before the filter excludes any.

use crate::frames::{FrameBitmap, FrameRanges};
use crate::image::ImageFacts;
use scanner_core::{Pfn, PfnRange};

/// The frames of an image that have data: the start of the 2nd bitmap.
pub struct DumpableFrames<'a> {
    facts: &'a ImageFacts,
    exists: &'a FrameRanges,
    /// makedumpfile's "no data": the ends of segments that are not in the file.
    no_data: FrameRanges,
}

impl<'a> DumpableFrames<'a> {
    /// The dumpable frames of `exists`, for the image with these `facts`.
    pub fn new(facts: &'a ImageFacts, exists: &'a FrameRanges) -> Self {
        // As in makedumpfile, for each segment without regard to the others: the range starts with the first frame that
        // has no byte in the file. It includes the segment's last frame, even if the segment has only a part of it.
        let missing = facts.segments.iter().filter(|s| s.file_size < s.mem_size).filter_map(|segment| {
            let start = segment.phys.checked_add(segment.file_size)?.pfn_ceil();
            let end = segment.phys.checked_add(segment.mem_size).map_or(Pfn::END, |end| end.pfn_ceil());
            Some(PfnRange::new(start, end))
        });
        Self { facts, exists, no_data: FrameRanges::from_ranges(missing) }
    }

    /// The dumpable frames in `window`, which must start at a multiple of 64. Bit 0 is `window.start`.
    pub fn window(&self, window: PfnRange) -> FrameBitmap {
        let mut keep = existing(self.exists, window);
        for range in self.no_data.within(window) {
            keep.clear_range(relative(range, window));
        }
        if let Some(filtered) = &self.facts.filtered {
            let kept = filtered.kept.words();
            let first = (window.start.as_u64() / 64) as usize;
            for (i, word) in keep.words_mut().iter_mut().enumerate() {
                *word &= kept.get(first + i).copied().unwrap_or(0);
            }
        }
        keep
    }
}

/// The frames of `exists` in `window`: a part of the 1st bitmap. Bit 0 is `window.start`.
pub fn existing(exists: &FrameRanges, window: PfnRange) -> FrameBitmap {
    let mut bitmap = FrameBitmap::new(window.len());
    for range in exists.within(window) {
        bitmap.set_range(relative(range, window));
    }
    bitmap
}

/// Consecutive windows of `frames` frames that cover the frames `0..end`. The last window can be shorter.
pub fn windows(end: u64, frames: u64) -> impl Iterator<Item = PfnRange> {
    let windows = end.div_ceil(frames);
    (0..windows).map(move |i| PfnRange::new(Pfn::new(i * frames), Pfn::new((i * frames + frames).min(end))))
}

/// `range` with frame numbers relative to `window.start`.
fn relative(range: PfnRange, window: PfnRange) -> PfnRange {
    let from_start = |pfn: Pfn| Pfn::new(pfn.frames_since(window.start));
    PfnRange::new(from_start(range.start), from_start(range.end))
}
