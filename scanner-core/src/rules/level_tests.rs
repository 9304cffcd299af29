use super::*;
use std::string::ToString;
use std::vec::Vec;

#[test]
fn levels_are_numbers_up_to_31() {
    for level in 0..32 {
        assert_eq!(DumpLevel::from_number(level).map(|level| u64::from(level.bits())), Some(level));
    }
    for level in [32, 33, 255, 256, u64::MAX] {
        assert_eq!(DumpLevel::from_number(level), None, "{level}");
    }
}

#[test]
fn classes_are_excluded_at_their_levels() {
    for number in 0..32 {
        let level = DumpLevel::from_number(number).unwrap();
        let excluded: Vec<PageClass> =
            PageClass::ALL.into_iter().filter(|c| c.is_excluded_at(level)).collect();
        let mut expected = Vec::new();
        if number & 16 != 0 {
            expected.extend([PageClass::Free, PageClass::Unaccepted]);
        }
        if number & 6 != 0 {
            expected.push(PageClass::Cache);
        }
        if number & 4 != 0 {
            expected.push(PageClass::CachePrivate);
        }
        if number & 8 != 0 {
            expected.push(PageClass::User);
        }
        expected.extend([PageClass::Hwpoison, PageClass::Offline]);
        assert_eq!(excluded, expected, "level {number}");
    }
}

#[test]
fn classes_and_rule_sets_have_the_names_of_the_reports() {
    let names: Vec<_> = PageClass::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["free", "unaccepted", "cache", "cache_private", "user", "hwpoison", "offline"]);
    assert_eq!(PageClass::ALL.map(PageClass::name).to_vec(), names);
    assert_eq!([RuleSet::Makedumpfile, RuleSet::Kernel].map(RuleSet::name), ["makedumpfile", "kernel"]);
}

#[test]
fn each_class_has_its_own_counter() {
    let mut counters = Counters::default();
    for (pages, class) in (1..).zip(PageClass::ALL) {
        counters.add(class, pages);
        counters.add(class, 100 * pages);
    }
    let counted = PageClass::ALL.map(|class| counters.get(class));
    assert_eq!(counted, [101, 202, 303, 404, 505, 606, 707]);
    assert_eq!(counters.total(), 101 * 28);
}

#[test]
fn counters_stay_at_their_largest_number() {
    let mut counters = Counters::default();
    counters.add(PageClass::User, u64::MAX);
    counters.add(PageClass::User, 1);
    counters.add(PageClass::Free, 1);
    assert_eq!(counters.get(PageClass::User), u64::MAX);
    assert_eq!(counters.total(), u64::MAX);
}

#[test]
fn bits_that_are_cleared_count_once() {
    let mut counters = Counters::default();
    let mut word = 0xff0f;
    let mut which = FramesByClass::default();
    which[PageClass::Free as usize] = 0x0fff;
    which[PageClass::User as usize] = 0x3000;
    counters.clear(&mut word, &which);
    assert_eq!(word, 0xc000);
    assert_eq!((counters.get(PageClass::Free), counters.get(PageClass::User)), (8, 2));
    counters.clear(&mut word, &which);
    assert_eq!((word, counters.total()), (0xc000, 10));
}

#[test]
fn frames_come_as_runs_class_by_class() {
    let mut which = FramesByClass::default();
    which[PageClass::Free as usize] = 0b1101;
    which[PageClass::Offline as usize] = 1 << 63;
    let runs: Vec<_> = runs_by_class(Pfn::new(128), &which)
        .map(|(frames, class)| (frames.start.as_u64(), frames.len(), class))
        .collect();
    assert_eq!(runs, [(128, 1, PageClass::Free), (130, 2, PageClass::Free), (191, 1, PageClass::Offline)]);
}
