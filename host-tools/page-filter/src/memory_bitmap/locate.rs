//! Where the bitmap's structure is: the four ways to know.

use crate::bitmap_file::{BitmapReader, Info};
use scanner_core::info::v1;
use scanner_core::paging::AddressSpace;
use scanner_core::{Pfn, PhysAddr, VirtAddr};
use std::path::Path;
use vmcore::image::MemoryImage;
use vmcore::image::notes::notes;
use vmcore::{Error, Result};

/// The line of VMCOREINFO that gives the address: physical, or a kernel virtual one.
const SYMBOL: &[u8] = b"SYMBOL(crash_dump_bitmap_info)=";
/// Name of the ELF note whose contents are the physical address, 8 bytes; its type is [`NOTE_TYPE`].
const NOTE_NAME: &[u8] = b"CDBITMAP";
/// Type of that note.
const NOTE_TYPE: u32 = 1;
/// The word of the capture kernel's command line that gives the physical address.
const WORD: &str = "crash_dump_bitmap=";

/// What says where the bitmap's structure is, in the order of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `SYMBOL(crash_dump_bitmap_info)` in VMCOREINFO.
    Vmcoreinfo,
    /// An ELF note named `CDBITMAP`, of type 1.
    Note,
    /// `crash_dump_bitmap=ADDRESS` on the capture kernel's command line.
    CommandLine,
    /// The user.
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

/// What may say where the bitmap is, apart from the image itself.
#[derive(Clone, Debug, Default)]
pub struct SearchHints {
    /// The command line of the kernel that this runs under, if it is the capture kernel of the image.
    pub command_line: Option<String>,
    /// What the user says.
    pub address: Option<PhysAddr>,
}

impl SearchHints {
    /// The hints for the image `path`: the running kernel's command line speaks only of its own `/proc/vmcore`.
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

/// A bitmap whose structure and chunk table are valid by themselves.
pub struct LocatedBitmap<'i> {
    /// What named its address.
    pub place: Place,
    /// The physical address of its structure.
    pub at: PhysAddr,
    /// The bitmap.
    pub reader: BitmapReader<&'i dyn MemoryImage>,
}

/// Finds the bitmap in `image`: the first of the places that leads to a valid structure. `space` translates an address
/// that VMCOREINFO gives as a virtual one.
///
/// # Errors
/// If nothing names an address, or no address that is named has a valid structure: each with its reason.
pub fn find<'i>(
    image: &'i dyn MemoryImage,
    space: Option<&AddressSpace>,
    hints: &SearchHints,
) -> Result<LocatedBitmap<'i>> {
    let mut reasons = Vec::new();
    for (place, named) in named(image, hints) {
        let read = named.and_then(|address| {
            let at = physical(image, space, place, address)?;
            let reader = structure(image, at).map_err(|error| prefixed(&format!("at {at}"), &error))?;
            Ok(LocatedBitmap { place, at, reader })
        });
        match read {
            Ok(found) => return Ok(found),
            Err(error) => reasons.push(format!("{}: {}", place.name(), error.in_one_line())),
        }
    }
    if reasons.is_empty() {
        return Err(Error::unusable(
            "no bitmap is named by VMCOREINFO, an ELF note, the command line or --bitmap-address",
        )
        .with_hint("Was the module of the first kernel loaded, and its address on the capture kernel's command line?"));
    }
    Err(Error::unusable(reasons.join("; ")))
}

/// The addresses that are named, in the order of asking; or why one can't be understood.
fn named(image: &dyn MemoryImage, hints: &SearchHints) -> Vec<(Place, Result<u64>)> {
    let facts = image.facts();
    let symbol = facts.vmcoreinfo.as_deref().and_then(in_vmcoreinfo);
    let note = in_notes(&facts.notes);
    let word = hints.command_line.as_deref().and_then(in_command_line);
    let option = hints.address.map(|address| Ok(address.as_u64()));
    [(Place::Vmcoreinfo, symbol), (Place::Note, note), (Place::CommandLine, word), (Place::Option, option)]
        .into_iter()
        .filter_map(|(place, named)| Some((place, named?)))
        .collect()
}

/// The address in VMCOREINFO. A module that was loaded twice may have left two lines: the last one counts.
fn in_vmcoreinfo(text: &[u8]) -> Option<Result<u64>> {
    let lines = text.split(|b| *b == b'\n');
    let value = lines.filter_map(|line| line.strip_prefix(SYMBOL)).next_back()?;
    let value = String::from_utf8_lossy(value);
    let value = value.trim_end();
    let digits = value.strip_prefix("0x").unwrap_or(value);
    Some(u64::from_str_radix(digits, 16).map_err(|_| no_address(value)))
}

fn in_notes(bytes: &[u8]) -> Option<Result<u64>> {
    let ours = notes(bytes).filter_map(Result::ok);
    let note = ours.filter(|note| (note.name, note.kind) == (NOTE_NAME, NOTE_TYPE)).last()?;
    let address = note.desc.try_into().map(u64::from_le_bytes);
    Some(address.map_err(|_| Error::unusable(format!("has {} bytes, expected 8", note.desc.len()))))
}

/// The address on a command line; the last word counts, as with most of the kernel's own.
fn in_command_line(line: &str) -> Option<Result<u64>> {
    let value = line.split_ascii_whitespace().filter_map(|word| word.strip_prefix(WORD)).next_back()?;
    Some(parse_address(value).ok_or_else(|| no_address(value)))
}

/// An address as people and scripts write it: hexadecimal with `0x`, else decimal.
pub fn parse_address(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn no_address(text: &str) -> Error {
    // Of a damaged text not more than what helps to recognise it, and nothing that a terminal would obey.
    let shown: String = text.chars().take(32).collect();
    Error::unusable(format!("{shown:?} is no address"))
}

/// The physical address that `address` means.
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
            .map_err(|error| Error::unusable("the address can't be translated").because(error)),
        (Place::Vmcoreinfo, None) => Err(Error::unusable(format!(
            "{address:#x} is a virtual address, and the kernel's page tables are not known"
        ))),
        _ => Err(Error::unusable(format!("{address:#x} is no physical address"))),
    }
}

/// The structure at `at`, checked by itself.
fn structure(image: &dyn MemoryImage, at: PhysAddr) -> Result<BitmapReader<&dyn MemoryImage>> {
    if at.as_u64() == 0 {
        return Err(Error::unusable("the address is not set"));
    }
    if !at.as_u64().is_multiple_of(8) {
        return Err(Error::unusable("the address is not a multiple of 8"));
    }
    let reader = BitmapReader::in_memory(image, at)?;
    if let Info::V1(info) = reader.info() {
        // Version 2 checks that by itself.
        let behind = at.as_u64() + v1::Info::SIZE as u64;
        if info.bitmap < behind && at.as_u64() < info.bitmap + info.bitmap_size {
            return Err(Error::unusable(format!("the bitmap at {:#x} lies over its structure", info.bitmap)));
        }
    }
    Ok(reader)
}

fn prefixed(what: &str, error: &Error) -> Error {
    Error::unusable(format!("{what}: {}", error.in_one_line()))
}
