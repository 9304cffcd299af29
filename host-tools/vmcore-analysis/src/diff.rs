//! Compares two 2nd bitmaps.

use crate::because::{Frames, MAX_RANGES, because};
use crate::contents::{ContentsReport, compare_contents};
use crate::reference::ReferenceScan;
use crate::subject::{Subject, differing_line};
use page_filter::machine::Machine;
use scanner_core::{DumpLevel, Pfn, PfnRange};
use serde::Serialize;
use std::fmt;
use vmcore::Result;
use vmcore::dump::dumpable::DumpableFrames;
use vmcore::frames::{FrameBitmap, FrameRanges};

/// The result of a comparison of two files, A and B.
#[derive(Clone, Debug, Serialize)]
pub struct DiffReport {
    /// The kinds of A and B: see [`Subject::kind`].
    pub kinds: [&'static str; 2],
    /// The number of frames whose bits were compared; `None` if one of the files has no 2nd bitmap.
    pub compared: Option<u64>,
    /// Which frames these are, in words.
    pub compared_frames: &'static str,
    /// The number of frames that both keep.
    pub kept_by_both: u64,
    /// The number of frames that only A keeps.
    pub only_in_a: u64,
    /// The number of frames that only B keeps.
    pub only_in_b: u64,
    /// The frames that only one of the two keeps: at most [`MAX_RANGES`] ranges.
    pub ranges: Vec<DifferingRange>,
    /// The number of ranges that are not listed.
    pub ranges_left_out: u64,
    /// The number of frames that exist in one dump only, by the 1st bitmaps.
    pub exist_in_one_only: u64,
    /// Further observations: sentences without a full stop.
    pub notes: Vec<String>,
    /// The comparison of contents, if the caller requested it.
    pub contents: Option<ContentsReport>,
}

/// Adjacent frames that only one of two files keeps.
#[derive(Clone, Debug, Serialize)]
pub struct DifferingRange {
    /// The frames.
    pub frames: Frames,
    /// `A` or `B`.
    pub kept_by: &'static str,
    /// The decision of the rules about these frames; `None` without an image.
    pub rules_say: Option<String>,
}

impl DiffReport {
    /// Whether nothing differs.
    pub fn same(&self) -> bool {
        self.only_in_a == 0
            && self.only_in_b == 0
            && self.exist_in_one_only == 0
            && self.contents.as_ref().is_none_or(ContentsReport::same)
    }

    fn add(&mut self, range: DifferingRange) {
        if self.ranges.len() < MAX_RANGES {
            self.ranges.push(range);
        } else {
            self.ranges_left_out += 1;
        }
    }
}

/// Compares the 2nd bitmaps of `a` and `b`. With `contents`, it also compares the pages that both have.
///
/// A bitmap file also has bits for frames that do not exist. Therefore only existing frames are compared: by the 1st
/// bitmaps of the dumps, or else by `machine`. With a `machine`, the report also has the decision of its rules, at the
/// given dump level, about each differing range.
///
/// # Errors
/// Fails if a file cannot be read.
pub fn diff(
    a: &Subject,
    b: &Subject,
    machine: Option<(&Machine<'_>, DumpLevel)>,
    contents: bool,
) -> Result<DiffReport> {
    let mut report = DiffReport {
        kinds: [a.kind(), b.kind()],
        compared: None,
        compared_frames: "",
        kept_by_both: 0,
        only_in_a: 0,
        only_in_b: 0,
        ranges: Vec::new(),
        ranges_left_out: 0,
        exist_in_one_only: 0,
        notes: Vec::new(),
        contents: None,
    };
    let frames = a.end().max(b.end());
    let (in_a, in_b) = (a.kept(frames)?, b.kept(frames)?);
    if a.end() != b.end() {
        report.notes.push(format!("A ends at frame {:#x}, B at {:#x}", a.end(), b.end()));
    }
    if let (Some(image_a), Some(image_b)) = (a.image(), b.image()) {
        if let Some((line_a, line_b)) = differing_line(image_a, image_b) {
            report.notes.push(format!(
                "A and B are of different crashes: VMCOREINFO has {line_a} in A, {line_b} in B"
            ));
        }
        if contents {
            report.contents = Some(compare_contents(image_a, image_b, [&in_a, &in_b]));
        }
    } else if contents {
        report.notes.push("contents cannot be compared: a bitmap file has none".to_owned());
    }
    for (name, subject) in [("A", a), ("B", b)] {
        if let Some(reason) = machine.and_then(|(machine, _)| subject.differs_from_machine(machine)) {
            report.notes.push(format!("{name} is not of the image's crash: {reason}"));
        }
    }
    if !matches!(a, Subject::Memory(_)) && !matches!(b, Subject::Memory(_)) {
        compare_bits(&mut report, a, b, [in_a, in_b], machine);
    }
    Ok(report)
}

fn compare_bits(
    report: &mut DiffReport,
    a: &Subject,
    b: &Subject,
    [in_a, in_b]: [FrameBitmap; 2],
    machine: Option<(&Machine<'_>, DumpLevel)>,
) {
    let frames = in_a.frames();
    let (compared, description) = compared_frames(a, b, machine.map(|(machine, _)| machine), frames);
    if let (Some(exist_a), Some(exist_b)) = (a.exists(), b.exists()) {
        report.exist_in_one_only = exist_a.minus(exist_b).count() + exist_b.minus(exist_a).count();
    }
    report.compared = Some(compared.count());
    report.compared_frames = description;
    let restricted = |mut bits: FrameBitmap| {
        bits.intersect(&compared);
        bits
    };
    let (in_a, in_b) = (restricted(in_a), restricted(in_b));
    let mut both = in_a.clone();
    both.intersect(&in_b);
    report.kept_by_both = both.count();
    let both = both.to_ranges();
    let only = [("A", in_a.to_ranges().minus(&both)), ("B", in_b.to_ranges().minus(&both))];
    [report.only_in_a, report.only_in_b] = [only[0].1.count(), only[1].1.count()];
    match machine {
        Some((machine, level)) if report.only_in_a + report.only_in_b > 0 => {
            classify(report, &only, machine, level);
        }
        _ => {
            let mut ranges: Vec<_> = only
                .iter()
                .flat_map(|(name, set)| set.as_slice().iter().map(move |range| (*range, *name)))
                .collect();
            ranges.sort_by_key(|(range, _)| range.start);
            for (range, kept_by) in ranges {
                report.add(DifferingRange { frames: Frames(range), kept_by, rules_say: None });
            }
        }
    }
}

/// The frames whose bits are meaningful in both files, and a description of them.
fn compared_frames(
    a: &Subject,
    b: &Subject,
    machine: Option<&Machine<'_>>,
    frames: u64,
) -> (FrameBitmap, &'static str) {
    let is_dump = |subject: &Subject| matches!(subject, Subject::Dump(_));
    match (machine, a.exists(), b.exists()) {
        (_, Some(exist_a), Some(exist_b)) => {
            let union =
                FrameRanges::from_ranges(exist_a.as_slice().iter().chain(exist_b.as_slice()).copied());
            (FrameBitmap::from_ranges(&union, frames), "that exist in a dump")
        }
        (Some(machine), ..) if is_dump(a) || is_dump(b) => {
            let exists = machine.exists();
            let all = PfnRange::new(Pfn::new(0), Pfn::new(frames));
            (DumpableFrames::new(machine.image.facts(), &exists).window(all), "that have data in the image")
        }
        (Some(machine), ..) => {
            (FrameBitmap::from_ranges(&machine.exists(), frames), "that exist in the image")
        }
        (None, Some(exists), None) | (None, None, Some(exists)) => {
            (FrameBitmap::from_ranges(exists, frames), "that exist in the dump")
        }
        (None, None, None) => (FrameBitmap::ones(frames), "of the larger bitmap, whether they exist or not"),
    }
}

/// Adds the frames that only one file keeps to the report, split by the decision of the rules.
fn classify(
    report: &mut DiffReport,
    only: &[(&'static str, FrameRanges); 2],
    machine: &Machine<'_>,
    level: DumpLevel,
) {
    let mut last: Option<DifferingRange> = None;
    let mut add = |range: DifferingRange| match &mut last {
        Some(last)
            if last.frames.0.end == range.frames.0.start
                && last.kept_by == range.kept_by
                && last.rules_say == range.rules_say =>
        {
            last.frames.0.end = range.frames.0.end;
        }
        _ => {
            if let Some(finished) = last.replace(range) {
                report.add(finished);
            }
        }
    };
    for run in ReferenceScan::new(machine, level) {
        let mut parts: Vec<_> = only
            .iter()
            .flat_map(|(name, set)| set.within(run.frames).map(move |range| (range, *name)))
            .collect();
        parts.sort_by_key(|(range, _)| range.start);
        for (range, kept_by) in parts {
            add(DifferingRange { frames: Frames(range), kept_by, rules_say: Some(because(&run.decision)) });
        }
    }
    let after_last = PfnRange::new(Pfn::new(machine.frames), Pfn::new(u64::MAX));
    for (kept_by, set) in only {
        for range in set.within(after_last) {
            let rules_say = Some("after the image's last frame".to_owned());
            add(DifferingRange { frames: Frames(range), kept_by, rules_say });
        }
    }
    if let Some(last) = last {
        report.add(last);
    }
}

impl fmt::Display for DiffReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "A: {}. B: {}.", self.kinds[0], self.kinds[1])?;
        for note in &self.notes {
            writeln!(f, "Note: {note}.")?;
        }
        if let Some(compared) = self.compared {
            writeln!(f, "{:<24} {compared} {}", "frames compared", self.compared_frames)?;
            writeln!(f, "{:<24} {}", "kept by both", self.kept_by_both)?;
            writeln!(f, "{:<24} {}", "kept by A only", self.only_in_a)?;
            writeln!(f, "{:<24} {}", "kept by B only", self.only_in_b)?;
        }
        if self.exist_in_one_only > 0 {
            writeln!(f, "{:<24} {}", "exist in one dump only", self.exist_in_one_only)?;
        }
        for range in &self.ranges {
            let (frames, kept_by) = (range.frames, range.kept_by);
            write!(f, "  {frames:<24} {:>8} only {kept_by}", frames.0.len())?;
            match &range.rules_say {
                Some(decision) => writeln!(f, "; {decision}")?,
                None => writeln!(f)?,
            }
        }
        write_omitted(f, self.ranges_left_out)?;
        if let Some(contents) = &self.contents {
            writeln!(f, "{:<24} {}", "pages compared", contents.compared)?;
            writeln!(f, "{:<24} {}", "pages that differ", contents.different)?;
            writeln!(f, "{:<24} {}", "unreadable in A", contents.unreadable_in_a)?;
            writeln!(f, "{:<24} {}", "unreadable in B", contents.unreadable_in_b)?;
            for range in &contents.ranges {
                writeln!(f, "  {:<24} {:>8} {}", range.frames, range.frames.0.len(), range.how)?;
            }
            write_omitted(f, contents.ranges_left_out)?;
        }
        writeln!(f, "{}", if self.same() { "They are the same." } else { "They differ." })
    }
}

fn write_omitted(f: &mut fmt::Formatter<'_>, ranges: u64) -> fmt::Result {
    if ranges > 0 { writeln!(f, "  ... and {ranges} more") } else { Ok(()) }
}
