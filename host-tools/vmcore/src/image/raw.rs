//! Raw memory: a file without headers, and a map of its physical addresses in a text file.
//!
//! Each line of the map has one of two forms:
//!
//! - `START-END [OFFSET]`: the physical addresses from `START` to `END`, *both included*, are in the file at `OFFSET`.
//!   Without an offset they follow the range of the previous line. The first range starts at offset 0.
//! - `START-END : NAME`, as in `/proc/iomem` (read by root): if `NAME` starts with "System RAM", the range follows the
//!   previous range in the file. Other lines of this form are ignored.
//!
//! Numbers are hexadecimal, with or without `0x`. Empty lines and text after a `#` are ignored. Ranges must not
//! overlap.

use super::extents::{Extents, FileMemory};
use super::facts::{ImageFacts, ImageFormat, Segment};
use super::file::Borrowed;
use super::file::{Access, PlainFile, read_small};
use super::segments::{self, CutOff};
use super::source::{Hole, MemoryImage};
use crate::{Error, Result};
use scanner_core::{PhysAddr, PhysicalMemory, Unreadable, VirtAddr};
use std::path::Path;

/// Size limit of a map in bytes. It is enough for several hundred thousand ranges.
const MAX_MAP: u64 = 16 << 20;

/// Raw memory with a map.
#[derive(Debug)]
pub struct RawImage {
    memory: FileMemory,
    facts: ImageFacts,
}

impl RawImage {
    /// Opens the raw memory file `path` with the map file `map`.
    ///
    /// # Errors
    /// If a file cannot be read, or a line of the map is invalid.
    pub fn open(path: &Path, map: &Path, access: Access) -> Result<Self> {
        let text = read_small(map, MAX_MAP)?;
        let ranges = parse_map(&text).map_err(|e| e.at(map))?;
        Ok(Self::from_bytes(PlainFile::open(path, access)?, &ranges))
    }

    /// The memory in `bytes`, at the file offsets in `ranges`.
    pub fn from_bytes(bytes: PlainFile, ranges: &[MapRange]) -> Self {
        let size = bytes.size();
        let mut missing = CutOff::default();
        let segments: Vec<Segment> = ranges
            .iter()
            .map(|range| {
                let present = range.size.min(size.saturating_sub(range.offset));
                missing.add(range.start, present, range.size);
                Segment {
                    phys: PhysAddr::new(range.start),
                    virt: VirtAddr::new(0),
                    mem_size: range.size,
                    file_size: present,
                    offset: range.offset,
                }
            })
            .collect();
        let mut warnings: Vec<String> = missing.warning(size, "ranges of the map").into_iter().collect();
        let used = ranges.iter().map(|r| r.offset.saturating_add(r.size)).max().unwrap_or(0);
        if used < size {
            warnings.push(format!(
                "the map does not cover the last {} bytes of the file ({size} bytes)",
                size - used
            ));
        }
        let extents = Extents::of(&segments);
        let facts = ImageFacts { warnings, ..segments::facts(ImageFormat::Raw, segments, &extents) };
        Self { memory: FileMemory::new(bytes, extents), facts }
    }
}

impl PhysicalMemory for RawImage {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        self.memory.read(addr, buf)
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        self.memory.view(addr, len)
    }
}

impl MemoryImage for RawImage {
    fn facts(&self) -> &ImageFacts {
        &self.facts
    }

    fn borrow_bytes(&self, addr: PhysAddr, len: usize) -> Option<Borrowed<'_>> {
        self.memory.borrow_bytes(addr, len)
    }

    fn hole_at(&self, addr: PhysAddr) -> Hole {
        self.memory.hole_at(addr)
    }
}

/// A range of a map: `size` bytes of physical memory at `start`, stored at `offset` of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRange {
    /// The first physical address.
    pub start: u64,
    /// Size in bytes; never 0.
    pub size: u64,
    /// File offset of the first byte.
    pub offset: u64,
}

/// Parses the ranges of a map, in the order of its lines.
///
/// # Errors
/// If a line is invalid, or the ranges of two lines overlap. The error has the line numbers.
pub fn parse_map(text: &[u8]) -> Result<Vec<MapRange>> {
    let text =
        std::str::from_utf8(text).map_err(|e| Error::unusable("is not a UTF-8 text file").because(e))?;
    let mut ranges: Vec<(usize, MapRange)> = Vec::new();
    let mut next_offset = Some(0);
    for (number, line) in (1..).zip(text.lines()) {
        let at_line = |what: String| Error::unusable(format!("line {number}: {what}"));
        let Some(line) = Line::parse(line).map_err(at_line)? else { continue };
        let offset = line.offset.or(next_offset).filter(|offset| offset.checked_add(line.size).is_some());
        let offset = offset.ok_or_else(|| at_line("the range exceeds the largest file size".into()))?;
        next_offset = offset.checked_add(line.size);
        ranges.push((number, MapRange { start: line.start, size: line.size, offset }));
    }
    if ranges.is_empty() {
        return Err(Error::unusable("the map has no range of memory").with_hint(
            "Each line is START-END [OFFSET] in hexadecimal, or a System RAM line of /proc/iomem.",
        ));
    }
    let mut sorted: Vec<_> = ranges.iter().collect();
    sorted.sort_by_key(|(_, range)| range.start);
    for pair in sorted.windows(2) {
        let ((one, low), (other, high)) = (pair[0], pair[1]);
        if high.start - low.start < low.size {
            return Err(Error::unusable(format!("the ranges of lines {one} and {other} overlap")));
        }
    }
    Ok(ranges.into_iter().map(|(_, range)| range).collect())
}

/// One line of a map.
struct Line {
    start: u64,
    size: u64,
    offset: Option<u64>,
}

impl Line {
    /// Parses a line. `None` if the line is ignored. The error describes why the line is invalid.
    fn parse(line: &str) -> Result<Option<Self>, String> {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            return Ok(None);
        }
        let (range, name) = match line.split_once(':') {
            Some((range, name)) => (range, Some(name.trim())),
            None => (line, None),
        };
        if name.is_some_and(|name| !name.starts_with("System RAM")) {
            return Ok(None);
        }
        let (range, offset) = match range.trim().split_once(char::is_whitespace) {
            Some((range, offset)) => (range, Some(hexadecimal(offset.trim())?)),
            None => (range.trim(), None),
        };
        let (start, end) = range.split_once('-').ok_or_else(|| format!("{range:?} is not START-END"))?;
        let (start, last) = (hexadecimal(start)?, hexadecimal(end)?);
        if name.is_some() && (start, last) == (0, 0) {
            return Err("this copy of /proc/iomem has no addresses: only root can read them".into());
        }
        let size = last.checked_sub(start).ok_or_else(|| format!("{range} ends before it starts"))?;
        let size = size.checked_add(1).filter(|&size| segments::is_physical(start, size));
        let size = size.ok_or_else(|| format!("{range} exceeds the physical address space of x86_64"))?;
        Ok(Some(Self { start, size, offset }))
    }
}

fn hexadecimal(digits: &str) -> Result<u64, String> {
    let bare = digits.strip_prefix("0x").unwrap_or(digits);
    let number = u64::from_str_radix(bare, 16).ok().filter(|_| !bare.starts_with('+'));
    number.ok_or_else(|| format!("{digits:?} is not a hexadecimal number of at most 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::in_memory;
    use super::*;
    use proptest::prelude::*;
    use scanner_core::{Pfn, PfnRange};

    const IOMEM: &str = "\
00000000-00000fff : Reserved
00001000-00002fff : System RAM
00003000-00003fff : Reserved
  00003000-000030ff : PNP0C02:00
00100000-00101bff : System RAM
  00100000-00100fff : Kernel code
00200000-002fffff : PCI Bus 0000:00
";

    fn error(map: &str) -> String {
        parse_map(map.as_bytes()).unwrap_err().report()
    }

    #[test]
    fn ranges_of_iomem_are_consecutive_in_the_file() {
        let expected = [
            MapRange { start: 0x1000, size: 0x2000, offset: 0 },
            MapRange { start: 0x100000, size: 0x1c00, offset: 0x2000 },
        ];
        assert_eq!(parse_map(IOMEM.as_bytes()).unwrap(), expected);
        let same = "# two ranges\n0x1000-0x2fff\n\n100000-101bff # the second\n";
        assert_eq!(parse_map(same.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_range_without_offset_follows_the_previous_line() {
        let ranges = parse_map(b"2000-2fff 8000\n1000-1fff\n9000-9fff 0x0\n").unwrap();
        assert_eq!(ranges.iter().map(|r| r.offset).collect::<Vec<_>>(), [0x8000, 0x9000, 0]);
    }

    #[test]
    fn the_error_names_the_invalid_line() {
        assert!(error("1000-1fff\nfoo\n").contains("line 2: \"foo\" is not START-END"));
        assert!(error("1000-1ffg").contains("line 1: \"1ffg\" is not a hexadecimal number"));
        assert!(error("-1000-2000").contains("line 1"));
        assert!(error("1000-+2000").contains("line 1"));
        assert!(error("2000-1000").contains("ends before it starts"));
        assert!(error("1000-1fff 12345678123456789").contains("hexadecimal"));
        assert!(error("0-fffffffffffff\n10000000000000-10000000000000").contains("line 2"));
        assert!(error("0-ffffffffffffffff").contains("physical address space"));
        assert!(error("1000-1fff ffffffffffffff00").contains("largest file"));
        assert!(error("00000000-00000000 : System RAM").contains("only root"));
        assert!(error("1000-2fff\n8000-8fff\n2fff-3fff").contains("lines 1 and 3 overlap"));
        assert!(error("# nothing\n\n1000-1fff : Reserved").contains("no range of memory"));
    }

    #[test]
    fn memory_is_read_at_the_offsets_of_the_map_and_size_mismatches_are_warnings() {
        let bytes: Vec<u8> = (0..0x3c00u32).map(|i| (i >> 8) as u8).collect();
        let image = RawImage::from_bytes(in_memory(&bytes), &parse_map(IOMEM.as_bytes()).unwrap());
        let facts = image.facts();
        let frames = |a, b| PfnRange::new(Pfn::new(a), Pfn::new(b));
        assert_eq!(facts.exists.as_slice(), [frames(1, 3), frames(0x100, 0x102)]);
        assert_eq!(facts.backed, facts.exists, "offset 0 of a raw file is memory");
        assert_eq!((facts.max_pfn, facts.warnings.len()), (0x102, 0));
        assert_eq!(image.view(PhysAddr::new(0x100100), 2), Some(&[0x21, 0x21][..]));
        let mut buf = [9; 2];
        image.read(PhysAddr::new(0x101bff), &mut buf).unwrap();
        assert_eq!(buf, [0x3b, 0]);
        assert!(image.read(PhysAddr::new(0x2fff), &mut buf).is_err());

        let short = RawImage::from_bytes(in_memory(&bytes[..0x2800]), &parse_map(IOMEM.as_bytes()).unwrap());
        assert!(short.facts().warnings[0].contains("5120 bytes of memory in 1 ranges of the map"));
        assert_eq!(short.facts().backed.as_slice(), [frames(1, 3), frames(0x100, 0x101)]);
        let long = RawImage::from_bytes(in_memory(&bytes), &parse_map(b"0-fff").unwrap());
        assert!(long.facts().warnings[0].contains("last 11264 bytes"), "{:?}", long.facts().warnings);
    }

    proptest! {
        #[test]
        fn never_panics(text in "([0-9a-f]{0,17}[-: #\n]|System RAM|0x){0,20}", size in 0usize..100) {
            if let Ok(ranges) = parse_map(text.as_bytes()) {
                let image = RawImage::from_bytes(in_memory(&vec![1; size]), &ranges);
                prop_assert!(image.facts().backed.minus(&image.facts().exists).as_slice().is_empty());
            }
        }
    }
}
