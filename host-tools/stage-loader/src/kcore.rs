//! The running kernel's memory and VMCOREINFO, through `/proc/kcore`.

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{EM_X86_64, ET_CORE, header64};
use goblin::elf::program_header::{PT_LOAD, PT_NOTE, ProgramHeader};
use scanner_core::{Pfn, PhysAddr, PhysicalMemory, Unreadable};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use vmcore::image::notes::CoreNotes;
use vmcore::{Error, Result};

/// How the headers are laid out.
const CTX: Ctx = Ctx { container: Container::Big, le: Endian::Little };
/// The most notes that are read, in bytes.
const MAX_NOTES: u64 = 1 << 20;

/// The running kernel's memory.
#[derive(Debug)]
pub struct Kcore {
    file: File,
    /// The direct map: physical address, size, offset in the file.
    pieces: Vec<(u64, u64, u64)>,
    vmcoreinfo: Vec<u8>,
}

impl Kcore {
    /// Opens `/proc/kcore`, or what looks like it.
    ///
    /// # Errors
    /// If it can't be read (locked down, not root), or has no VMCOREINFO (before Linux 4.19).
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error| Error::io(path, "the running kernel's memory can't be read", error);
        let damaged = || Error::unusable("is not the memory of a running x86_64 kernel").at(path);
        let file = File::open(path).map_err(failed)?;
        let mut start = [0; header64::SIZEOF_EHDR];
        file.read_exact_at(&mut start, 0).map_err(failed)?;
        let header = header64::Header::parse(&start).map_err(|_| damaged())?;
        let known = header.e_ident.starts_with(b"\x7fELF\x02\x01\x01");
        if !known || header.e_machine != EM_X86_64 || header.e_type != ET_CORE {
            return Err(damaged());
        }
        let count = usize::from(header.e_phnum);
        let mut bytes = vec![0; count * ProgramHeader::size(CTX)];
        file.read_exact_at(&mut bytes, header.e_phoff).map_err(failed)?;
        let headers = ProgramHeader::parse(&bytes, 0, count, CTX).map_err(|_| damaged())?;
        let mut kcore = Self { file, pieces: Vec::new(), vmcoreinfo: Vec::new() };
        for header in headers {
            let (phys, size, offset) = (header.p_paddr, header.p_memsz, header.p_offset);
            match header.p_type {
                PT_LOAD if phys.checked_add(size).is_some_and(|end| end <= Pfn::END.addr().as_u64()) => {
                    kcore.pieces.push((phys, size, offset));
                }
                PT_NOTE => {
                    let mut notes = vec![0; header.p_filesz.min(MAX_NOTES) as usize];
                    kcore.file.read_exact_at(&mut notes, offset).map_err(failed)?;
                    let found = CoreNotes::parse(&notes).map_err(|error| error.at(path))?;
                    kcore.vmcoreinfo = found.vmcoreinfo.unwrap_or_default().to_vec();
                }
                _ => {}
            }
        }
        if kcore.vmcoreinfo.is_empty() {
            return Err(Error::unusable("has no VMCOREINFO")
                .at(path)
                .with_hint("Linux 4.19 or later puts it there."));
        }
        Ok(kcore)
    }

    /// The VMCOREINFO text.
    pub fn vmcoreinfo(&self) -> &[u8] {
        &self.vmcoreinfo
    }
}

impl PhysicalMemory for Kcore {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        let at = addr.as_u64();
        let holds = |(phys, size, _): &&(u64, u64, u64)| {
            at.checked_sub(*phys)
                .is_some_and(|inside| inside.checked_add(buf.len() as u64).is_some_and(|end| end <= *size))
        };
        let (phys, _, offset) = self.pieces.iter().find(holds).ok_or(Unreadable { addr })?;
        self.file.read_exact_at(buf, offset + (at - phys)).map_err(|_| Unreadable { addr })
    }
}
