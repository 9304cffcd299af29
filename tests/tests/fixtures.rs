//! Scans of the trimmed vmcores, compared with makedumpfile bit for bit.

use cross_tests::fixture::{self, Fixture};
use cross_tests::trim::Trimmed;
use page_filter::machine::Machine;
use page_filter::scan::scan;
use scanner_core::scan::RunToCompletion;
use scanner_core::{DumpLevel, PAGE_SIZE, Pfn, RuleSet};
use vmcore::frames::FrameBitmap;
use vmcore::image::{OpenOptions, open};

/// The differences of the bitmaps, for the message.
fn difference(ours: &FrameBitmap, theirs: &FrameBitmap) -> String {
    let (kept, dropped) =
        (ours.to_ranges().minus(&theirs.to_ranges()), theirs.to_ranges().minus(&ours.to_ranges()));
    format!("only ours keeps: {kept:?}; only makedumpfile keeps: {dropped:?}")
}

#[test]
fn second_bitmaps_equal_makedumpfiles_at_every_level() {
    let names = fixture::names();
    assert!(!names.is_empty(), "no fixtures");
    for name in names {
        let fixture = Fixture::unpack(&name);
        let image = open(fixture.path(), &OpenOptions::default()).unwrap();
        let machine = Machine::new(&*image, RuleSet::Makedumpfile).unwrap();
        assert_eq!(machine.frames, fixture.bitmaps.max_mapnr, "{name}");
        let exists = FrameBitmap::from_ranges(&machine.exists(), machine.frames);
        for (number, theirs) in (0..).zip(&fixture.bitmaps.levels) {
            let level = DumpLevel::from_number(number).unwrap();
            let mut ours = exists.clone();
            ours.intersect(&scan(&machine, level, &mut RunToCompletion).bitmap);
            assert!(ours == *theirs, "{name}, level {number}: {}", difference(&ours, theirs));
        }
    }
}

/// A fixture contains only the bytes that a scan needs.
#[test]
fn trimming_a_fixture_again_changes_nothing() {
    let fixture = Fixture::unpack("6.12");
    let image = open(fixture.path(), &OpenOptions::default()).unwrap();
    let trimmed = Trimmed::of(&*image).unwrap();
    let (mut page, mut not_zero) = ([0; PAGE_SIZE], 0);
    for range in image.facts().backed.as_slice() {
        for pfn in (range.start.as_u64()..range.end.as_u64()).map(Pfn::new) {
            image.read(pfn.addr(), &mut page).unwrap();
            assert!(trimmed.page(pfn).unwrap_or(&[0; PAGE_SIZE]) == &page, "frame {pfn}");
            not_zero += u32::from(page != [0; PAGE_SIZE]);
        }
    }
    assert!(not_zero > 2048, "at least the struct pages of 512 MiB, but {not_zero} pages");
}
