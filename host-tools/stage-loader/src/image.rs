//! The stage's image, built by `linker/purgatory/build`: an ELF file that can be relocated to any page.

use crash_stage::parameters::INFO_SIZE;
use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{EM_X86_64, ET_DYN, header64};
use goblin::elf::program_header::{PT_LOAD, ProgramHeader};
use goblin::elf::reloc::{R_X86_64_RELATIVE, RelocSection};
use goblin::elf::section_header::{SHT_RELA, SectionHeader};
use scanner_core::PAGE_SIZE;
use std::path::Path;
use vmcore::{Error, Result};

/// Format of the ELF headers: 64 bits, little-endian.
const CTX: Ctx = Ctx { container: Container::Big, le: Endian::Little };
/// Largest accepted image, in bytes of memory.
const MAX_SIZE: u64 = 4 << 20;

/// An image before relocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageImage {
    /// The image's memory, a whole number of pages. The last page is the info.
    bytes: Vec<u8>,
    /// Size of the read-only part at the start of the image, in bytes.
    checked: usize,
    /// Offset of the entry point.
    entry: u64,
    /// Offsets of the addresses to relocate, each with the address relative to the image's start.
    relocations: Vec<(usize, u64)>,
}

impl StageImage {
    /// Reads the image from a file.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a stage image.
    pub fn read(path: &Path) -> Result<Self> {
        let file = std::fs::read(path).map_err(|error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let error = Error::unusable("the stage's image cannot be read").at(path).because(error);
            if missing {
                error.with_hint(
                    "Build it with linker/purgatory/build. Then install it there, or name it with --image.",
                )
            } else {
                error
            }
        })?;
        Self::parse(&file).map_err(|what| {
            Error::unusable(format!("is not a purgatory stage image: {what}"))
                .at(path)
                .with_hint("Build it with linker/purgatory/build, from the same source as this program.")
        })
    }

    /// Parses the contents of an image file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        let damaged = |error: goblin::error::Error| error.to_string();
        let header = header64::Header::parse(file).map_err(damaged)?;
        let known = header.e_ident.starts_with(b"\x7fELF\x02\x01\x01");
        if !known || header.e_machine != EM_X86_64 || header.e_type != ET_DYN {
            return Err("not a position-independent x86_64 ELF file".to_owned());
        }
        let segments = ProgramHeader::parse(file, header.e_phoff as usize, header.e_phnum.into(), CTX);
        let segments = segments.map_err(damaged)?;
        let loaded = || segments.iter().filter(|s| s.p_type == PT_LOAD);
        let end = |s: &ProgramHeader| s.p_vaddr.checked_add(s.p_memsz).filter(|end| *end <= MAX_SIZE);
        let mut size = 0;
        for segment in loaded() {
            size = size.max(end(segment).ok_or("a segment is too large")?);
        }
        let mut bytes = vec![0; (size as usize).next_multiple_of(PAGE_SIZE)];
        let mut checked = 0;
        let mut writable_start = size as usize;
        for segment in loaded() {
            let data = bytes_at(file, segment.p_offset, segment.p_filesz).ok_or("a segment is truncated")?;
            let start = segment.p_vaddr as usize;
            let place = bytes.get_mut(start..).and_then(|rest| rest.get_mut(..data.len()));
            place.ok_or("a segment is larger in the file than in memory")?.copy_from_slice(data);
            if segment.is_write() {
                writable_start = writable_start.min(start);
            } else {
                checked = checked.max(start + data.len());
            }
        }
        let entry = header.e_entry;
        let room = bytes.len().saturating_sub(INFO_SIZE as usize);
        if checked == 0 || checked > writable_start.min(room) || entry >= checked as u64 {
            return Err("the read-only part must come first and contain the entry point".to_owned());
        }
        let sections = SectionHeader::parse(file, header.e_shoff as usize, header.e_shnum.into(), CTX);
        let mut relocations = Vec::new();
        for section in sections.map_err(damaged)?.iter().filter(|section| section.sh_type == SHT_RELA) {
            let list =
                bytes_at(file, section.sh_offset, section.sh_size).ok_or("the relocations are truncated")?;
            for relocation in RelocSection::parse(list, 0, list.len(), true, CTX).map_err(damaged)?.iter() {
                if relocation.r_type != R_X86_64_RELATIVE {
                    return Err(format!("relocation type {} is not supported", relocation.r_type));
                }
                let at = usize::try_from(relocation.r_offset)
                    .ok()
                    .filter(|at| at.checked_add(8).is_some_and(|end| end <= bytes.len()));
                let address = relocation.r_addend.unwrap_or_default() as u64;
                relocations.push((at.ok_or("a relocation is outside of the image")?, address));
            }
        }
        Ok(Self { bytes, checked, entry, relocations })
    }

    /// Size of the image in memory in bytes, a whole number of pages.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Size of the read-only part at the start of the image, in bytes.
    pub fn checked(&self) -> u64 {
        self.checked as u64
    }

    /// Offset of the entry point.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The image relocated to physical address `at`.
    pub fn moved_to(&self, at: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (place, address) in &self.relocations {
            bytes[*place..*place + 8].copy_from_slice(&address.wrapping_add(at).to_le_bytes());
        }
        bytes
    }
}

/// The `len` bytes of `file` at `offset`; `None` if the file is shorter.
fn bytes_at(file: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    file.get(usize::try_from(offset).ok()?..)?.get(..usize::try_from(len).ok()?)
}
