//! Explains one page: its location, the fields of its `struct page`, the rule that decides, and the decision at each
//! dump level.

mod fields;
mod ranges;

pub use fields::Fields;

use self::ranges::Ranges;

use crate::because::because;
use crate::reference::{
    Difference, Exclusion, FrameDecision, Judge, KeptBecause, ReferenceScan, StructPage, locate, page,
};
use page_filter::machine::Machine;
use scanner_core::{DumpLevel, PAGE_SIZE, Pfn, PfnRange, RuleSet};
use serde::Serialize;
use std::fmt;
use vmcore::Result;
use vmcore::dump::zero::is_zero;
use vmcore::image::MemoryImage;

/// The largest compound page or free block, in frames: 1 GiB. The search for the head of a page starts at the previous
/// multiple of this.
const MAX_BLOCK_FRAMES: u64 = 1 << 18;

/// Parses a page on the command line: `1234` and `pfn:0x4d2` are frame numbers, `0x4d2000` is a physical address.
///
/// # Errors
/// Fails if the text is none of these, or if the address has more than 52 bits. The error is a message for the user.
pub fn parse_frame(text: &str) -> Result<Pfn, String> {
    let (digits, is_frame) = match text.strip_prefix("pfn:") {
        Some(digits) => (digits, true),
        None => (text, !text.starts_with("0x")),
    };
    let number = match digits.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16),
        None => digits.parse(),
    };
    let number = number.map_err(|_| {
        "a page is a frame number (1234, pfn:0x4d2) or a physical address (0x4d2000)".to_owned()
    })?;
    let pfn = if is_frame { Pfn::new(number) } else { scanner_core::PhysAddr::new(number).pfn() };
    if pfn < Pfn::END { Ok(pfn) } else { Err("physical addresses of x86_64 have 52 bits".to_owned()) }
}

/// The report about one page.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The frame number.
    pub pfn: u64,
    /// Its physical address.
    pub phys: u64,
    /// Whether the page exists: its bit in the 1st bitmap.
    pub exists: bool,
    /// Whether the image has the first byte of the page.
    pub has_data: bool,
    /// Whether the dump keeps the page: its bit in the 2nd bitmap. `None` if the image is not a dump.
    pub in_dump: Option<bool>,
    /// Whether all bytes are zero; `None` if the page cannot be read.
    pub zero: Option<bool>,
    /// The first frame of the memory section, and the first frame after it.
    pub section: Option<(u64, u64)>,
    /// The kernel virtual address of the `struct page`.
    pub struct_page: Option<u64>,
    /// The physical address of the `struct page`.
    pub struct_page_phys: Option<u64>,
    /// The fields of the `struct page`.
    pub fields: Option<Fields>,
    /// The reason why the `struct page` cannot be read.
    pub not_read: Option<String>,
    /// The dump level of the decision.
    pub level: u8,
    /// The rule set of the decision.
    pub rules: &'static str,
    /// The decision at this level by this rule set.
    pub verdict: String,
    /// The condition of the rule that decided.
    pub condition: Option<&'static str>,
    /// The decisions at all levels.
    pub levels: Vec<AtLevels>,
    /// The differences between the rule sets that change the decision at one level or more.
    pub differences: Vec<DifferenceReport>,
}

/// The decision about a page at some levels.
#[derive(Clone, Debug, Serialize)]
pub struct AtLevels {
    /// The levels.
    pub levels: Vec<u8>,
    /// The decision by makedumpfile's rules.
    pub makedumpfile: String,
    /// The decision by the kernel's rules, if it differs.
    pub kernel: Option<String>,
}

/// A difference between the rule sets.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DifferenceReport {
    /// The name: see [`Difference::name`].
    pub name: &'static str,
    /// The explanation: see [`Difference::explanation`].
    pub explanation: &'static str,
}

impl Explanation {
    /// Explains `pfn` of the machine in `image`, with the decision of `rules` at `level`.
    ///
    /// # Errors
    /// Fails if the kernel's layout cannot be determined from the image.
    pub fn new(image: &dyn MemoryImage, pfn: Pfn, level: DumpLevel, rules: RuleSet) -> Result<Self> {
        let makedumpfile = Machine::new(image, RuleSet::Makedumpfile)?;
        let kernel = Machine::new(image, RuleSet::Kernel)?;
        let machine = if rules == RuleSet::Kernel { &kernel } else { &makedumpfile };
        let facts = image.facts();
        let mut contents = [0; PAGE_SIZE];
        let location = locate(machine, pfn);
        let (section, struct_page) = match location {
            StructPage::At { addr, section } => (Some(section), Some(addr)),
            StructPage::None | StructPage::Damaged(_) => (None, None),
        };
        let read = page(machine, pfn);
        let decision = decision(machine, pfn, level);
        let translated = struct_page.and_then(|addr| machine.layout.space.translate(image, addr).ok());
        Ok(Self {
            pfn: pfn.as_u64(),
            phys: pfn.addr().as_u64(),
            exists: machine.exists().contains(pfn),
            has_data: facts.backed.contains(pfn),
            in_dump: facts.filtered.as_ref().map(|filtered| filtered.kept.get(pfn)),
            zero: image.read(pfn.addr(), &mut contents).is_ok().then(|| is_zero(&contents)),
            section: section.map(|s| (s.frames.start.as_u64(), s.frames.end.as_u64())),
            struct_page: struct_page.map(|addr| addr.as_u64()),
            struct_page_phys: translated.map(|piece| piece.phys.as_u64()),
            fields: read.as_ref().ok().map(|facts| Fields::new(machine, facts)),
            not_read: read.as_ref().err().map(|why| because(&FrameDecision::Kept(*why))),
            level: level.bits(),
            rules: rules.name(),
            verdict: decision_text(pfn, &decision),
            condition: match decision {
                FrameDecision::Excluded(Exclusion { rule, .. })
                | FrameDecision::Kept(KeptBecause::Rule(rule)) => Some(rule.condition()),
                FrameDecision::Kept(_) => None,
            },
            levels: all_levels(&makedumpfile, &kernel, pfn),
            differences: differences(&makedumpfile, &kernel, pfn),
        })
    }
}

/// The decision about `pfn` at `level`.
fn decision(machine: &Machine<'_>, pfn: Pfn, level: DumpLevel) -> FrameDecision {
    let start = Pfn::new(pfn.as_u64() / MAX_BLOCK_FRAMES * MAX_BLOCK_FRAMES);
    ReferenceScan::over(machine, level, PfnRange::new(start, pfn.saturating_add(1)))
        .find(|run| run.frames.contains(pfn))
        .map_or(FrameDecision::Kept(KeptBecause::NoStructPage), |run| run.decision)
}

/// The decision in words. It names the head if this is another frame.
fn decision_text(pfn: Pfn, decision: &FrameDecision) -> String {
    let text = because(decision);
    match decision {
        FrameDecision::Excluded(exclusion) if exclusion.frames.start != pfn => {
            let (head, frames) = (exclusion.frames.start, exclusion.frames.len());
            format!("{text}, with the {frames} frames from {head} on")
        }
        _ => text,
    }
}

/// The decisions about a page at all levels; levels with the same decision are merged. Level 1 depends on the contents
/// of the page, not on the rules.
fn all_levels(makedumpfile: &Machine<'_>, kernel: &Machine<'_>, pfn: Pfn) -> Vec<AtLevels> {
    let mut all: Vec<AtLevels> = Vec::new();
    for level in (0..32).step_by(2).filter_map(DumpLevel::from_number) {
        let by_makedumpfile = decision_text(pfn, &decision(makedumpfile, pfn, level));
        let by_kernel = decision_text(pfn, &decision(kernel, pfn, level));
        let by_kernel = (by_kernel != by_makedumpfile).then_some(by_kernel);
        let levels = [level.bits(), level.bits() | DumpLevel::ZERO.bits()];
        match all.iter_mut().find(|a| a.makedumpfile == by_makedumpfile && a.kernel == by_kernel) {
            Some(same) => same.levels.extend(levels),
            None => all.push(AtLevels {
                levels: levels.to_vec(),
                makedumpfile: by_makedumpfile,
                kernel: by_kernel,
            }),
        }
    }
    all
}

/// The differences between the rule sets that change the decision about `pfn` at one level or more.
fn differences(makedumpfile: &Machine<'_>, kernel: &Machine<'_>, pfn: Pfn) -> Vec<DifferenceReport> {
    let mut found = Vec::new();
    // A page that is excluded with its head differs if the head differs.
    let mut deciding = vec![pfn];
    for machine in [makedumpfile, kernel] {
        if let FrameDecision::Excluded(exclusion) = decision(machine, pfn, DumpLevel::all()) {
            deciding.push(exclusion.frames.start);
        }
    }
    for facts in deciding.into_iter().filter_map(|pfn| page(kernel, pfn).ok()) {
        for level in (0..32).filter_map(DumpLevel::from_number) {
            found.extend(Judge::differences(&kernel.layout, &facts, level));
        }
    }
    if locate(makedumpfile, pfn) != locate(kernel, pfn) {
        found.push(Difference::SectionFlag);
    }
    if makedumpfile.exists().contains(pfn) != kernel.exists().contains(pfn) {
        found.push(Difference::PartialPage);
    }
    found.sort();
    found.dedup();
    found.into_iter().map(|d| DifferenceReport { name: d.name(), explanation: d.explanation() }).collect()
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes_or_no = |condition: bool| if condition { "yes" } else { "no" };
        writeln!(f, "page frame {:#x} ({}), physical address {:#x}", self.pfn, self.pfn, self.phys)?;
        let mut line = |name: &str, value: &dyn fmt::Display| writeln!(f, "  {name:<14} {value}");
        line("exists", &yes_or_no(self.exists))?;
        line("has data", &yes_or_no(self.has_data))?;
        if let Some(in_dump) = self.in_dump {
            line("in the dump", &yes_or_no(in_dump))?;
        }
        line("all zero", &self.zero.map_or("cannot be read", yes_or_no))?;
        if let Some((start, end)) = self.section {
            line("section", &format_args!("{start:#x}..{end:#x}"))?;
        }
        if let Some(addr) = self.struct_page {
            let phys = self.struct_page_phys.map_or("not mapped".to_owned(), |phys| format!("{phys:#x}"));
            line("struct page", &format_args!("{addr:#x}, physical {phys}"))?;
        }
        if let Some(why) = &self.not_read {
            line("not read", why)?;
        }
        if let Some(fields) = &self.fields {
            fields.lines(&mut line)?;
        }
        line("decision", &format_args!("{} (level {}, rules of {})", self.verdict, self.level, self.rules))?;
        if let Some(condition) = self.condition {
            line("the rule", &condition)?;
        }
        for at in &self.levels {
            let levels = Ranges(&at.levels);
            match &at.kernel {
                None => line("levels", &format_args!("{levels}: {}", at.makedumpfile))?,
                Some(kernel) => {
                    line("levels", &format_args!("{levels}: makedumpfile: {}", at.makedumpfile))?;
                    line("", &format_args!("{levels}: kernel: {kernel}"))?;
                }
            }
        }
        if self.zero == Some(true) {
            line("", &"at odd levels, the writer of a dump also leaves it out as a zero page")?;
        }
        for difference in &self.differences {
            line("rules differ", &format_args!("{}: {}", difference.name, difference.explanation))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_frame_numbers_and_addresses() {
        assert_eq!(parse_frame("1234"), Ok(Pfn::new(1234)));
        assert_eq!(parse_frame("pfn:0x4d2"), Ok(Pfn::new(1234)));
        assert_eq!(parse_frame("pfn:1234"), Ok(Pfn::new(1234)));
        assert_eq!(parse_frame("0x4d2fff"), Ok(Pfn::new(1234)));
        assert!(parse_frame("4d2").is_err() && parse_frame("").is_err() && parse_frame("pfn:").is_err());
        assert!(parse_frame("0x10000000000000").unwrap_err().contains("52 bits"));
    }
}
