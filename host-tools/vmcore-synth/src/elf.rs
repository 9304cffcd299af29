//! The ELF core file: headers, notes, and physical memory as a sparse body.

use super::machine::{FILE_START, Fault, Machine};
use object::LittleEndian as LE;
use object::elf;
use object::endian::{U16, U32, U64};
use object::pod::bytes_of;
use std::fs::File;
use std::os::unix::fs::FileExt;
use vmcore::{Error, Result};

/// Bytes of the descriptor of an `NT_PRSTATUS` note on x86_64 (`struct elf_prstatus`).
const PRSTATUS_SIZE: usize = 336;
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
                .hint("The file system must allow sparse files of that size.")
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
    let header = elf::FileHeader64::<LE> {
        e_ident: elf::Ident {
            magic: elf::ELFMAG,
            class: elf::ELFCLASS64,
            data: elf::ELFDATA2LSB,
            version: elf::EV_CURRENT,
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            padding: [0; 7],
        },
        e_type: U16::new(LE, elf::ET_CORE),
        e_machine: U16::new(LE, elf::EM_X86_64),
        e_version: U32::new(LE, u32::from(elf::EV_CURRENT.0)),
        e_entry: U64::new(LE, 0),
        e_phoff: U64::new(LE, size_of::<elf::FileHeader64<LE>>() as u64),
        e_shoff: U64::new(LE, 0),
        e_flags: U32::new(LE, elf::FileFlags(0)),
        e_ehsize: U16::new(LE, size_of::<elf::FileHeader64<LE>>() as u16),
        e_phentsize: U16::new(LE, size_of::<elf::ProgramHeader64<LE>>() as u16),
        e_phnum: U16::new(LE, machine.loads.len() as u16 + 1),
        e_shentsize: U16::new(LE, 0),
        e_shnum: U16::new(LE, 0),
        e_shstrndx: U16::new(LE, elf::SHN_UNDEF),
    };
    let note = elf::ProgramHeader64::<LE> {
        p_type: U32::new(LE, elf::PT_NOTE),
        p_flags: U32::new(LE, elf::ProgramFlags(0)),
        p_offset: U64::new(LE, NOTES_START),
        p_vaddr: U64::new(LE, 0),
        p_paddr: U64::new(LE, 0),
        p_filesz: U64::new(LE, notes_size),
        p_memsz: U64::new(LE, notes_size),
        p_align: U64::new(LE, 4),
    };
    let mut bytes = bytes_of(&header).to_vec();
    bytes.extend_from_slice(bytes_of(&note));
    for load in &machine.loads {
        bytes.extend_from_slice(bytes_of(&elf::ProgramHeader64::<LE> {
            p_type: U32::new(LE, elf::PT_LOAD),
            p_flags: U32::new(LE, elf::PF_R | elf::PF_W | elf::PF_X),
            p_offset: U64::new(LE, load.offset),
            p_vaddr: U64::new(LE, load.virt.as_u64()),
            p_paddr: U64::new(LE, load.phys.as_u64()),
            p_filesz: U64::new(LE, load.file_size),
            p_memsz: U64::new(LE, load.mem_size),
            p_align: U64::new(LE, 0),
        }));
    }
    assert!(bytes.len() as u64 <= NOTES_START);
    bytes
}

fn notes(machine: &Machine, vmcoreinfo: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for cpu in 0..machine.spec.nodes {
        let mut status = [0; PRSTATUS_SIZE];
        status[PRSTATUS_PID..PRSTATUS_PID + 4].copy_from_slice(&cpu.to_le_bytes());
        note(&mut bytes, b"CORE\0", elf::NT_PRSTATUS.0, &status);
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
