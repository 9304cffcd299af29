//! The reports of `verify`, `diff` and `explain` about bitmaps and pages.

use cross_tests::fixture::Fixture;
use cross_tests::synth::{file, small};
use page_filter::bitmap_file::{BitmapFile, Info};
use page_filter::machine::Machine;
use page_filter::scan::scan;
use scanner_core::info::{Version, v2};
use scanner_core::scan::{Checkpoint, RunToCompletion};
use scanner_core::{DumpLevel, Pfn, PfnRange, RuleSet};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;
use tempfile::{NamedTempFile, TempDir};
use vmcore::image::{MemoryImage, OpenOptions, open};
use vmcore_analysis::explain::Explanation;
use vmcore_analysis::reference::{FrameDecision, KeptBecause, ReferenceScan, Rule};
use vmcore_analysis::{Asked, Subject, VerifyOutcome, VerifyReport, diff, verify};
use vmcore_synth::{KernelGeneration, Spec};

const ALL_BUT_ZERO: DumpLevel = DumpLevel::all().difference(DumpLevel::ZERO);

/// A simulated machine and a directory for bitmaps of it.
struct Setting {
    image: Box<dyn MemoryImage>,
    directory: TempDir,
    _file: NamedTempFile,
}

impl Setting {
    fn new(generation: &str, seed: u64) -> Self {
        let generation = KernelGeneration::named(generation).unwrap();
        let (file, _) = file(&Spec { seed, ..small(generation) });
        let image = open(file.path(), &OpenOptions::default()).unwrap();
        Self { image, directory: tempfile::tempdir().unwrap(), _file: file }
    }

    /// The bitmap of a scan that `checkpoint` may stop.
    fn bitmap(&self, level: DumpLevel, rules: RuleSet, checkpoint: &mut dyn Checkpoint) -> BitmapFile {
        let machine = Machine::new(&*self.image, rules).unwrap();
        let scanned = scan(&machine, level, checkpoint);
        BitmapFile::of_scan(&machine, level, &scanned, Version::V2, Duration::ZERO).unwrap()
    }

    /// Simulated pages are all zero, so zero pages stay.
    fn full(&self) -> BitmapFile {
        self.bitmap(ALL_BUT_ZERO, RuleSet::Makedumpfile, &mut RunToCompletion)
    }

    fn open(&self, name: &str, bytes: &[u8]) -> Subject {
        let path = self.directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Subject::open_filtered(&path).unwrap()
    }

    fn verify(&self, bytes: &[u8], asked: Asked) -> VerifyReport {
        let subject = self.open("verified", bytes);
        let machine = Machine::new(&*self.image, asked.rules_for(&subject)).unwrap();
        verify(&subject, Some(&machine), asked).unwrap()
    }

    fn verify_file(&self, file: &BitmapFile) -> VerifyReport {
        self.verify(&file.to_bytes().unwrap(), Asked::default())
    }
}

/// Flips the bit of the first frame that is kept, or excluded, and exists.
fn flip(setting: &Setting, file: &mut BitmapFile, kept: bool) -> Pfn {
    let exists = &setting.image.facts().exists;
    let pfn = exists
        .as_slice()
        .iter()
        .flat_map(|range| (range.start.as_u64()..range.end.as_u64()).map(Pfn::new))
        .find(|pfn| file.bits.get(*pfn) == kept)
        .unwrap();
    let one = PfnRange::from_start(pfn, 1);
    if kept {
        file.bits.clear_range(one);
    } else {
        file.bits.set_range(one);
    }
    pfn
}

#[test]
fn a_bitmap_of_the_same_machine_is_valid() {
    let setting = Setting::new("6.12", 1);
    for (level, rules) in [(30, RuleSet::Makedumpfile), (31, RuleSet::Kernel), (0, RuleSet::Makedumpfile)] {
        let level = DumpLevel::from_number(level).unwrap();
        let report = setting.verify_file(&setting.bitmap(level, rules, &mut RunToCompletion));
        assert_eq!(report.verdict, VerifyOutcome::Holds, "{report}");
        assert!(report.comparison.unwrap().frames > 60_000);
    }
}

#[test]
fn a_lost_page_is_reported_with_its_rule() {
    let setting = Setting::new("6.12", 1);
    let mut file = setting.full();
    let pfn = flip(&setting, &mut file, true);
    let report = setting.verify_file(&file);
    assert_eq!(report.verdict, VerifyOutcome::LosesPages);
    let comparison = report.comparison.as_ref().unwrap();
    assert_eq!((comparison.loses, comparison.keeps_more), (1, 0));
    assert_eq!(comparison.ranges[0].frames.0, PfnRange::from_start(pfn, 1));
    let text = report.to_string();
    assert!(text.contains("LOSES 1 page that the rules keep") && text.contains("; kept by rule"), "{text}");
    assert!(text.contains("pages are counted as left out, but"), "{text}");
}

#[test]
fn an_additional_page_is_not_a_loss() {
    let setting = Setting::new("6.12", 1);
    let mut file = setting.full();
    flip(&setting, &mut file, false);
    let Info::V2(header) = &mut file.info else { panic!("not version 2") };
    // So that the counts still agree.
    header.cache_pages = v2::NOT_COUNTED;
    let report = setting.verify_file(&file);
    assert_eq!(report.verdict, VerifyOutcome::KeepsMore, "{report}");
    let text = report.to_string();
    assert!(text.contains("keeps 1 page more than needed") && text.contains("left out as"), "{text}");
    assert!(!text.contains("LOSES"), "{text}");
}

#[test]
fn a_scan_that_stopped_keeps_more_and_says_why() {
    /// Stops at the first checkpoint from frame 0x4000 on, and records its frame.
    struct Early(Option<u64>);
    impl Checkpoint for Early {
        fn check(&mut self, next: Pfn) -> ControlFlow<()> {
            if next < Pfn::new(0x4000) {
                return ControlFlow::Continue(());
            }
            self.0.get_or_insert(next.as_u64());
            ControlFlow::Break(())
        }
    }
    let setting = Setting::new("6.12", 1);
    let mut early = Early(None);
    let report = setting.verify_file(&setting.bitmap(DumpLevel::all(), RuleSet::Makedumpfile, &mut early));
    assert_eq!(report.verdict, VerifyOutcome::KeepsMore, "{report}");
    // Adjacent free blocks are excluded in one operation, at most up to the end of a memory section (128 MiB).
    let stopped = early.0.unwrap();
    assert!((0x4000..=0x8000).contains(&stopped), "{stopped:#x}");
    let ended = format!("more than needed; its scan ended at frame {stopped:#x}: cancelled");
    assert!(report.to_string().contains(&ended), "{report}");
}

#[test]
fn a_bitmap_of_another_machine_is_reported_and_not_compared() {
    let (setting, older) = (Setting::new("6.12", 1), Setting::new("6.1", 1));
    let mut rebooted = setting.full();
    let Info::V2(header) = &mut rebooted.info else { panic!("not version 2") };
    header.vmcoreinfo_crc ^= 1;
    for (other, what) in [(rebooted, "another boot"), (older.full(), "its kernel is 6.1")] {
        let report = setting.verify_file(&other);
        assert_eq!(report.verdict, VerifyOutcome::OtherMachine, "{report}");
        assert!(report.comparison.is_none() && report.to_string().contains(what), "{report}");
    }
}

#[test]
fn a_flipped_bit_in_the_file_is_damage() {
    let setting = Setting::new("6.12", 1);
    let mut bytes = setting.full().to_bytes().unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let report = setting.verify(&bytes, Asked::default());
    assert_eq!(report.verdict, VerifyOutcome::Damaged);
    assert!(report.to_string().contains("chunk 0 (frames 0x0.."), "{report}");
}

#[test]
fn invalid_bitmap_files_are_rejected() {
    let setting = Setting::new("6.12", 1);
    let bytes = setting.full().to_bytes().unwrap();
    let refused = |bytes: &[u8]| {
        let path = setting.directory.path().join("refused");
        std::fs::write(&path, bytes).unwrap();
        Subject::open_filtered(&path).err().unwrap().report()
    };
    assert!(refused(&bytes[..bytes.len() - 1]).contains("The file is truncated"));
    let mut newer = bytes.clone();
    newer[8] = 3;
    assert!(refused(&newer).contains("newer producer"));
    assert!(Subject::open_filtered(Path::new("/nowhere/bitmap")).is_err());
}

#[test]
fn version_1_needs_a_level_and_is_valid() {
    let setting = Setting::new("6.12", 1);
    let bytes = setting.full().convert(Version::V1).unwrap().file.to_bytes().unwrap();
    let subject = setting.open("version 1", &bytes);
    let machine = Machine::new(&*setting.image, RuleSet::Makedumpfile).unwrap();
    let error = verify(&subject, Some(&machine), Asked::default()).err().unwrap().report();
    assert!(error.contains("--dump-level"), "{error}");
    let report = setting.verify(&bytes, Asked { level: Some(ALL_BUT_ZERO), rules: None });
    assert_eq!(report.verdict, VerifyOutcome::Holds, "{report}");
    // At a level that keeps free pages the bitmap excludes too many pages.
    let report = setting.verify(&bytes, Asked { level: DumpLevel::from_number(14), rules: None });
    assert_eq!(report.verdict, VerifyOutcome::LosesPages);
}

/// At a level that excludes zero pages, an excluded zero page is not a loss although no rule excludes it.
#[test]
fn a_zero_page_may_be_excluded_if_the_level_allows_it() {
    let setting = Setting::new("6.12", 1);
    let mut file = setting.bitmap(DumpLevel::all(), RuleSet::Makedumpfile, &mut RunToCompletion);
    flip(&setting, &mut file, true);
    let Info::V2(header) = &mut file.info else { panic!("not version 2") };
    header.zero_pages = 1;
    let report = setting.verify_file(&file);
    assert_eq!((report.verdict, report.comparison.unwrap().zero), (VerifyOutcome::Holds, 1));
}

#[test]
fn a_matching_other_rule_set_is_reported() {
    let setting = Setting::new("6.12", 1);
    let file = setting.bitmap(ALL_BUT_ZERO, RuleSet::Kernel, &mut RunToCompletion);
    let asked = Asked { level: None, rules: Some(RuleSet::Makedumpfile) };
    let report = setting.verify(&file.to_bytes().unwrap(), asked);
    assert_ne!(report.verdict, VerifyOutcome::Holds, "the machine has no page that the rule sets differ on");
    assert!(report.to_string().contains("by the rule set kernel all bits would be right"), "{report}");
}

#[test]
fn a_difference_is_listed_with_its_rule() {
    let setting = Setting::new("6.12", 1);
    let all = setting.full();
    let free = setting.bitmap(DumpLevel::FREE, RuleSet::Makedumpfile, &mut RunToCompletion);
    let machine = Machine::new(&*setting.image, RuleSet::Makedumpfile).unwrap();
    let a = setting.open("a", &all.to_bytes().unwrap());
    let b = setting.open("b", &free.to_bytes().unwrap());
    let report = diff(&a, &b, Some((&machine, DumpLevel::all())), false).unwrap();
    assert!(!report.same() && report.only_in_a == 0 && report.only_in_b > 0, "{report}");
    assert_eq!(
        report.compared,
        Some(
            machine
                .exists()
                .within(PfnRange::new(Pfn::new(0), Pfn::new(machine.frames)))
                .map(|r| r.len())
                .sum()
        )
    );
    for range in &report.ranges {
        let say = range.rules_say.as_deref().unwrap();
        assert!(
            range.kept_by == "B" && say.starts_with("left out as") && !say.contains("free page"),
            "{say}"
        );
    }
    assert!(diff(&a, &a, None, false).unwrap().same());
    let contents = diff(&a, &b, None, true).unwrap();
    assert!(contents.notes.iter().any(|note| note.contains("a bitmap file has none")), "{contents}");
}

/// For each rule that decides about a page of the machine: the first such frame.
fn examples(image: &dyn MemoryImage) -> BTreeMap<Rule, Pfn> {
    let machine = Machine::new(image, RuleSet::Makedumpfile).unwrap();
    let mut examples = BTreeMap::new();
    for run in ReferenceScan::new(&machine, DumpLevel::all()) {
        match run.decision {
            FrameDecision::Excluded(exclusion) => {
                examples.entry(exclusion.rule).or_insert(run.frames.end.as_u64() - 1)
            }
            FrameDecision::Kept(KeptBecause::Rule(rule)) => {
                examples.entry(rule).or_insert(run.frames.start.as_u64())
            }
            FrameDecision::Kept(_) => continue,
        };
    }
    examples.into_iter().map(|(rule, pfn)| (rule, Pfn::new(pfn))).collect()
}

#[test]
fn pages_of_every_generation_are_explained() {
    for name in ["5.10", "6.1-numa", "6.12-hotplug", "7.2"] {
        let fixture = Fixture::unpack(name);
        let image = open(fixture.path(), &OpenOptions::default()).unwrap();
        let texts: Vec<String> = examples(&*image)
            .into_iter()
            .map(|(rule, pfn)| {
                let text = Explanation::new(&*image, pfn, DumpLevel::all(), RuleSet::Makedumpfile).unwrap();
                format!("{rule}:\n{text}")
            })
            .collect();
        insta::assert_snapshot!(format!("explain_{name}"), texts.join("\n"));
    }
}

#[test]
fn a_difference_between_the_rule_sets_is_explained() {
    let setting = Setting::new("6.12", 1);
    let [makedumpfile, kernel] = [RuleSet::Makedumpfile, RuleSet::Kernel]
        .map(|rules| setting.bitmap(DumpLevel::all(), rules, &mut RunToCompletion));
    let only = makedumpfile.bits.to_ranges().minus(&kernel.bits.to_ranges());
    let mut named = Vec::new();
    for range in only.as_slice() {
        let explained =
            Explanation::new(&*setting.image, range.start, DumpLevel::all(), RuleSet::Kernel).unwrap();
        named.extend(explained.differences.iter().map(|difference| difference.name));
        assert!(!explained.differences.is_empty(), "{explained}");
        assert!(explained.levels.iter().any(|at| at.kernel.is_some()), "{explained}");
    }
    assert!(!named.is_empty(), "the machine has no page that the rule sets differ on");
}
