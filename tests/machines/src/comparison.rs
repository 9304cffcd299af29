//! Compares two dumps of the same machine.

use scanner_core::{DumpLevel, Pfn, RuleSet};
use std::path::Path;
use vmcore::frames::FrameRanges;
use vmcore::{Error, Result};
use vmcore_analysis::explain::Explanation;
use vmcore_analysis::{ContentsReport, Subject, compare_contents};

/// Maximum number of explained pages.
const EXPLAINED: usize = 8;

/// The differences between our dump and the reference's.
#[derive(Debug)]
pub struct Comparison {
    /// Number of pages in both dumps.
    pub both: u64,
    /// Pages only in the reference's dump.
    pub lost: FrameRanges,
    /// Pages only in our dump.
    pub added: FrameRanges,
    /// Whether both dumps describe the same memory.
    pub same_memory: bool,
    /// Comparison of the contents of the common pages.
    pub contents: ContentsReport,
    explained: Vec<String>,
}

impl Comparison {
    /// Compares two dumps; with `contents` also the contents of the pages.
    ///
    /// # Errors
    /// A dump cannot be read.
    pub fn new(reference: &Path, ours: &Path, contents: bool) -> Result<Self> {
        let (reference, ours) = (Subject::open_filtered(reference)?, Subject::open_filtered(ours)?);
        let (Some(reference_image), Some(our_image)) = (reference.image(), ours.image()) else {
            return Err(Error::unusable("both files must be dumps"));
        };
        let frames = reference.end().max(ours.end());
        let kept = [reference.kept(frames)?, ours.kept(frames)?];
        let [theirs, own] = [kept[0].to_ranges(), kept[1].to_ranges()];
        let (lost, added) = (theirs.minus(&own), own.minus(&theirs));
        let contents = match contents {
            true => compare_contents(reference_image, our_image, [&kept[0], &kept[1]]),
            false => ContentsReport::default(),
        };
        let differing = lost.as_slice().iter().map(|range| ("lost", range));
        let differing = differing.chain(added.as_slice().iter().map(|range| ("added", range)));
        let explained = differing.take(EXPLAINED).map(|(how, range)| {
            let verdict = Explanation::new(our_image, range.start, DumpLevel::all(), RuleSet::Makedumpfile)
                .map_or_else(|error| error.report(), |explanation| explanation.verdict);
            format!("{how} {:#x}..{:#x}: at the jump: {verdict}", range.start.as_u64(), range.end.as_u64())
        });
        Ok(Self {
            both: theirs.count() - lost.count(),
            explained: explained.collect(),
            same_memory: reference.exists() == ours.exists(),
            lost,
            added,
            contents,
        })
    }

    /// Whether the dumps are the same.
    pub fn same(&self) -> bool {
        self.is_superset() && self.added.count() == 0
    }

    /// Whether our dump has all pages of the reference's, with the same contents.
    pub fn is_superset(&self) -> bool {
        self.same_memory && self.lost.count() == 0 && self.contents.same()
    }

    /// Whether only the reference's dump has the frame.
    pub fn loses(&self, pfn: u64) -> bool {
        self.lost.contains(Pfn::new(pfn))
    }

    /// A short description.
    pub fn summary(&self) -> String {
        if self.same() {
            return format!("same, {} pages", self.both);
        }
        let mut text =
            format!("{} pages in both, {} lost, {} added", self.both, self.lost.count(), self.added.count());
        if !self.same_memory {
            text += ", different memory";
        }
        if !self.contents.same() {
            text += &format!(
                ", {} with different contents, {} unreadable",
                self.contents.different,
                self.contents.unreadable_in_a + self.contents.unreadable_in_b
            );
        }
        text
    }

    /// Explanations of the first differing pages.
    pub fn explained(&self) -> &[String] {
        &self.explained
    }
}
