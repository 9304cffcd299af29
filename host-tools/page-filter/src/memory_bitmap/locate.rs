//! Locates the bitmap's structure in a memory image, from one of four sources of its address.

use crate::bitmap_file::{BitmapReader, Info};
use scanner_core::info::v1;
use scanner_core::paging::AddressSpace;
use scanner_core::{Pfn, PhysAddr, VirtAddr};
use std::path::Path;
use vmcore::image::MemoryImage;
use vmcore::image::notes::notes;
use vmcore::{Error, Result};

/// Start of the VMCOREINFO line with the address, a physical or a kernel virtual one.
const SYMBOL: &[u8] = b"SYMBOL(crash_dump_bitmap_info)=";
/// Name of the ELF note whose contents are the physical address in 8 bytes; its type is [`NOTE_TYPE`].
const NOTE_NAME: &[u8] = b"CDBITMAP";
/// Type of that note.
const NOTE_TYPE: u32 = 1;
/// The capture kernel's command-line parameter with the physical address.
const PARAMETER: &str = "crash_dump_bitmap=";

/// A source of the address of the bitmap's structure. [`find`] tries them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `SYMBOL(crash_dump_bitmap_info)` in VMCOREINFO.
    Vmcoreinfo,
    /// An ELF note named `CDBITMAP`, of type 1.
    Note,
    /// `crash_dump_bitmap=ADDRESS` on the capture kernel's command line.
    CommandLine,
    /// The option `--bitmap-address`.
    Option,
}

impl Place {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vmcoreinfo => "VMCOREINFO",
            Self::Note => "ELF note",
            Self::CommandLine => "command line",
            Self::Option => "--bitmap-address",
        }
    }
}

/// Sources of the bitmap's address outside the image.
#[derive(Clone, Debug, Default)]
pub struct SearchHints {
    /// The running kernel's command line, if it is the capture kernel of the image.
    pub command_line: Option<String>,
    /// The address that the user gives.
    pub address: Option<PhysAddr>,
}

impl SearchHints {
    /// The hints for the image `path`. The running kernel's command line counts only for its own `/proc/vmcore`.
    pub fn for_image(path: &Path, address: Option<PhysAddr>) -> Self {
        Self { command_line: live_command_line(path), address }
    }
}

/// The running kernel's command line, if `image` is its own `/proc/vmcore`.
pub fn live_command_line(image: &Path) -> Option<String> {
    let live = image.canonicalize().is_ok_and(|path| path == Path::new("/proc/vmcore"));
    if !live {
        return None;
    }
    let bytes = std::fs::read("/proc/cmdline").ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A bitmap with a valid structure and chunk table, not yet checked against the machine.
pub struct LocatedBitmap<'i> {
    /// The source of its address.
    pub place: Place,
    /// The physical address of its structure.
    pub at: PhysAddr,
    /// The bitmap.
    pub reader: BitmapReader<&'i dyn MemoryImage>,
}

/// Finds the bitmap in `image`: the first source whose address has a valid structure. `space` translates a virtual
/// address in VMCOREINFO.
///
/// # Errors
/// Fails if no source gives an address, or if no address has a valid structure. The error names each source and its
/// reason.
pub fn find<'i>(
    image: &'i dyn MemoryImage,
    space: Option<&AddressSpace>,
    hints: &SearchHints,
) -> Result<LocatedBitmap<'i>> {
    let mut reasons = Vec::new();
    for (place, address) in addresses(image, hints) {
        let located = address.and_then(|address| {
            let at = physical(image, space, place, address)?;
            let reader = structure(image, at).map_err(|error| prefixed(&format!("at {at}"), &error))?;
            Ok(LocatedBitmap { place, at, reader })
        });
        match located {
            Ok(found) => return Ok(found),
            Err(error) => reasons.push(format!("{}: {}", place.name(), error.in_one_line())),
        }
    }
    if reasons.is_empty() {
        return Err(Error::unusable(
            "no bitmap is named by VMCOREINFO, an ELF note, the command line or --bitmap-address",
        )
        .with_hint(
            "Check that the module was loaded in the first kernel, and that the capture kernel's command line has \
             crash_dump_bitmap=ADDRESS.",
        ));
    }
    Err(Error::unusable(reasons.join("; ")))
}

/// The sources that give an address, in order, each with the address or the reason why it is invalid.
fn addresses(image: &dyn MemoryImage, hints: &SearchHints) -> Vec<(Place, Result<u64>)> {
    let facts = image.facts();
    let symbol = facts.vmcoreinfo.as_deref().and_then(in_vmcoreinfo);
    let note = in_notes(&facts.notes);
    let parameter = hints.command_line.as_deref().and_then(in_command_line);
    let option = hints.address.map(|address| Ok(address.as_u64()));
    [
        (Place::Vmcoreinfo, symbol),
        (Place::Note, note),
        (Place::CommandLine, parameter),
        (Place::Option, option),
    ]
    .into_iter()
    .filter_map(|(place, address)| Some((place, address?)))
    .collect()
}

/// The address in VMCOREINFO. A module that was loaded twice may have added two lines; the last one counts.
fn in_vmcoreinfo(text: &[u8]) -> Option<Result<u64>> {
    let lines = text.split(|b| *b == b'\n');
    let value = lines.filter_map(|line| line.strip_prefix(SYMBOL)).next_back()?;
    let value = String::from_utf8_lossy(value);
    let value = value.trim_end();
    let digits = value.strip_prefix("0x").unwrap_or(value);
    Some(u64::from_str_radix(digits, 16).map_err(|_| invalid_address(value)))
}

fn in_notes(bytes: &[u8]) -> Option<Result<u64>> {
    let ours = notes(bytes).filter_map(Result::ok);
    let note = ours.filter(|note| (note.name, note.kind) == (NOTE_NAME, NOTE_TYPE)).last()?;
    let address = note.desc.try_into().map(u64::from_le_bytes);
    Some(address.map_err(|_| Error::unusable(format!("has {} bytes, expected 8", note.desc.len()))))
}

/// The address on a command line. The last parameter counts, as for most of the kernel's own parameters.
fn in_command_line(line: &str) -> Option<Result<u64>> {
    let value = line.split_ascii_whitespace().filter_map(|word| word.strip_prefix(PARAMETER)).next_back()?;
    Some(parse_address(value).ok_or_else(|| invalid_address(value)))
}

/// Parses an address: hexadecimal with `0x`, else decimal. Returns `None` if it is neither.
pub fn parse_address(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn invalid_address(text: &str) -> Error {
    // The text may be damaged. 32 characters are enough to recognise it, and {:?} escapes control characters.
    let shown: String = text.chars().take(32).collect();
    Error::unusable(format!("{shown:?} is not an address"))
}

/// Converts `address` to a physical address, if it is a virtual one.
fn physical(
    image: &dyn MemoryImage,
    space: Option<&AddressSpace>,
    place: Place,
    address: u64,
) -> Result<PhysAddr> {
    if address < Pfn::END.addr().as_u64() {
        return Ok(PhysAddr::new(address));
    }
    match (place, space) {
        (Place::Vmcoreinfo, Some(space)) => space
            .translate(image, VirtAddr::new(address))
            .map(|piece| piece.phys)
            .map_err(|error| Error::unusable("the address cannot be translated").because(error)),
        (Place::Vmcoreinfo, None) => Err(Error::unusable(format!(
            "{address:#x} is a virtual address, but the kernel's page tables are unknown"
        ))),
        _ => Err(Error::unusable(format!("{address:#x} is not a physical address"))),
    }
}

/// Reads the structure at `at`, and checks it by itself.
fn structure(image: &dyn MemoryImage, at: PhysAddr) -> Result<BitmapReader<&dyn MemoryImage>> {
    if at.as_u64() == 0 {
        return Err(Error::unusable("the address is not set"));
    }
    if !at.as_u64().is_multiple_of(8) {
        return Err(Error::unusable("the address is not a multiple of 8"));
    }
    let reader = BitmapReader::in_memory(image, at)?;
    if let Info::V1(info) = reader.info() {
        // The decoder of version 2 checks that.
        let end = at.as_u64() + v1::Info::SIZE as u64;
        if info.bitmap < end && at.as_u64() < info.bitmap + info.bitmap_size {
            return Err(Error::unusable(format!("the bitmap at {:#x} overlaps its structure", info.bitmap)));
        }
    }
    Ok(reader)
}

fn prefixed(what: &str, error: &Error) -> Error {
    Error::unusable(format!("{what}: {}", error.in_one_line()))
}
