//! The stage's image, as `linker/purgatory/build` makes it: an ELF file that can be moved to any page.

use crash_stage::parameters::INFO_SIZE;
use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{EM_X86_64, ET_DYN, header64};
use goblin::elf::program_header::{PT_LOAD, ProgramHeader};
use goblin::elf::reloc::{R_X86_64_RELATIVE, RelocSection};
use goblin::elf::section_header::{SHT_RELA, SectionHeader};
use scanner_core::PAGE_SIZE;
use std::path::Path;
use vmcore::{Error, Result};

/// How the headers are laid out.
const CTX: Ctx = Ctx { container: Container::Big, le: Endian::Little };
/// The largest image that is taken for one.
const MAX_SIZE: u64 = 4 << 20;

/// An image that is not moved to its place yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageImage {
    /// Its bytes, a whole number of pages; the last one is the info.
    bytes: Vec<u8>,
    /// How many of them from the start on nothing writes to.
    checked: usize,
    /// Offset of the entry.
    entry: u64,
    /// Where an address stands that counts from the image's start, and that address.
    relocations: Vec<(usize, u64)>,
}

impl StageImage {
    /// Reads the image from a file.
    ///
    /// # Errors
    /// If there is none, or it is not such an image.
    pub fn read(path: &Path) -> Result<Self> {
        let file = std::fs::read(path).map_err(|error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let error = Error::unusable("the stage's image can't be read").at(path).because(error);
            if missing {
                error.with_hint("linker/purgatory/build makes it; name it by --image, or install it there.")
            } else {
                error
            }
        })?;
        Self::parse(&file).map_err(|what| {
            Error::unusable(format!("is no image of a purgatory stage: {what}"))
                .at(path)
                .with_hint("Build it with linker/purgatory/build, from the same source as this program.")
        })
    }

    /// Reads the image from a file's bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        let damaged = |error: goblin::error::Error| error.to_string();
        let header = header64::Header::parse(file).map_err(damaged)?;
        let known = header.e_ident.starts_with(b"\x7fELF\x02\x01\x01");
        if !known || header.e_machine != EM_X86_64 || header.e_type != ET_DYN {
            return Err("not an x86_64 ELF file that can be moved".to_owned());
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
        let mut changing = size as usize;
        for segment in loaded() {
            let data = bytes_at(file, segment.p_offset, segment.p_filesz).ok_or("a segment is cut off")?;
            let start = segment.p_vaddr as usize;
            let place = bytes.get_mut(start..).and_then(|rest| rest.get_mut(..data.len()));
            place.ok_or("a segment has more bytes than memory")?.copy_from_slice(data);
            if segment.is_write() {
                changing = changing.min(start);
            } else {
                checked = checked.max(start + data.len());
            }
        }
        let entry = header.e_entry;
        let room = bytes.len().saturating_sub(INFO_SIZE as usize);
        if checked == 0 || checked > changing.min(room) || entry >= checked as u64 {
            return Err("code and data are not where they should be".to_owned());
        }
        let sections = SectionHeader::parse(file, header.e_shoff as usize, header.e_shnum.into(), CTX);
        let mut relocations = Vec::new();
        for section in sections.map_err(damaged)?.iter().filter(|section| section.sh_type == SHT_RELA) {
            let list = bytes_at(file, section.sh_offset, section.sh_size).ok_or("relocations are cut off")?;
            for relocation in RelocSection::parse(list, 0, list.len(), true, CTX).map_err(damaged)?.iter() {
                if relocation.r_type != R_X86_64_RELATIVE {
                    return Err(format!("a relocation of type {}", relocation.r_type));
                }
                let at = usize::try_from(relocation.r_offset)
                    .ok()
                    .filter(|at| at.checked_add(8).is_some_and(|end| end <= bytes.len()));
                let address = relocation.r_addend.unwrap_or_default() as u64;
                relocations.push((at.ok_or("a relocation outside of the image")?, address));
            }
        }
        Ok(Self { bytes, checked, entry, relocations })
    }

    /// Its size in memory, a whole number of pages.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// How many bytes from its start on nothing writes to.
    pub fn checked(&self) -> u64 {
        self.checked as u64
    }

    /// Offset of the entry.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The image for physical address `at`.
    pub fn moved_to(&self, at: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (place, address) in &self.relocations {
            bytes[*place..*place + 8].copy_from_slice(&address.wrapping_add(at).to_le_bytes());
        }
        bytes
    }
}

/// The `len` bytes of `file` at `offset`.
fn bytes_at(file: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    file.get(usize::try_from(offset).ok()?..)?.get(..usize::try_from(len).ok()?)
}
