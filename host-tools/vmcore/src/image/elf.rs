//! ELF vmcores: `/proc/vmcore`, and what QEMU's `dump-guest-memory` and `makedumpfile -E` write.
//!
//! What counts as memory follows makedumpfile: a frame exists if a `PT_LOAD` touches it (with `p_memsz`; the 1st
//! bitmap of its non-cyclic mode), and a scan looks at it if its first byte has file data (`p_filesz`).

use super::extents::{Extents, FileMemory};
use super::facts::{ImageFacts, ImageFormat, Segment};
use super::file::Borrowed;
use super::file::{Access, PlainFile};
use super::notes::CoreNotes;
use super::segments::{self, CutOff};
use super::source::{Hole, MemoryImage};
use crate::{Error, Result};
use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{self, header64};
use goblin::elf::program_header::{PT_LOAD, PT_NOTE, ProgramHeader};
use goblin::elf::section_header::SectionHeader;
use scanner_core::{PhysAddr, PhysicalMemory, Unreadable, VirtAddr};
use std::borrow::Cow;
use std::path::Path;

/// How the headers that are read are laid out.
const CTX: Ctx = Ctx { container: Container::Big, le: Endian::Little };
/// Bytes of a program header.
const PROGRAM_HEADER: u64 = 56;
/// Bytes of a section header.
const SECTION_HEADER: u64 = 64;
/// `e_phnum` if the number does not fit: `sh_info` of section header 0 has it.
const PN_XNUM: u16 = 0xffff;
/// Program headers that are read at once.
const BATCH: u64 = 4096;

/// makedumpfile's mark in `e_flags` of a dump that it could not finish.
const DUMP_ELF_INCOMPLETE: u32 = 1;
/// `p_paddr` of a `PT_LOAD` that is not physical memory (makedumpfile's `NOT_PADDR`).
const NOT_PADDR: u64 = u64::MAX;
/// The most notes that are read, in bytes. A CPU takes about 360 bytes, with QEMU's state about 800.
const MAX_NOTES: u64 = 256 << 20;
/// The most program headers that are read. `makedumpfile -E` makes one of each run of at least 256 dropped pages, so
/// this many take 16 TiB of memory in the worst pattern there is.
const MAX_PROGRAM_HEADERS: u32 = 1 << 24;

/// What to do about a header that can't be.
const DAMAGED: &str = "The vmcore is damaged: copy it again.";

/// An ELF vmcore.
///
/// Overlapping `PT_LOAD`s, `PN_XNUM`, `PT_LOAD`s that start or end within a page, and files that are cut off in
/// their memory (not in their headers or notes) are all understood.
#[derive(Debug)]
pub struct ElfImage {
    memory: FileMemory,
    facts: ImageFacts,
}

impl ElfImage {
    /// Opens the ELF vmcore `path`; see [`PlainFile`] for what may happen if it changes meanwhile.
    ///
    /// # Errors
    /// The file can't be read, or is no x86_64 ELF core.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        Self::from_bytes(PlainFile::open(path, access)?).map_err(|e| e.at(path))
    }

    /// The ELF vmcore in `bytes`.
    ///
    /// # Errors
    /// As for [`ElfImage::open`].
    pub fn from_bytes(bytes: PlainFile) -> Result<Self> {
        let headers = Headers::parse(&bytes)?;
        let extents = Extents::of(&headers.segments);
        let facts = headers.into_facts(&extents)?;
        Ok(Self { memory: FileMemory::new(bytes, extents), facts })
    }
}

impl PhysicalMemory for ElfImage {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        self.memory.read(addr, buf)
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        self.memory.view(addr, len)
    }
}

impl MemoryImage for ElfImage {
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

/// What is taken from an ELF core's headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Headers {
    segments: Vec<Segment>,
    notes: Vec<u8>,
    warnings: Vec<String>,
}

impl Headers {
    /// Parses the headers of the ELF core in `file`.
    fn parse(file: &PlainFile) -> Result<Self> {
        let size = file.size();
        check_ident(file)?;
        let header = bytes_at(file, 0, header64::SIZEOF_EHDR as u64)
            .ok_or_else(|| cut_off("ELF header", size))
            .and_then(|bytes| {
                header64::Header::parse(&bytes).map_err(|e| cut_off("ELF header", size).because(e))
            })?;
        if header.e_type != header::ET_CORE {
            return Err(Error::unusable("an ELF file, but not a core (a vmlinux, perhaps?)")
                .with_hint("Give the vmcore itself: /proc/vmcore of the capture kernel, or a copy of it."));
        }
        let mut headers = Self::default();
        if header.e_flags & DUMP_ELF_INCOMPLETE != 0 {
            headers
                .warnings
                .push("makedumpfile marked this dump as incomplete: it could not write all of it".into());
        }
        let mut missing = CutOff::default();
        each_program_header(file, &header, |program_header| match program_header.p_type {
            PT_NOTE => headers.add_notes(program_header, file),
            PT_LOAD => headers.add_load(program_header, size, &mut missing),
            _ => Ok(()),
        })?;
        if headers.segments.is_empty() {
            return Err(Error::unusable(
                "the ELF core has no PT_LOAD with a physical address: it holds no memory",
            )
            .with_hint(
                "Is it the core of a process? Give /proc/vmcore of the capture kernel, or a copy of it.",
            ));
        }
        headers.warnings.extend(missing.warning(size, "PT_LOADs"));
        Ok(headers)
    }

    fn add_notes(&mut self, header: &ProgramHeader, file: &PlainFile) -> Result<()> {
        let (offset, len, size) = (header.p_offset, header.p_filesz, file.size());
        if self.notes.len() as u64 + len.min(size) > MAX_NOTES {
            return Err(Error::unusable(format!(
                "the PT_NOTE at offset {offset:#x} has {len} bytes, too many to be true"
            ))
            .with_hint(DAMAGED));
        }
        let bytes = bytes_at(file, offset, len)
            .ok_or_else(|| cut_off(&format!("notes ({len} bytes at offset {offset:#x})"), size))?;
        self.notes.extend_from_slice(&bytes);
        self.notes.resize(self.notes.len().next_multiple_of(4), 0);
        Ok(())
    }

    fn add_load(&mut self, header: &ProgramHeader, size: u64, missing: &mut CutOff) -> Result<()> {
        let (phys, mem_size) = (header.p_paddr, header.p_memsz);
        let (offset, file_size) = (header.p_offset, header.p_filesz);
        if phys == NOT_PADDR {
            return Ok(());
        }
        if !segments::is_physical(phys, mem_size) {
            return Err(Error::unusable(format!(
                "the PT_LOAD of {mem_size:#x} bytes at {phys:#x} leaves the physical address space of x86_64"
            ))
            .with_hint(DAMAGED));
        }
        let promised = file_size.min(mem_size);
        let there = promised.min(size.saturating_sub(offset));
        missing.add(phys, there, promised);
        self.segments.push(Segment {
            phys: PhysAddr::new(phys),
            virt: VirtAddr::new(header.p_vaddr),
            mem_size,
            file_size: there,
            offset,
        });
        Ok(())
    }

    /// The facts of an image with these headers.
    fn into_facts(self, extents: &Extents) -> Result<ImageFacts> {
        let vmcoreinfo = CoreNotes::parse(&self.notes)?.vmcoreinfo.map(<[u8]>::to_vec);
        let facts = segments::facts(ImageFormat::Elf, self.segments, extents);
        // Offset 0 is the ELF header, never memory: makedumpfile takes it for "not found".
        let backed = facts.backed.minus(&extents.at_file_start());
        Ok(ImageFacts { notes: self.notes, vmcoreinfo, warnings: self.warnings, backed, ..facts })
    }
}

/// The `len` bytes at `offset`, if the file has them all.
fn bytes_at(file: &PlainFile, offset: u64, len: u64) -> Option<Cow<'_, [u8]>> {
    if offset.checked_add(len)? > file.size() {
        return None;
    }
    let len = usize::try_from(len).ok()?;
    if let Some(bytes) = file.view(offset, len) {
        return Some(Cow::Borrowed(bytes));
    }
    let mut bytes = vec![0; len];
    file.read(offset, &mut bytes).ok()?;
    Some(Cow::Owned(bytes))
}

/// Checks what says how the rest is to be read: magic, machine, class, byte order, version.
fn check_ident(file: &PlainFile) -> Result<()> {
    let start = bytes_at(file, 0, 20).ok_or_else(|| cut_off("ELF header", file.size()))?;
    let (ident, machine) = (&start[..header::SIZEOF_IDENT], [start[18], start[19]]);
    if !ident.starts_with(header::ELFMAG) {
        return Err(Error::unusable("not an ELF file"));
    }
    let big_endian = ident[header::EI_DATA] == header::ELFDATA2MSB;
    let machine = if big_endian { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
    if machine != header::EM_X86_64 {
        let found = machine_name(machine);
        return Err(Error::unusable(format!("the machine is {found}, expected x86_64 (62)"))
            .with_hint("Only vmcores of x86_64 kernels can be read."));
    }
    if ident[header::EI_CLASS] != header::ELFCLASS64 || big_endian {
        let class = if ident[header::EI_CLASS] == header::ELFCLASS64 { 64 } else { 32 };
        let order = if big_endian { "big" } else { "little" };
        return Err(Error::unusable(format!(
            "a {class}-bit {order}-endian ELF file, expected 64-bit little-endian"
        ))
        .with_hint("Write the vmcore in 64-bit ELF: `kexec -p --elf64-core-headers`."));
    }
    let version = ident[header::EI_VERSION];
    if version != header::EV_CURRENT {
        return Err(Error::unusable(format!("the ELF version is {version}, expected 1")).with_hint(DAMAGED));
    }
    Ok(())
}

/// Hands the program headers to `visit`, after a check that the file has them all.
fn each_program_header(
    file: &PlainFile,
    header: &header64::Header,
    mut visit: impl FnMut(&ProgramHeader) -> Result<()>,
) -> Result<()> {
    let size = file.size();
    let count = count_program_headers(file, header).map_err(|why| {
        Error::unusable(format!("the number of program headers can't be read (file of {size} bytes): {why}"))
            .with_hint(DAMAGED)
    })?;
    if count > MAX_PROGRAM_HEADERS {
        return Err(
            Error::unusable(format!("{count} program headers are too many to be true")).with_hint(DAMAGED)
        );
    }
    let offset = header.e_phoff;
    let cut_off = || cut_off(&format!("program headers ({count} at offset {offset:#x})"), size);
    let end = offset.checked_add(u64::from(count) * PROGRAM_HEADER);
    if end.is_none_or(|end| end > size) {
        return Err(cut_off());
    }
    if count == 0 || offset == 0 {
        return Ok(());
    }
    if u64::from(header.e_phentsize) != PROGRAM_HEADER {
        let entry = header.e_phentsize;
        return Err(Error::unusable(format!(
            "the program headers can't be read: each has {entry} bytes, expected {PROGRAM_HEADER}"
        ))
        .with_hint(DAMAGED));
    }
    let mut left = u64::from(count);
    while left > 0 {
        let (done, now) = (u64::from(count) - left, left.min(BATCH));
        let bytes =
            bytes_at(file, offset + done * PROGRAM_HEADER, now * PROGRAM_HEADER).ok_or_else(cut_off)?;
        let parsed = ProgramHeader::parse(&bytes, 0, now as usize, CTX).map_err(|e| cut_off().because(e))?;
        parsed.iter().try_for_each(&mut visit)?;
        left -= now;
    }
    Ok(())
}

/// How many program headers there are, or why that cannot be known.
fn count_program_headers(file: &PlainFile, header: &header64::Header) -> Result<u32, String> {
    if header.e_phnum != PN_XNUM {
        return Ok(header.e_phnum.into());
    }
    let offset = header.e_shoff;
    if offset == 0 {
        return Err("section header 0 would have it, but there are no section headers".to_owned());
    }
    if u64::from(header.e_shentsize) != SECTION_HEADER {
        return Err(format!("section headers have {} bytes, expected {SECTION_HEADER}", header.e_shentsize));
    }
    let missing = || format!("section header 0 at offset {offset:#x} is not in the file");
    let bytes = bytes_at(file, offset, SECTION_HEADER).ok_or_else(missing)?;
    let first = SectionHeader::parse_from(&bytes, 0, 1, CTX).map_err(|error| error.to_string())?;
    Ok(first.first().ok_or_else(missing)?.sh_info)
}

fn cut_off(inside: &str, size: u64) -> Error {
    Error::unusable(format!("the file of {size} bytes is cut off inside its {inside}"))
        .with_hint("Copy the vmcore again; was the disk full?")
}

fn machine_name(machine: u16) -> String {
    let name = match machine {
        header::EM_386 => "i386",
        header::EM_ARM => "arm",
        header::EM_AARCH64 => "aarch64",
        header::EM_PPC64 => "ppc64",
        header::EM_S390 => "s390",
        header::EM_RISCV => "riscv",
        header::EM_LOONGARCH => "loongarch",
        _ => return format!("number {machine}"),
    };
    format!("{name} ({machine})")
}

#[cfg(test)]
mod tests;
