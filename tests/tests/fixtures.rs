//! Scans of the trimmed vmcores, compared with makedumpfile bit for bit.

use cdbitmap::frames::{FrameBitmap, FrameRanges};
use cdbitmap::image::{ImageFacts, OpenOptions, open};
use cross_tests::fixture::{self, Fixture};
use cross_tests::scan::scan;
use scanner_core::{DumpLevel, RuleSet};

/// The 1st bitmap as makedumpfile makes it by default.
fn first_bitmap(facts: &ImageFacts) -> FrameRanges {
    if facts.makedumpfile_goes_in_cycles() { facts.exists_in_cycles() } else { facts.exists.clone() }
}

/// Where the bitmaps differ, for the message.
fn difference(ours: &FrameBitmap, theirs: &FrameBitmap) -> String {
    let (kept, dropped) =
        (ours.to_ranges().minus(&theirs.to_ranges()), theirs.to_ranges().minus(&ours.to_ranges()));
    format!("kept although makedumpfile drops them: {kept:?}; dropped although it keeps them: {dropped:?}")
}

#[test]
fn second_bitmaps_are_makedumpfiles_at_every_level() {
    let names = fixture::names();
    assert!(!names.is_empty(), "no fixtures");
    for name in names {
        let fixture = Fixture::unpack(&name);
        let image = open(fixture.path(), &OpenOptions::default()).unwrap();
        let max_mapnr = fixture.bitmaps.max_mapnr;
        let exists = FrameBitmap::from_ranges(&first_bitmap(image.facts()), max_mapnr);
        for (number, theirs) in (0..).zip(&fixture.bitmaps.levels) {
            let level = DumpLevel::from_number(number).unwrap();
            let mut ours = exists.clone();
            ours.intersect(&scan(&*image, level, RuleSet::Makedumpfile).unwrap());
            assert!(ours == *theirs, "{name}, level {number}: {}", difference(&ours, theirs));
        }
    }
}
