//! The ELF core file: headers, notes, and physical memory as a sparse body.

use super::machine::{FILE_START, Fault, Machine};
use goblin::elf::header::{self, header64};
use goblin::elf::program_header::{PF_R, PF_W, PF_X, PT_LOAD, PT_NOTE, program_header64};
use scroll::{LE, Pwrite};
use std::fs::File;
use std::os::unix::fs::FileExt;
use vmcore::{Error, Result};

/// Bytes of the descriptor of an `NT_PRSTATUS` note on x86_64 (`struct elf_prstatus`).
const PRSTATUS_SIZE: usize = 336;
/// Type of that note.
const NT_PRSTATUS: u32 = 1;
/// Where `pr_pid` is in it.
const PRSTATUS_PID: usize = 32;
/// Where the notes start in the file.
const NOTES_START: u64 = 0x1000;

/// A core file that is being written. Physical memory is in it at a fixed distance, so that holes in memory are holes
/// in the file.
#[derive(Debug)]
pub(super) struct SparseCore<'a> {
    file: &'a File,
    len: u64,
}

impl<'a> SparseCore<'a> {
    /// Writes the headers and the notes; the memory is all zeros so far.
    pub fn create(file: &'a File, machine: &Machine, vmcoreinfo: &str) -> Result<Self> {
        let mut len = FILE_START + machine.ram.end().addr().as_u64();
        if machine.spec.faults.contains(&Fault::Truncated) {
            len -= 4 << 20;
        }
        let core = Self { file, len };
        file.set_len(len).map_err(|error| {
            Error::failure("making the file as large as the machine failed")
                .because(error)
                .with_hint("The file system must allow sparse files of that size.")
        })?;
        let notes = notes(machine, vmcoreinfo);
        core.write_file(0, &headers(machine, notes.len() as u64))?;
        core.write_file(NOTES_START, &notes)?;
        Ok(core)
    }

    /// Apparent size of the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Writes `bytes` to physical memory at `phys`.
    pub fn write(&self, phys: u64, bytes: &[u8]) -> Result<()> {
        self.write_file(FILE_START + phys, bytes)
    }

    /// Writes one little-endian word to physical memory at `phys`.
    pub fn write_u64(&self, phys: u64, word: u64) -> Result<()> {
        self.write(phys, &word.to_le_bytes())
    }

    fn write_file(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        // What lies behind a truncated end is lost.
        let room = self.len.saturating_sub(offset).min(bytes.len() as u64) as usize;
        self.file
            .write_all_at(&bytes[..room], offset)
            .map_err(|error| Error::failure("writing the machine's memory failed").because(error))
    }
}

fn headers(machine: &Machine, notes_size: u64) -> Vec<u8> {
    let mut e_ident = [0; header::SIZEOF_IDENT];
    e_ident[..header::SELFMAG].copy_from_slice(header::ELFMAG);
    e_ident[header::EI_CLASS] = header::ELFCLASS64;
    e_ident[header::EI_DATA] = header::ELFDATA2LSB;
    e_ident[header::EI_VERSION] = header::EV_CURRENT;
    let header = header64::Header {
        e_ident,
        e_type: header::ET_CORE,
        e_machine: header::EM_X86_64,
        e_version: header::EV_CURRENT.into(),
        e_phoff: header64::SIZEOF_EHDR as u64,
        e_ehsize: header64::SIZEOF_EHDR as u16,
        e_phentsize: program_header64::SIZEOF_PHDR as u16,
        e_phnum: machine.loads.len() as u16 + 1,
        ..header64::Header::default()
    };
    let note = program_header64::ProgramHeader {
        p_type: PT_NOTE,
        p_offset: NOTES_START,
        p_filesz: notes_size,
        p_memsz: notes_size,
        p_align: 4,
        ..program_header64::ProgramHeader::default()
    };
    let loads = machine.loads.iter().map(|load| program_header64::ProgramHeader {
        p_type: PT_LOAD,
        p_flags: PF_R | PF_W | PF_X,
        p_offset: load.offset,
        p_vaddr: load.virt.as_u64(),
        p_paddr: load.phys.as_u64(),
        p_filesz: load.file_size,
        p_memsz: load.mem_size,
        p_align: 0,
    });
    let size = header64::SIZEOF_EHDR + (machine.loads.len() + 1) * program_header64::SIZEOF_PHDR;
    assert!(size as u64 <= NOTES_START);
    let mut bytes = vec![0; size];
    let mut at = 0;
    bytes.gwrite_with(header, &mut at, LE).expect("room for the header");
    for header in std::iter::once(note).chain(loads) {
        bytes.gwrite_with(header, &mut at, LE).expect("room for a program header");
    }
    bytes
}

fn notes(machine: &Machine, vmcoreinfo: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for cpu in 0..machine.spec.nodes {
        let mut status = [0; PRSTATUS_SIZE];
        status[PRSTATUS_PID..PRSTATUS_PID + 4].copy_from_slice(&cpu.to_le_bytes());
        note(&mut bytes, b"CORE\0", NT_PRSTATUS, &status);
    }
    note(&mut bytes, b"VMCOREINFO\0", 0, vmcoreinfo.as_bytes());
    bytes
}

fn note(bytes: &mut Vec<u8>, name: &[u8], kind: u32, description: &[u8]) {
    for word in [name.len() as u32, description.len() as u32, kind] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for part in [name, description] {
        bytes.extend_from_slice(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
}
