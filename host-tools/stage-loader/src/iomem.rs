//! Parses `/proc/iomem`, the running kernel's memory map.

use scanner_core::{Pfn, PfnRange};
use std::fmt::Write as _;
use std::ops::Range;

/// The lines of `/proc/iomem`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iomem {
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    indent: usize,
    /// First address, and last address (inclusive).
    first: u64,
    last: u64,
    name: String,
}

/// Name of a region that is reserved for a capture kernel.
const CRASH_KERNEL: &str = "Crash kernel";
/// Prefix of the names of RAM.
const SYSTEM_RAM: &str = "System RAM";

impl Iomem {
    /// Parses the text of `/proc/iomem`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let parsed = line.trim_start().split_once(" : ").and_then(|(range, name)| {
                let (first, last) = range.split_once('-')?;
                let number = |text| u64::from_str_radix(text, 16).ok();
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then(|| Line { indent, first, last, name: name.to_owned() })
            });
            lines.push(
                parsed.ok_or_else(|| format!("line {} is not of the form START-END : NAME", number + 1))?,
            );
        }
        if lines.iter().all(|line| line.last == 0) {
            return Err("the addresses are hidden: run as root".to_owned());
        }
        Ok(Self { lines })
    }

    /// The page frames of RAM, ascending and disjoint. A frame that is only partly RAM counts.
    pub fn ram(&self) -> Vec<PfnRange> {
        let mut ranges: Vec<PfnRange> = Vec::new();
        let mut named: Vec<&Line> =
            self.lines.iter().filter(|line| line.name.starts_with(SYSTEM_RAM)).collect();
        named.sort_by_key(|line| line.first);
        for line in named {
            let range = PfnRange::new(Pfn::new(line.first >> 12), Pfn::new((line.last >> 12) + 1));
            match ranges.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => ranges.push(range),
            }
        }
        ranges
    }

    /// The largest crash kernel region, which kexec-tools uses.
    pub fn crash_kernel(&self) -> Option<Range<u64>> {
        self.crash_line().map(|line| line.first..line.last + 1)
    }

    fn crash_line(&self) -> Option<&Line> {
        // Of two that are as large, kexec-tools takes the first.
        self.lines
            .iter()
            .filter(|line| line.name == CRASH_KERNEL && line.last < u64::MAX)
            .rev()
            .max_by_key(|line| line.last - line.first)
    }

    /// The map with the crash kernel region shortened to end before `from`. The rest of the region becomes plain RAM.
    pub fn with_shorter_crash_kernel(&self, from: u64) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let shortened = self.crash_line() == Some(line);
            let last = if shortened { from - 1 } else { line.last };
            let _ = writeln!(
                text,
                "{:indent$}{:08x}-{last:08x} : {}",
                "",
                line.first,
                line.name,
                indent = line.indent
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
00100000-1ffdffff : System RAM
  03000000-03ffffff : Kernel code
  13000000-1effffff : Crash kernel
100000000-13fffffff : System RAM
";

    #[test]
    fn system_ram_lines_are_ram() {
        let map = Iomem::parse(MAP).unwrap();
        let frames = |start, end| PfnRange::new(Pfn::new(start), Pfn::new(end));
        assert_eq!(map.ram(), [frames(1, 0xa0), frames(0x100, 0x1ffe0), frames(0x100000, 0x140000)]);
        assert_eq!(map.crash_kernel(), Some(0x13000000..0x1f000000));
    }

    #[test]
    fn only_the_largest_region_is_shortened() {
        let map = Iomem::parse(MAP).unwrap();
        let shorter = map.with_shorter_crash_kernel(0x1e000000);
        assert_eq!(shorter, MAP.replace("13000000-1effffff", "13000000-1dffffff"));
        assert_eq!(map.with_shorter_crash_kernel(0x1f000000), MAP);
        let two = Iomem::parse(
            "00000000-ffffffff : System RAM\n  0100-01ff : Crash kernel\n  0400-07ff : Crash kernel\n",
        )
        .unwrap();
        assert_eq!(two.crash_kernel(), Some(0x400..0x800));
        assert!(
            two.with_shorter_crash_kernel(0x600)
                .ends_with("  00000100-000001ff : Crash kernel\n  00000400-000005ff : Crash kernel\n")
        );
    }

    #[test]
    fn errors_name_the_line_or_the_missing_privilege() {
        assert!(Iomem::parse("").is_err());
        assert!(Iomem::parse("00000000-00000000 : System RAM\n").unwrap_err().contains("root"));
        assert!(Iomem::parse("00000000-00000fff : Reserved\n5-4 : x\n").unwrap_err().contains("line 2"));
    }
}
