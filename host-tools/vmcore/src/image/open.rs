//! Opens a memory image of any supported format, and names the format of other files.

use super::elf::ElfImage;
use super::facts::ImageFacts;
use super::file::Borrowed;
use super::file::{Access, read_small};
use super::kdump::KdumpImage;
use super::notes::vmcoreinfo_text;
use super::raw::RawImage;
use super::source::{Hole, MemoryImage};
use crate::format::{flattened, kdump as header};
use crate::identity::DumpIdentity;
use crate::{Error, Result};
use scanner_core::{PhysAddr, PhysicalMemory, Unreadable};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The user's options for opening an image.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// A file with VMCOREINFO (text, or an ELF note) that replaces the image's own.
    pub vmcoreinfo: Option<PathBuf>,
    /// The map of a raw memory image; see [`raw`](super::raw).
    pub map: Option<PathBuf>,
    /// How a vmcore or raw memory is accessed. A kdump-compressed file is always mapped as a whole, since its reads
    /// have no order.
    pub access: Access,
}

/// Opens the memory image `path` and detects its format.
///
/// # Errors
/// If the file cannot be read, is damaged, or has another format. The error names the format if it is known.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn MemoryImage>> {
    let image = open_by_kind(path, options)?;
    let Some(file) = &options.vmcoreinfo else { return Ok(image) };
    let bytes = read_small(file, MAX_VMCOREINFO)?;
    let vmcoreinfo = vmcoreinfo_text(&bytes).map_err(|e| e.at(file))?.to_vec();
    let facts = ImageFacts { vmcoreinfo: Some(vmcoreinfo), ..image.facts().clone() };
    Ok(Box::new(WithVmcoreinfo { image, facts }))
}

/// Size limit of a VMCOREINFO file in bytes. The kernel's own VMCOREINFO is at most one page.
const MAX_VMCOREINFO: u64 = 1 << 20;
/// Offset of the first record's data in a flattened stream.
const FIRST_RECORD_DATA: usize = flattened::HEADER_SIZE + flattened::RECORD_HEADER_SIZE;
/// Bytes at the start of a file that identify its format.
const HEAD: u64 = FIRST_RECORD_DATA as u64 + 16;

fn open_by_kind(path: &Path, options: &OpenOptions) -> Result<Box<dyn MemoryImage>> {
    let unusable = |what: &str| Error::unusable(what).at(path);
    let metadata = path.metadata().map_err(|e| unusable("cannot be opened").because(e))?;
    if metadata.is_dir() {
        return Err(unusable("is a directory").with_hint("Give the vmcore file inside it."));
    }
    if let Some(map) = &options.map {
        return Ok(Box::new(RawImage::open(path, map, options.access)?));
    }
    let head = read_head(path)?;
    match Kind::of(&head) {
        Kind::Elf => Ok(Box::new(ElfImage::open(path, options.access)?)),
        Kind::Kdump => Ok(Box::new(KdumpImage::open(path)?)),
        Kind::Foreign { what, hint } => Err(unusable(what).with_hint(hint)),
        Kind::Unknown => Err(unusable("is not a memory image of a supported format")
            .with_hint("If it is raw memory, give its physical addresses with --map.")),
    }
}

/// The format of a file, as its first bytes show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Elf,
    /// Plain or flattened.
    Kdump,
    /// A known format that is not supported.
    Foreign {
        what: &'static str,
        hint: &'static str,
    },
    Unknown,
}

/// Unsupported formats: the first bytes, the message and the hint.
const FOREIGN: [(&[u8], &str, &str); 17] = [
    (
        b"DISKDUMP",
        "is a diskdump dump, the predecessor of the kdump-compressed format",
        "Only the kdump-compressed format is supported.",
    ),
    (b"EMiL", "is a LiME image", "Use LiME with format=raw, and give its memory ranges with --map."),
    (b"\x1f\x8b", "is compressed with gzip", DECOMPRESS),
    (b"BZh", "is compressed with bzip2", DECOMPRESS),
    (b"\xfd7zXZ\0", "is compressed with xz", DECOMPRESS),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", DECOMPRESS),
    (b"\x04\x22\x4d\x18", "is compressed with lz4", DECOMPRESS),
    (b"QFI\xfb", "is a qcow2 disk image", GUEST),
    (b"QEVM", "is a QEMU saved state or migration stream", GUEST),
    (b"LibvirtQemudSave", "is a libvirt saved state", GUEST),
    (b"\xd0\xbe\xd2\xbe", "is a VMware saved state", VMWARE),
    (b"\xd1\xba\xd1\xba", "is a VMware saved state", VMWARE),
    (b"\xd2\xbe\xd2\xbe", "is a VMware saved state", VMWARE),
    (b"PAGEDU64", "is a Windows crash dump", "Only the memory of a Linux kernel can be filtered."),
    (b"PAGEDUMP", "is a Windows crash dump", "Only the memory of a Linux kernel can be filtered."),
    (b"CDBITMAP", "is a crash dump bitmap, not a memory image", BITMAP),
    (b"!<arch>\n", "is an archive", "Unpack it first."),
];
const DECOMPRESS: &str = "Decompress it first: an image needs random access.";
const REARRANGE: &str = "Rearrange it first: `makedumpfile -R VMCORE < FILE`.";
const GUEST: &str =
    "Write a vmcore instead: `dump-guest-memory` in QEMU, or `virsh dump --memory-only` in libvirt.";
const VMWARE: &str = "Convert it to a vmcore first (vmss2core -N6).";
const BITMAP: &str =
    "Give the vmcore of the same machine as the image, and the bitmap as the other argument.";

impl Kind {
    /// The kind of a file that starts with `head`.
    fn of(head: &[u8]) -> Self {
        if head.is_empty() {
            return Self::Foreign {
                what: "is empty",
                hint: "Copy the vmcore again, and check the free disk space.",
            };
        }
        if head.starts_with(b"\x7fELF") {
            return Self::Elf;
        }
        if flattened::is_flattened(head)
            && head.get(FIRST_RECORD_DATA..).is_some_and(|h| h.starts_with(b"\x7fELF"))
        {
            return Self::Foreign { what: "is a flattened ELF dump", hint: REARRANGE };
        }
        if head.starts_with(header::SIGNATURE) || flattened::is_flattened(head) {
            return Self::Kdump;
        }
        let foreign = FOREIGN.iter().find(|(magic, ..)| head.starts_with(magic));
        foreign.map_or(Self::Unknown, |&(_, what, hint)| Self::Foreign { what, hint })
    }
}

fn read_head(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::unusable("cannot be read").at(path).because(e);
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head)).map_err(failed)?;
    Ok(head)
}

/// An image with the VMCOREINFO of another file.
struct WithVmcoreinfo {
    image: Box<dyn MemoryImage>,
    facts: ImageFacts,
}

impl PhysicalMemory for WithVmcoreinfo {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        self.image.read(addr, buf)
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        self.image.view(addr, len)
    }
}

impl MemoryImage for WithVmcoreinfo {
    fn facts(&self) -> &ImageFacts {
        &self.facts
    }

    fn borrow_bytes(&self, addr: PhysAddr, len: usize) -> Option<Borrowed<'_>> {
        self.image.borrow_bytes(addr, len)
    }

    fn hole_at(&self, addr: PhysAddr) -> Hole {
        self.image.hole_at(addr)
    }

    fn recorded_identity(&self) -> Option<&DumpIdentity> {
        self.image.recorded_identity()
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::ImageFormat;
    use super::super::testing::{ElfBuilder, file, note};
    use super::*;

    fn error(bytes: &[u8]) -> String {
        let file = file(bytes);
        let error = open(file.path(), &OpenOptions::default()).err().unwrap();
        assert_eq!(error.kind(), crate::ErrorKind::Unusable);
        error.report()
    }

    #[test]
    fn unsupported_formats_are_named() {
        for (magic, what, hint) in FOREIGN {
            let error = error(&[magic, b"more data"].concat());
            assert!(error.contains(what) && error.contains(hint), "{error}");
        }
        assert!(error(b"").contains("is empty"));
        let core = ElfBuilder::new().load(0, 0x1000, &[1; 4096]).build();
        let record = flattened::record_header(0, core.len() as u64);
        let flat = [&flattened::header()[..], &record, &core].concat();
        assert!(error(&flat).contains("makedumpfile -R"), "{}", error(&flat));
        assert!(error(&[0; 4096]).contains("--map"));
        let directory = open(Path::new("."), &OpenOptions::default()).err().unwrap().report();
        assert!(directory.contains("is a directory"));
        let missing = open(Path::new("/nowhere/vmcore"), &OpenOptions::default()).err().unwrap().report();
        assert!(missing.contains("/nowhere/vmcore: cannot be opened"), "{missing}");
    }

    #[test]
    fn a_vmcoreinfo_file_overrides_the_note() {
        let core = file(&ElfBuilder::new().load(0x1000, 0x1000, &[1; 4096]).build());
        let vmcoreinfo =
            |options: &OpenOptions| open(core.path(), options).unwrap().facts().vmcoreinfo.clone();
        assert_eq!(vmcoreinfo(&OpenOptions::default()).unwrap(), b"OSRELEASE=6.1.0\n");
        for bytes in [b"OSRELEASE=6.2.0\n".to_vec(), note("VMCOREINFO", 0, b"OSRELEASE=6.2.0\n")] {
            let other = file(&bytes);
            let options = OpenOptions { vmcoreinfo: Some(other.path().into()), ..OpenOptions::default() };
            assert_eq!(vmcoreinfo(&options).unwrap(), b"OSRELEASE=6.2.0\n");
        }
        let options = OpenOptions { vmcoreinfo: Some(core.path().into()), ..OpenOptions::default() };
        let error = open(core.path(), &options).err().unwrap().report();
        assert!(error.contains("is not VMCOREINFO"), "{error}");
    }

    #[test]
    fn a_file_with_a_map_is_raw_memory() {
        let (memory, map) = (file(&[7; 0x2000]), file(b"1000-2fff\n"));
        let options = OpenOptions { map: Some(map.path().into()), ..OpenOptions::default() };
        let image = open(memory.path(), &options).unwrap();
        assert_eq!((image.facts().format, image.facts().max_pfn), (ImageFormat::Raw, 3));
        let map = file(b"1000\n");
        let options = OpenOptions { map: Some(map.path().into()), ..OpenOptions::default() };
        let error = open(memory.path(), &options).err().unwrap().report();
        assert!(error.starts_with(&format!("{}: line 1", map.path().display())), "{error}");
    }
}
