//! How two dumps of the same machine differ.

use scanner_core::{DumpLevel, Pfn, RuleSet};
use std::path::Path;
use vmcore::frames::FrameRanges;
use vmcore::{Error, Result};
use vmcore_analysis::explain::Explanation;
use vmcore_analysis::{ContentsReport, Subject, compare_contents};

/// Pages that get an explanation, at most.
const EXPLAINED: usize = 8;

/// Our dump beside the reference's.
#[derive(Debug)]
pub struct Comparison {
    /// Pages that both have.
    pub both: u64,
    /// Pages that only the reference has.
    pub lost: FrameRanges,
    /// Pages that only ours has.
    pub added: FrameRanges,
    /// Whether the dumps are of the same memory.
    pub same_memory: bool,
    /// The contents of the pages that both have.
    pub contents: ContentsReport,
    explained: Vec<String>,
}

impl Comparison {
    /// Compares two dumps; with `contents` also the pages.
    ///
    /// # Errors
    /// One can't be read.
    pub fn new(reference: &Path, ours: &Path, contents: bool) -> Result<Self> {
        let (reference, ours) = (Subject::open_filtered(reference)?, Subject::open_filtered(ours)?);
        let (Some(reference_image), Some(our_image)) = (reference.image(), ours.image()) else {
            return Err(Error::unusable("two dumps are needed"));
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

    /// Whether ours has all that the reference has, with the same contents.
    pub fn is_superset(&self) -> bool {
        self.same_memory && self.lost.count() == 0 && self.contents.same()
    }

    /// The frame, if it is one that only the reference has.
    pub fn loses(&self, pfn: u64) -> bool {
        self.lost.contains(Pfn::new(pfn))
    }

    /// In a few words.
    pub fn summary(&self) -> String {
        if self.same() {
            return format!("same, {} pages", self.both);
        }
        let mut text =
            format!("{} pages in both, {} lost, {} added", self.both, self.lost.count(), self.added.count());
        if !self.same_memory {
            text += ", not of the same memory";
        }
        if !self.contents.same() {
            text += &format!(
                ", {} with other contents, {} unreadable",
                self.contents.different,
                self.contents.unreadable_in_a + self.contents.unreadable_in_b
            );
        }
        text
    }

    /// What the first differing pages are.
    pub fn explained(&self) -> &[String] {
        &self.explained
    }
}
