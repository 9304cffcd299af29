//! Compares the contents of the pages that two images have in common.

use crate::because::{Frames, MAX_RANGES};
use scanner_core::{PAGE_SIZE, Pfn, PfnRange};
use serde::Serialize;
use vmcore::frames::FrameBitmap;
use vmcore::image::MemoryImage;

/// The result of a comparison of page contents.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ContentsReport {
    /// Pages that both images have.
    pub compared: u64,
    /// Compared pages whose bytes differ.
    pub different: u64,
    /// Pages that A has by its bitmap or segments, but that cannot be read from it.
    pub unreadable_in_a: u64,
    /// The same for B.
    pub unreadable_in_b: u64,
    /// The frames of these pages: at most [`MAX_RANGES`] ranges.
    pub ranges: Vec<ContentsRange>,
    /// The number of ranges that are not listed.
    pub ranges_left_out: u64,
}

/// Adjacent pages that differ in the same way.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ContentsRange {
    /// The frames.
    pub frames: Frames,
    /// How they differ.
    pub how: &'static str,
}

impl ContentsReport {
    /// Whether every page was compared and is the same in both images.
    pub fn same(&self) -> bool {
        self.different == 0 && self.unreadable_in_a == 0 && self.unreadable_in_b == 0
    }

    fn add(&mut self, pfn: Pfn, how: &'static str) {
        let end = pfn.saturating_add(1);
        if let Some(last) = self.ranges.last_mut()
            && last.how == how
            && last.frames.0.end == pfn
        {
            last.frames.0.end = end;
        } else if self.ranges.len() < MAX_RANGES {
            self.ranges.push(ContentsRange { frames: Frames(PfnRange::new(pfn, end)), how });
        } else {
            self.ranges_left_out += 1;
        }
    }
}

/// Compares, page by page, the frames that both `a` and `b` have. `kept` are the frames of `a` and of `b`.
///
/// Two zero pages are equal, whether or not the file stores their bytes.
pub fn compare_contents(a: &dyn MemoryImage, b: &dyn MemoryImage, kept: [&FrameBitmap; 2]) -> ContentsReport {
    let mut both = kept[0].clone();
    both.intersect(kept[1]);
    let mut report = ContentsReport::default();
    let (mut page_a, mut page_b) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
    for range in both.to_ranges().as_slice() {
        for pfn in (range.start.as_u64()..range.end.as_u64()).map(Pfn::new) {
            report.compared += 1;
            if a.read(pfn.addr(), &mut page_a).is_err() {
                report.unreadable_in_a += 1;
                report.add(pfn, "cannot be read from A");
            } else if b.read(pfn.addr(), &mut page_b).is_err() {
                report.unreadable_in_b += 1;
                report.add(pfn, "cannot be read from B");
            } else if page_a != page_b {
                report.different += 1;
                report.add(pfn, "the bytes differ");
            }
        }
    }
    report
}
