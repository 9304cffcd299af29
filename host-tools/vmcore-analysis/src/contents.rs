//! Comparing the contents of pages that two images hold.

use crate::because::{Frames, MAX_RANGES};
use scanner_core::{PAGE_SIZE, Pfn, PfnRange};
use serde::Serialize;
use vmcore::frames::FrameBitmap;
use vmcore::image::MemoryImage;

/// What a comparison of contents showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ContentsReport {
    /// Pages that both hold.
    pub compared: u64,
    /// Pages of them whose bytes differ.
    pub different: u64,
    /// Pages that A says it holds, but that can't be read from it.
    pub unreadable_in_a: u64,
    /// The same of B.
    pub unreadable_in_b: u64,
    /// Where these pages are; the first thousand ranges.
    pub ranges: Vec<ContentsRange>,
    /// Ranges that are not listed.
    pub ranges_left_out: u64,
}

/// Pages that differ in the same way.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ContentsRange {
    /// The frames.
    pub frames: Frames,
    /// How they differ.
    pub how: &'static str,
}

impl ContentsReport {
    /// Whether all pages could be compared and are the same.
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

/// Compares, page by page, the frames that both `a` and `b` hold, given the frames that each holds. A page of zeros
/// is a page of zeros however it is stored.
pub fn compare_contents(a: &dyn MemoryImage, b: &dyn MemoryImage, held: [&FrameBitmap; 2]) -> ContentsReport {
    let mut both = held[0].clone();
    both.intersect(held[1]);
    let mut report = ContentsReport::default();
    let (mut page_a, mut page_b) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
    for range in both.to_ranges().as_slice() {
        for pfn in (range.start.as_u64()..range.end.as_u64()).map(Pfn::new) {
            report.compared += 1;
            if a.read(pfn.addr(), &mut page_a).is_err() {
                report.unreadable_in_a += 1;
                report.add(pfn, "can't be read from A");
            } else if b.read(pfn.addr(), &mut page_b).is_err() {
                report.unreadable_in_b += 1;
                report.add(pfn, "can't be read from B");
            } else if page_a != page_b {
                report.different += 1;
                report.add(pfn, "the bytes differ");
            }
        }
    }
    report
}
