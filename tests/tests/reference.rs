//! The scanner against the reference: two implementations of the same rules must agree on everything.

use cross_tests::fixture::{self, Fixture};
use cross_tests::simulated::{Dice, EXPORTS, SimulatedMachine, random_page};
use cross_tests::synth::{file, small};
use page_filter::machine::Machine;
use page_filter::scan::scan;
use proptest::prelude::*;
use scanner_core::rules::Decision;
use scanner_core::scan::RunToCompletion;
use scanner_core::{Counters, DumpLevel, Pfn, RuleSet, Rules};
use std::collections::BTreeSet;
use std::path::Path;
use vmcore::image::{MemoryImage, OpenOptions, open};
use vmcore_analysis::reference::{Difference, Fixes, FrameDecision, Judge, PageFacts, ReferenceScan, Rule};
use vmcore_synth::Spec;

const RULE_SETS: [RuleSet; 2] = [RuleSet::Makedumpfile, RuleSet::Kernel];

/// Number of random cases. Some decisions need a rare combination, which occurs in each run with this number.
const PAGES_PER_CASE: usize = 64;

fn levels() -> impl Iterator<Item = DumpLevel> {
    (0..32).filter_map(DumpLevel::from_number)
}

/// The reference's decision, as the scanner's type.
fn decision(judge: &Judge<'_>, page: &PageFacts, level: DumpLevel) -> Decision {
    let decision = judge.decide(page, level);
    match decision.class {
        Some(class) => Decision::Exclude { class, frames: decision.frames },
        None if decision.rule == Rule::BadOrder => Decision::KeepBadOrder,
        None => Decision::Keep,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn decisions_agree_for_each_page(
        generation in prop::sample::select(&EXPORTS[..]),
        seed: u64,
        pfn in prop_oneof![0_u64..4096, (0_u64..64).prop_map(|n| n * 512), (0_u64..8).prop_map(|n| n << 18)],
        has_next: bool,
    ) {
        let (layout, mut dice) = (generation.layout(), Dice::new(seed));
        for _ in 0..PAGES_PER_CASE {
            let (page, next) = (random_page(&layout, &mut dice), random_page(&layout, &mut dice));
            let next = has_next.then_some(&next[..]);
            let facts = PageFacts::read(&layout, Pfn::new(pfn), &page, next);
            for rule_set in RULE_SETS {
                let judge = Judge::new(&layout, Fixes::of(rule_set));
                for level in levels() {
                    let ours = Rules::new(&layout, level, rule_set);
                    prop_assert_eq!(
                        ours.decide(Pfn::new(pfn), &page, next),
                        decision(&judge, &facts, level),
                        "{}, {:?}, level {}, {:#?}", generation.name, rule_set, level.bits(), facts
                    );
                    prop_assert_eq!(ours.need_scan(), judge.scans_at(level));
                }
            }
        }
    }
}

/// Compares bitmaps, counters and unreadable ranges.
fn compare(image: &dyn MemoryImage, rule_set: RuleSet, level: DumpLevel, what: &str) {
    let machine = Machine::new(image, rule_set).unwrap_or_else(|error| panic!("{what}: {error}"));
    let ours = scan(&machine, level, &mut RunToCompletion);
    let mut counters = Counters::default();
    let mut bitmap = vmcore::frames::FrameBitmap::ones(machine.frames);
    let mut next = Pfn::new(0);
    for run in ReferenceScan::new(&machine, level) {
        assert_eq!(run.frames.start, next, "{what}: a gap between runs");
        next = run.frames.end;
        if let FrameDecision::Excluded(exclusion) = run.decision {
            counters.add(exclusion.class, run.frames.len());
            bitmap.clear_range(run.frames);
        }
    }
    assert_eq!(next.as_u64(), machine.frames, "{what}: the last frame");
    let level = level.bits();
    let differ = |kept: &vmcore::frames::FrameBitmap, lost: &vmcore::frames::FrameBitmap| {
        kept.to_ranges().minus(&lost.to_ranges())
    };
    assert!(
        ours.bitmap == bitmap,
        "{what}, {rule_set:?}, level {level}: only the scanner keeps {:?}, only the reference {:?}",
        differ(&ours.bitmap, &bitmap),
        differ(&bitmap, &ours.bitmap)
    );
    assert_eq!(ours.findings.counters, counters, "{what}, {rule_set:?}, level {level}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn scans_agree_on_random_machines(
        generation in prop::sample::select(&EXPORTS[..]),
        seed: u64,
        levels in prop::collection::vec((0_u64..32).prop_filter_map("a level", DumpLevel::from_number), 6),
    ) {
        let machine = SimulatedMachine::new(&generation, &mut Dice::new(seed));
        for level in levels {
            for rule_set in RULE_SETS {
                compare(&machine, rule_set, level, generation.name);
            }
        }
    }
}

/// Simulated machines have edge cases, free lists, and all memory models.
#[test]
fn scans_agree_on_simulated_machines() {
    for generation in vmcore_synth::GENERATIONS {
        for hand_keys in [true, false] {
            let (file, _) = file(&Spec { hand_keys, ..small(generation) });
            let image = open(file.path(), &OpenOptions::default()).unwrap();
            for rule_set in RULE_SETS {
                compare(&*image, rule_set, DumpLevel::all(), generation.name);
                compare(&*image, rule_set, DumpLevel::USER | DumpLevel::FREE, generation.name);
            }
        }
    }
}

#[test]
fn scans_agree_on_real_machines() {
    for name in fixture::names() {
        let fixture = Fixture::unpack(&name);
        let image = open(fixture.path(), &OpenOptions::default()).unwrap();
        for rule_set in RULE_SETS {
            compare(&*image, rule_set, DumpLevel::all(), &name);
        }
    }
}

/// Compares scans of the vmcores in `$VMCORES`, separated by colons, at every level. Takes minutes.
#[test]
#[ignore = "needs vmcores"]
fn scans_agree_on_given_vmcores_at_every_level() {
    let paths = std::env::var("VMCORES").expect("VMCORES is set to paths of vmcores");
    for path in paths.split(':') {
        let image = open(Path::new(path), &OpenOptions::default()).unwrap();
        for rule_set in RULE_SETS {
            levels().for_each(|level| compare(&*image, rule_set, level, path));
        }
        eprintln!("{path}: the scans agree");
    }
}

/// The random pages reach every rule, and every difference that depends on a single page.
#[test]
fn random_pages_reach_every_rule_and_difference() {
    let (mut rules, mut differences) = (BTreeSet::new(), BTreeSet::new());
    for generation in &EXPORTS {
        let (layout, mut dice) = (generation.layout(), Dice::new(1));
        for _ in 0..3000 {
            let (page, next) = (random_page(&layout, &mut dice), random_page(&layout, &mut dice));
            let facts = PageFacts::read(&layout, Pfn::new(512), &page, Some(&next));
            for level in levels() {
                rules.insert(Judge::new(&layout, Fixes::NONE).decide(&facts, level).rule);
                differences.extend(Judge::differences(&layout, &facts, level));
            }
        }
    }
    // The rule of the free lists does not depend on a single page.
    assert!(rules.iter().eq(Rule::ALL.iter().filter(|rule| **rule != Rule::FreeList)), "{rules:?}");
    // The other two depend on the location of struct pages and on the existing frames.
    assert!(differences.iter().eq(&Difference::ALL[..4]), "{differences:?}");
}

#[test]
fn the_document_lists_the_rules_and_differences_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Documentation/reference/rules.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rules = Rule::ALL.map(|rule| {
        let level = match rule.level().bits() {
            0 => "any".to_owned(),
            bit => bit.to_string(),
        };
        let (number, name, condition) = (rule.number(), rule.name(), rule.condition());
        format!("| {number} | {name} | {level} | {condition} | {} |", rule.extent())
    });
    let differences = Difference::ALL.map(|difference| {
        let (name, kernels, explanation) =
            (difference.name(), difference.kernels(), difference.explanation());
        format!("### {name}\n\nKernels: {kernels}.\n\n{explanation}\n\nPages: {}.\n", difference.pages())
    });
    for part in rules.iter().chain(&differences) {
        assert!(text.contains(part.as_str()), "Documentation/reference/rules.md lacks:\n{part}");
    }
    assert_eq!(
        text.matches("\n### ").count(),
        Difference::ALL.len(),
        "the document has a difference that the code does not have"
    );
}
