//! Checks a bitmap file or a dump: its own consistency, and its bits against the rules for a machine.

use crate::because::{Frames, MAX_RANGES, because};
use crate::reference::{Exclusion, FrameDecision, KeptBecause, ReferenceScan, Rule};
use crate::subject::Subject;
use page_filter::bitmap_file::{BitmapReader, Counted, FileAsMemory, Info};
use page_filter::machine::Machine;
use scanner_core::info::v2::{self, RecordedRules, State};
use scanner_core::{DumpLevel, PAGE_SIZE, PageClass, Pfn, PfnRange, RuleSet};
use serde::Serialize;
use std::fmt;
use vmcore::dump::dumpable::DumpableFrames;
use vmcore::dump::zero::is_zero;
use vmcore::frames::FrameBitmap;
use vmcore::image::MemoryImage;
use vmcore::{Error, Result};

/// The severity of a finding. The result of a verification is the worst of all findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyOutcome {
    /// All checks hold.
    Holds,
    /// The file keeps pages that the rules exclude: it is larger than needed, but no page is lost.
    KeepsMore,
    /// The file contradicts itself: its header or counts disagree with its bits.
    Inconsistent,
    /// The file excludes pages that the rules keep.
    LosesPages,
    /// The file is of another machine, kernel or boot.
    OtherMachine,
    /// A checksum is wrong, or pages cannot be read.
    Damaged,
}

impl VerifyOutcome {
    const fn meaning(self) -> &'static str {
        match self {
            Self::Holds => "it holds",
            Self::KeepsMore => "it keeps more than needed; nothing is lost",
            Self::Inconsistent => "it contradicts itself",
            Self::LosesPages => "it LOSES pages",
            Self::OtherMachine => "it is of another machine",
            Self::Damaged => "it is damaged",
        }
    }
}

/// A check that does not hold.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The severity.
    pub verdict: VerifyOutcome,
    /// The description: a sentence without a full stop.
    pub what: String,
}

/// The dump level and rule set that the user requests. They replace what the file records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// The dump level.
    pub level: Option<DumpLevel>,
    /// The rule set.
    pub rules: Option<RuleSet>,
}

impl Asked {
    /// The rule set to compare `subject` with: the requested one, or else the recorded one, or else the default.
    pub fn rules_for(&self, subject: &Subject) -> RuleSet {
        self.rules.or(recorded(subject).1).unwrap_or_default()
    }
}

/// The result of a verification.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// The kind of file: see [`Subject::kind`].
    pub kind: &'static str,
    /// The worst of the findings.
    pub verdict: VerifyOutcome,
    /// The checks that do not hold.
    pub findings: Vec<Finding>,
    /// The checks that hold, and those that were not possible.
    pub notes: Vec<String>,
    /// The comparison with a machine; `None` without an image, or if the file is of another machine.
    pub comparison: Option<Comparison>,
}

/// The result of a comparison of a 2nd bitmap with the reference rules.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// The dump level.
    pub level: u8,
    /// The rule set.
    pub rules: &'static str,
    /// The number of frames compared.
    pub frames: u64,
    /// The number of frames that the file keeps although the rules exclude them.
    pub keeps_more: u64,
    /// The number of frames that the file excludes although the rules keep them.
    pub loses: u64,
    /// The number of frames that the file excludes although the rules keep them, and that are zero pages.
    pub zero: u64,
    /// The frames that differ: at most [`MAX_RANGES`] ranges.
    pub ranges: Vec<Mistake>,
    /// The number of ranges that are not listed.
    pub ranges_left_out: u64,
}

/// Adjacent frames whose bits are wrong in the same way.
#[derive(Clone, Debug, Serialize)]
pub struct Mistake {
    /// The frames.
    pub frames: Frames,
    /// Whether the file keeps them.
    pub kept: bool,
    /// The decision of the rules about them.
    pub rules_say: String,
}

impl VerifyReport {
    fn add_finding(&mut self, verdict: VerifyOutcome, what: impl Into<String>) {
        self.verdict = self.verdict.max(verdict);
        self.findings.push(Finding { verdict, what: what.into() });
    }

    fn add_note(&mut self, what: impl Into<String>) {
        self.notes.push(what.into());
    }
}

/// Checks the structure, the checksums and the counts of `subject`. With a `machine`, it also checks that the file is
/// of this machine, and compares every bit with the machine's rule set ([`Asked::rules_for`] selects it).
///
/// # Errors
/// Fails if the file cannot be read, if it is an unfiltered image, or if neither the file nor the user names the dump
/// level.
pub fn verify(subject: &Subject, machine: Option<&Machine<'_>>, asked: Asked) -> Result<VerifyReport> {
    let mut report = VerifyReport {
        kind: subject.kind(),
        verdict: VerifyOutcome::Holds,
        findings: Vec::new(),
        notes: Vec::new(),
        comparison: None,
    };
    match subject {
        Subject::Bitmap(reader) => check_bitmap(&mut report, reader)?,
        Subject::Dump(dump) => check_dump(&mut report, &**dump),
        Subject::Memory(_) => return Err(Error::unusable("an unfiltered image has no 2nd bitmap")),
    }
    let Some(machine) = machine else {
        report.add_note("not compared with a machine: no image was given");
        return Ok(report);
    };
    let level = asked.level.or(recorded(subject).0).ok_or_else(|| {
        Error::unusable("the file does not record its dump level")
            .with_hint("Give it with --dump-level LEVEL.")
    })?;
    if !is_same_machine(&mut report, subject, machine)? {
        report.add_note("bits were not compared: the file is of another machine");
        return Ok(report);
    }
    for rule in machine.unavailable_rules(level) {
        report.add_note(rule.reason());
    }
    let kept = subject.kept(machine.frames)?;
    let comparison = compare(subject, &kept, machine, level);
    add_findings(&mut report, subject, &comparison);
    if comparison.keeps_more + comparison.loses > 0 {
        let other = if machine.rule_set == RuleSet::Kernel { RuleSet::Makedumpfile } else { RuleSet::Kernel };
        let other_machine = Machine::new(machine.image, other)?;
        let by_other = compare(subject, &kept, &other_machine, level);
        if by_other.keeps_more + by_other.loses == 0 {
            report.add_note(format!("by the rule set {} all bits would be right", other.name()));
        }
    }
    report.comparison = Some(comparison);
    Ok(report)
}

/// The dump level and the rule set that a file records.
fn recorded(subject: &Subject) -> (Option<DumpLevel>, Option<RuleSet>) {
    match subject {
        Subject::Bitmap(reader) => match reader.info() {
            Info::V1(_) => (None, None),
            Info::V2(header) => {
                let rules = match header.rules {
                    RecordedRules::Makedumpfile => Some(RuleSet::Makedumpfile),
                    RecordedRules::Kernel => Some(RuleSet::Kernel),
                    RecordedRules::NotRecorded => None,
                };
                (header.level().and_then(|level| DumpLevel::from_number(level.into())), rules)
            }
        },
        Subject::Dump(image) | Subject::Memory(image) => {
            let filtered = image.facts().filtered.as_ref();
            (filtered.and_then(|f| DumpLevel::from_number(f.level.into())), None)
        }
    }
}

fn check_bitmap(report: &mut VerifyReport, reader: &BitmapReader<FileAsMemory>) -> Result<()> {
    let survey = reader.survey()?;
    for chunk in &survey.damaged {
        report.add_finding(
            VerifyOutcome::Damaged,
            format!(
                "chunk {} (frames {}) has the checksum {:#010x}, but {:#010x} is recorded",
                chunk.index, chunk.frames, chunk.found, chunk.expected
            ),
        );
    }
    let sealed = survey.sealed as usize + survey.damaged.len();
    report.add_note(format!("{sealed} of {} chunks have a checksum", reader.chunks().len()));
    let cleared = reader.info().frames().len() - survey.kept;
    if let Info::V2(header) = reader.info() {
        check_header(report, header);
    }
    match reader.info().counted() {
        Some(counted) => check_counts(report, counted, cleared),
        None => report.add_note("the counts are not final"),
    }
    Ok(())
}

fn check_header(report: &mut VerifyReport, header: &v2::Header) {
    let end = header.frames().end.as_u64();
    match header.state {
        State::Complete if header.scanned_up_to < end => report.add_finding(
            VerifyOutcome::Inconsistent,
            format!("the header records a complete scan that ended at frame {:#x}", header.scanned_up_to),
        ),
        State::Complete | State::NotRecorded => {}
        state => report.add_note(format!("the scan ended at frame {:#x}: {state}", header.scanned_up_to)),
    }
}

/// Compares the producer's counts with the bits.
fn check_counts(report: &mut VerifyReport, counted: Counted, cleared: u64) {
    let sum = counted.pages;
    if counted.agrees_with(cleared) {
        report.add_note(format!("{cleared} bits are clear, {sum} of them counted"));
    } else {
        report.add_finding(
            VerifyOutcome::Inconsistent,
            format!("{sum} pages are counted as left out, but {cleared} bits are clear"),
        );
    }
}

fn check_dump(report: &mut VerifyReport, dump: &dyn MemoryImage) {
    let facts = dump.facts();
    for warning in &facts.warnings {
        report.add_finding(VerifyOutcome::Damaged, warning.clone());
    }
    let Some(filtered) = &facts.filtered else { return };
    let kept = filtered.kept.to_ranges();
    let not_existing = kept.minus(&facts.exists);
    if let Some(first) = not_existing.as_slice().first() {
        report.add_finding(
            VerifyOutcome::Inconsistent,
            format!(
                "the 2nd bitmap keeps {} frames that are not in the 1st bitmap, the first is {}",
                not_existing.count(),
                first.start
            ),
        );
    }
    let (mut page, mut lost, mut first) = ([0; PAGE_SIZE], 0_u64, None);
    for range in kept.as_slice() {
        for pfn in (range.start.as_u64()..range.end.as_u64()).map(Pfn::new) {
            if dump.read(pfn.addr(), &mut page).is_err() {
                lost += 1;
                first.get_or_insert(pfn);
            }
        }
    }
    match first {
        Some(first) => report.add_finding(
            VerifyOutcome::Damaged,
            format!(
                "{lost} of {} pages cannot be read from the dump, the first is frame {first}",
                kept.count()
            ),
        ),
        None => report.add_note(format!("all {} pages of the dump can be read", kept.count())),
    }
}

/// Whether the file is of `machine`. Adds a finding for each difference.
fn is_same_machine(report: &mut VerifyReport, subject: &Subject, machine: &Machine<'_>) -> Result<bool> {
    let mut differences: Vec<String> = subject.differs_from_machine(machine).into_iter().collect();
    match subject {
        Subject::Bitmap(reader) => {
            let after_last = PfnRange::new(Pfn::new(machine.frames), reader.info().frames().end);
            let excluded = after_last.len() - count_in(&subject.kept(subject.end())?, after_last);
            if excluded > 0 {
                let last = machine.frames.saturating_sub(1);
                differences
                    .push(format!("{excluded} frames are left out after the image's last frame, {last:#x}"));
            }
            if matches!(reader.info(), Info::V1(_)) {
                report.add_note("version 1 of the format does not record the machine");
            }
        }
        Subject::Dump(dump) | Subject::Memory(dump) => {
            // Dumps of makedumpfile end where the image's memory sections end. Other dumps may be longer.
            let frames = dump.facts().max_pfn;
            if frames < machine.frames {
                differences.push(format!("the dump has {frames:#x} frames, the image {:#x}", machine.frames));
            } else if frames > machine.frames {
                report.add_note(format!(
                    "frames from {:#x} on have no struct page in the image",
                    machine.frames
                ));
            }
        }
    }
    let same = differences.is_empty();
    differences.into_iter().for_each(|what| report.add_finding(VerifyOutcome::OtherMachine, what));
    Ok(same)
}

fn count_in(bits: &FrameBitmap, range: PfnRange) -> u64 {
    bits.to_ranges().within(range).map(PfnRange::len).sum()
}

/// Compares the bits of all existing frames with the reference rules.
fn compare(subject: &Subject, kept: &FrameBitmap, machine: &Machine<'_>, level: DumpLevel) -> Comparison {
    let mut comparison =
        Comparison { level: level.bits(), rules: machine.rule_set.name(), ..Comparison::default() };
    let exists = machine.exists();
    let all = PfnRange::new(Pfn::new(0), Pfn::new(machine.frames));
    // A dump has no pages without data. A bitmap file keeps them.
    let dumpable = matches!(subject, Subject::Dump(_))
        .then(|| DumpableFrames::new(machine.image.facts(), &exists).window(all));
    let mut mistakes = Mistakes { comparison: &mut comparison, last: None };
    let mut page = [0; PAGE_SIZE];
    for run in ReferenceScan::new(machine, level) {
        for range in exists.within(run.frames) {
            mistakes.comparison.frames += range.len();
            for pfn in (range.start.as_u64()..range.end.as_u64()).map(Pfn::new) {
                let is_kept = kept.get(pfn);
                let has_data = dumpable.as_ref().is_none_or(|bits| bits.get(pfn));
                let decision =
                    if has_data { run.decision } else { FrameDecision::Kept(KeptBecause::NoFileData) };
                let should_keep = has_data && matches!(decision, FrameDecision::Kept(_));
                if is_kept == should_keep {
                    continue;
                }
                let zero = !is_kept
                    && level.contains(DumpLevel::ZERO)
                    && machine.image.read(pfn.addr(), &mut page).is_ok()
                    && is_zero(&page);
                if zero {
                    mistakes.comparison.zero += 1;
                } else {
                    mistakes.add(pfn, is_kept, decision);
                }
            }
        }
    }
    mistakes.finish();
    comparison
}

/// Merges adjacent mistakes of the same kind into ranges.
struct Mistakes<'c> {
    comparison: &'c mut Comparison,
    last: Option<(PfnRange, bool, FrameDecision)>,
}

impl Mistakes<'_> {
    fn add(&mut self, pfn: Pfn, kept: bool, decision: FrameDecision) {
        *(if kept { &mut self.comparison.keeps_more } else { &mut self.comparison.loses }) += 1;
        let end = pfn.saturating_add(1);
        match &mut self.last {
            Some((range, last_kept, last_decision))
                if range.end == pfn && *last_kept == kept && same_reason(last_decision, &decision) =>
            {
                range.end = end;
            }
            _ => {
                self.finish();
                self.last = Some((PfnRange::new(pfn, end), kept, decision));
            }
        }
    }

    fn finish(&mut self) {
        let Some((range, kept, decision)) = self.last.take() else { return };
        if self.comparison.ranges.len() < MAX_RANGES {
            let mistake = Mistake { frames: Frames(range), kept, rules_say: because(&decision) };
            self.comparison.ranges.push(mistake);
        } else {
            self.comparison.ranges_left_out += 1;
        }
    }
}

/// Whether two decisions have the same reason. The excluded blocks may differ.
fn same_reason(a: &FrameDecision, b: &FrameDecision) -> bool {
    let kind = |exclusion: &Exclusion| -> (Rule, PageClass) { (exclusion.rule, exclusion.class) };
    match (a, b) {
        (FrameDecision::Excluded(a), FrameDecision::Excluded(b)) => kind(a) == kind(b),
        _ => a == b,
    }
}

fn add_findings(report: &mut VerifyReport, subject: &Subject, comparison: &Comparison) {
    if comparison.loses > 0 {
        report.add_finding(
            VerifyOutcome::LosesPages,
            format!("LOSES {} that the rules keep", pages(comparison.loses)),
        );
    }
    if comparison.keeps_more > 0 {
        let mut what = format!("keeps {} more than needed", pages(comparison.keeps_more));
        if let Subject::Bitmap(reader) = subject
            && let Info::V2(header) = reader.info()
            && !matches!(header.state, State::Complete | State::NotRecorded)
        {
            what += &format!("; its scan ended at frame {:#x}: {}", header.scanned_up_to, header.state);
        }
        report.add_finding(VerifyOutcome::KeepsMore, what);
    }
    if comparison.zero > 0 {
        report.add_note(format!("left out because they are zero pages: {}", pages(comparison.zero)));
    }
}

fn pages(count: u64) -> String {
    if count == 1 { "1 page".to_owned() } else { format!("{count} pages") }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        if let Some(comparison) = &self.comparison {
            let Comparison { level, rules, frames, .. } = comparison;
            writeln!(f, "  {frames} frames compared at dump level {level}, rule set {rules}")?;
            for mistake in &comparison.ranges {
                let (frames, verb) = (mistake.frames, if mistake.kept { "keeps" } else { "LOSES" });
                writeln!(f, "  {verb} {frames:<24} {:>8}; {}", frames.0.len(), mistake.rules_say)?;
            }
            if comparison.ranges_left_out > 0 {
                writeln!(f, "  ... and {} ranges more", comparison.ranges_left_out)?;
            }
        }
        for finding in &self.findings {
            writeln!(f, "! {}", finding.what)?;
        }
        writeln!(f, "The {}: {}.", self.kind, self.verdict.meaning())
    }
}
