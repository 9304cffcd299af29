//! ELF vmcores built in memory, for the tests of the images.

use super::file::{Access, PlainFile};
use super::windows::{Backing, Windows};
use std::io::Write;

/// An ELF note, padded to 4 bytes.
pub fn note(name: &str, kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [name.len() as u32 + 1, desc.len() as u32, kind] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(name.bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(desc);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A temporary file with these contents.
pub fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file.flush().unwrap();
    file
}

/// A [`PlainFile`] with these contents in memory.
pub fn in_memory(bytes: &[u8]) -> PlainFile {
    PlainFile::InMemory(bytes.to_vec())
}

/// A mapped file with these contents.
pub fn mapped(bytes: &[u8]) -> PlainFile {
    PlainFile::open(file(bytes).path(), Access::Whole).unwrap()
}

/// A file with these contents that is accessed through windows.
pub fn windowed(bytes: &[u8]) -> PlainFile {
    let windows = Windows::new(file(bytes).reopen().unwrap(), bytes.len() as u64, Backing::Disk);
    PlainFile::Windowed(Box::new(windows))
}

/// A file with these contents that is read with `pread`.
pub fn unmapped(bytes: &[u8]) -> PlainFile {
    PlainFile::open_unmapped(file(bytes).path()).unwrap()
}

/// A `PT_LOAD` with its data.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// `p_paddr`.
    pub phys: u64,
    /// `p_memsz`.
    pub mem_size: u64,
    /// The contents. Its length is `p_filesz`.
    pub data: Vec<u8>,
}

/// Builds an ELF vmcore.
#[derive(Clone, Debug)]
pub struct ElfBuilder {
    /// `e_machine`.
    pub machine: u16,
    /// `e_type`.
    pub kind: u16,
    /// The contents of the `PT_NOTE`.
    pub notes: Vec<u8>,
    /// The `PT_LOAD`s in the order of the file.
    pub loads: Vec<Load>,
    /// Whether the number of program headers is in section header 0.
    pub extended: bool,
}

impl ElfBuilder {
    /// A core with a VMCOREINFO note and no memory.
    pub fn new() -> Self {
        let notes = note("VMCOREINFO", 0, b"OSRELEASE=6.1.0\n");
        Self { machine: 62, kind: 4, notes, loads: Vec::new(), extended: false }
    }

    /// Adds memory of `mem_size` bytes at `phys` that starts with `data`.
    pub fn load(mut self, phys: u64, mem_size: u64, data: &[u8]) -> Self {
        self.loads.push(Load { phys, mem_size, data: data.to_vec() });
        self
    }

    /// The file: header, section header 0 if `extended`, program headers, notes, data.
    pub fn build(&self) -> Vec<u8> {
        let phnum = self.loads.len() as u64 + 1;
        let shoff = if self.extended { 64u64 } else { 0 };
        let phoff = if self.extended { 128u64 } else { 64 };
        let mut data_at = phoff + phnum * 56;

        let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.machine.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend([0, phoff, shoff].map(u64::to_le_bytes).concat());
        bytes.extend([0; 4]);
        let counted = if self.extended { 0xffff } else { phnum as u16 };
        bytes.extend([64, 56, counted, 64, u16::from(self.extended), 0].map(u16::to_le_bytes).concat());
        if self.extended {
            let mut section = vec![0; 64];
            section[44..48].copy_from_slice(&(phnum as u32).to_le_bytes());
            bytes.extend(section);
        }
        let mut header = |kind: u32, phys: u64, mem_size: u64, file_size: u64| {
            bytes.extend([kind.to_le_bytes(), 7u32.to_le_bytes()].concat());
            let virt = phys.wrapping_add(0xffff_8880_0000_0000);
            bytes.extend([data_at, virt, phys, file_size, mem_size, 0].map(u64::to_le_bytes).concat());
            data_at += file_size;
        };
        header(4, 0, self.notes.len() as u64, self.notes.len() as u64);
        for load in &self.loads {
            header(1, load.phys, load.mem_size, load.data.len() as u64);
        }
        bytes.extend(&self.notes);
        for load in &self.loads {
            bytes.extend(&load.data);
        }
        bytes
    }
}
