//! ELF vmcores: `/proc/vmcore`, and what QEMU's `dump-guest-memory` and `makedumpfile -E` write.
//!
//! What counts as memory follows makedumpfile: a frame exists if a `PT_LOAD` touches it (with `p_memsz`; the 1st
//! bitmap of its non-cyclic mode), and a scan looks at it if its first byte has file data (`p_filesz`).

use super::extents::{Extents, FileMemory};
use super::facts::{ImageFacts, ImageFormat, Segment};
use super::file::Lent;
use super::file::{Access, PlainFile};
use super::notes::CoreNotes;
use super::segments::{self, CutOff};
use super::source::{MemoryImage, Stretch};
use crate::{Error, Result};
use object::LittleEndian;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadRef};
use scanner_core::{PhysAddr, PhysicalMemory, Unreadable, VirtAddr};
use std::path::Path;

type Header = FileHeader64<LittleEndian>;
type ProgramHeaderOf = ProgramHeader64<LittleEndian>;
const LE: LittleEndian = LittleEndian;

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
        let headers = match &bytes {
            PlainFile::Mapped(map) => Headers::parse(&map[..], bytes.size())?,
            PlainFile::InMemory(contents) => Headers::parse(&contents[..], bytes.size())?,
            PlainFile::Windowed(windows) => Headers::parse(&ReadCache::new(windows.file()), bytes.size())?,
            PlainFile::Unmapped(file, size) => Headers::parse(&ReadCache::new(file), *size)?,
        };
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

    fn lend(&self, addr: PhysAddr, len: usize) -> Option<Lent<'_>> {
        self.memory.lend(addr, len)
    }

    fn stretch(&self, addr: PhysAddr) -> Stretch {
        self.memory.stretch(addr)
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
    /// Parses the headers of the ELF core in `data`, which has `size` bytes.
    fn parse<'data, R: ReadRef<'data>>(data: R, size: u64) -> Result<Self> {
        check_ident(data, size)?;
        let header = Header::parse(data).map_err(|e| cut_off("ELF header", size).because(e))?;
        if header.e_type(LE) != elf::ET_CORE {
            return Err(Error::unusable("an ELF file, but not a core (a vmlinux, perhaps?)")
                .hint("Give the vmcore itself: /proc/vmcore of the capture kernel, or a copy of it."));
        }
        let mut headers = Self::default();
        if header.e_flags(LE).0 & DUMP_ELF_INCOMPLETE != 0 {
            headers
                .warnings
                .push("makedumpfile marked this dump as incomplete: it could not write all of it".into());
        }
        let mut missing = CutOff::default();
        for program_header in program_headers(header, data, size)? {
            match program_header.p_type(LE) {
                elf::PT_NOTE => headers.add_notes(program_header, data, size)?,
                elf::PT_LOAD => headers.add_load(program_header, size, &mut missing)?,
                _ => {}
            }
        }
        if headers.segments.is_empty() {
            return Err(Error::unusable(
                "the ELF core has no PT_LOAD with a physical address: it holds no memory",
            )
            .hint("Is it the core of a process? Give /proc/vmcore of the capture kernel, or a copy of it."));
        }
        headers.warnings.extend(missing.warning(size, "PT_LOADs"));
        Ok(headers)
    }

    fn add_notes<'data, R: ReadRef<'data>>(
        &mut self,
        header: &ProgramHeaderOf,
        data: R,
        size: u64,
    ) -> Result<()> {
        let (offset, len) = header.file_range(LE);
        if self.notes.len() as u64 + len.min(size) > MAX_NOTES {
            return Err(Error::unusable(format!(
                "the PT_NOTE at offset {offset:#x} has {len} bytes, too many to be true"
            ))
            .hint(DAMAGED));
        }
        let bytes = data
            .read_bytes_at(offset, len)
            .map_err(|()| cut_off(&format!("notes ({len} bytes at offset {offset:#x})"), size))?;
        self.notes.extend_from_slice(bytes);
        self.notes.resize(self.notes.len().next_multiple_of(4), 0);
        Ok(())
    }

    fn add_load(&mut self, header: &ProgramHeaderOf, size: u64, missing: &mut CutOff) -> Result<()> {
        let (phys, mem_size) = (header.p_paddr(LE), header.p_memsz(LE));
        let (offset, file_size) = header.file_range(LE);
        if phys == NOT_PADDR {
            return Ok(());
        }
        if !segments::is_physical(phys, mem_size) {
            return Err(Error::unusable(format!(
                "the PT_LOAD of {mem_size:#x} bytes at {phys:#x} leaves the physical address space of x86_64"
            ))
            .hint(DAMAGED));
        }
        let promised = file_size.min(mem_size);
        let there = promised.min(size.saturating_sub(offset));
        missing.add(phys, there, promised);
        self.segments.push(Segment {
            phys: PhysAddr::new(phys),
            virt: VirtAddr::new(header.p_vaddr(LE)),
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

/// Checks what says how the rest is to be read: magic, machine, class, byte order.
fn check_ident<'data, R: ReadRef<'data>>(data: R, size: u64) -> Result<()> {
    let ident = data.read_bytes_at(0, 16).map_err(|()| cut_off("ELF header", size))?;
    let machine = data.read_bytes_at(18, 2).map_err(|()| cut_off("ELF header", size))?;
    if ident[..4] != elf::ELFMAG {
        return Err(Error::unusable("not an ELF file"));
    }
    let big_endian = ident[5] == 2;
    let machine = [machine[0], machine[1]];
    let machine = if big_endian { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
    if machine != elf::EM_X86_64.0 {
        let found = machine_name(machine);
        return Err(Error::unusable(format!("the machine is {found}, expected x86_64 (62)"))
            .hint("Only vmcores of x86_64 kernels can be read."));
    }
    if ident[4] != 2 || big_endian {
        let (class, order) = (if ident[4] == 2 { 64 } else { 32 }, if big_endian { "big" } else { "little" });
        return Err(Error::unusable(format!(
            "a {class}-bit {order}-endian ELF file, expected 64-bit little-endian"
        ))
        .hint("Write the vmcore in 64-bit ELF: `kexec -p --elf64-core-headers`."));
    }
    Ok(())
}

/// The program headers, after a check that the file has them all.
fn program_headers<'data, R: ReadRef<'data>>(
    header: &Header,
    data: R,
    size: u64,
) -> Result<&'data [ProgramHeaderOf]> {
    let count = header.phnum(LE, data).map_err(|e| {
        Error::unusable(format!("the number of program headers can't be read (file of {size} bytes)"))
            .because(e)
            .hint(DAMAGED)
    })?;
    if count > MAX_PROGRAM_HEADERS {
        return Err(Error::unusable(format!("{count} program headers are too many to be true")).hint(DAMAGED));
    }
    let offset = header.e_phoff(LE);
    let end = offset.checked_add(u64::from(count) * size_of::<ProgramHeaderOf>() as u64);
    if end.is_none_or(|end| end > size) {
        return Err(cut_off(&format!("program headers ({count} at offset {offset:#x})"), size));
    }
    header
        .program_headers(LE, data)
        .map_err(|e| Error::unusable("the program headers can't be read").because(e).hint(DAMAGED))
}

fn cut_off(inside: &str, size: u64) -> Error {
    Error::unusable(format!("the file of {size} bytes is cut off inside its {inside}"))
        .hint("Copy the vmcore again; was the disk full?")
}

fn machine_name(machine: u16) -> String {
    let name = match elf::Machine(machine) {
        elf::EM_386 => "i386",
        elf::EM_ARM => "arm",
        elf::EM_AARCH64 => "aarch64",
        elf::EM_PPC64 => "ppc64",
        elf::EM_S390 => "s390",
        elf::EM_RISCV => "riscv",
        elf::EM_LOONGARCH => "loongarch",
        _ => return format!("number {machine}"),
    };
    format!("{name} ({machine})")
}

#[cfg(test)]
mod tests;
