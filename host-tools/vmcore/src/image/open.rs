//! Opens a memory image of whatever kind, or says what the file is instead.

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

/// What the user says about an image.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// A file with the VMCOREINFO to be used instead of the image's own: text, or an ELF note.
    pub vmcoreinfo: Option<PathBuf>,
    /// The map of an image that is raw memory; see [`raw`](super::raw).
    pub map: Option<PathBuf>,
    /// How much of a vmcore or of raw memory may be mapped. (A kdump-compressed file is read in no order, and
    /// mapped as a whole.)
    pub access: Access,
}

/// Opens the memory image `path`, of whatever kind it is.
///
/// # Errors
/// The file can't be read, is damaged, or is something else; then the error says what it seems to be.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn MemoryImage>> {
    let image = open_by_kind(path, options)?;
    let Some(file) = &options.vmcoreinfo else { return Ok(image) };
    let bytes = read_small(file, MAX_VMCOREINFO)?;
    let vmcoreinfo = vmcoreinfo_text(&bytes).map_err(|e| e.at(file))?.to_vec();
    let facts = ImageFacts { vmcoreinfo: Some(vmcoreinfo), ..image.facts().clone() };
    Ok(Box::new(WithFacts { image, facts }))
}

/// The largest file that is taken for VMCOREINFO, in bytes. The kernel's own is at most a page.
const MAX_VMCOREINFO: u64 = 1 << 20;
/// Where the first bytes of a flattened file are, if they come first in the stream.
const IN_FLATTENED: usize = flattened::HEADER_SIZE + flattened::RECORD_HEADER_SIZE;
/// Bytes at the start of a file that tell its kind.
const HEAD: u64 = IN_FLATTENED as u64 + 16;

fn open_by_kind(path: &Path, options: &OpenOptions) -> Result<Box<dyn MemoryImage>> {
    let unusable = |what: &str| Error::unusable(what).at(path);
    let metadata = path.metadata().map_err(|e| unusable("can't be opened").because(e))?;
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
        Kind::Foreign { is, hint } => Err(unusable(is).with_hint(hint)),
        Kind::Unknown => Err(unusable("is no memory image of a known kind")
            .with_hint("If it is raw memory, say with --map which addresses it holds.")),
    }
}

/// What the first bytes of a file say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Elf,
    /// Plain or flattened.
    Kdump,
    Foreign {
        is: &'static str,
        hint: &'static str,
    },
    Unknown,
}

/// Files that one might take for a memory image, by their first bytes: what they are, and what to do.
const FOREIGN: [(&[u8], &str, &str); 17] = [
    (
        b"DISKDUMP",
        "is a dump of diskdump, the forerunner of kdump",
        "Only kdump-compressed files can be read.",
    ),
    (b"EMiL", "is a LiME image", "Have LiME write raw memory (format=raw), and give its ranges with --map."),
    (b"\x1f\x8b", "is compressed with gzip", DECOMPRESS),
    (b"BZh", "is compressed with bzip2", DECOMPRESS),
    (b"\xfd7zXZ\0", "is compressed with xz", DECOMPRESS),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", DECOMPRESS),
    (b"\x04\x22\x4d\x18", "is compressed with lz4", DECOMPRESS),
    (b"QFI\xfb", "is a qcow2 disk image", GUEST),
    (b"QEVM", "is a saved machine or migration stream of QEMU", GUEST),
    (b"LibvirtQemudSave", "is a machine saved by libvirt", GUEST),
    (b"\xd0\xbe\xd2\xbe", "is a saved machine of VMware", VMWARE),
    (b"\xd1\xba\xd1\xba", "is a saved machine of VMware", VMWARE),
    (b"\xd2\xbe\xd2\xbe", "is a saved machine of VMware", VMWARE),
    (b"PAGEDU64", "is a crash dump of Windows", "Only Linux kernels' memory can be filtered."),
    (b"PAGEDUMP", "is a crash dump of Windows", "Only Linux kernels' memory can be filtered."),
    (b"CDBITMAP", "is a crash dump bitmap, not a memory image", BITMAP),
    (b"!<arch>\n", "is an archive", "Unpack it first."),
];
const DECOMPRESS: &str = "Decompress it first: memory is read in no particular order.";
const REARRANGE: &str = "Rearrange it first: `makedumpfile -R VMCORE < FILE`.";
const GUEST: &str = "QEMU writes a vmcore of a running machine with `dump-guest-memory`, libvirt with `virsh dump --memory-only`.";
const VMWARE: &str = "Convert it to a vmcore first (vmss2core -N6).";
const BITMAP: &str = "Give the vmcore that it belongs to as the image, and the bitmap beside it.";

impl Kind {
    /// The kind of a file that starts with `head`.
    fn of(head: &[u8]) -> Self {
        if head.is_empty() {
            return Self::Foreign {
                is: "is empty",
                hint: "Perhaps the copy of the vmcore failed: look at the disk's free space.",
            };
        }
        if head.starts_with(b"\x7fELF") {
            return Self::Elf;
        }
        if flattened::is_flattened(head)
            && head.get(IN_FLATTENED..).is_some_and(|h| h.starts_with(b"\x7fELF"))
        {
            return Self::Foreign { is: "is a flattened ELF dump", hint: REARRANGE };
        }
        if head.starts_with(header::SIGNATURE) || flattened::is_flattened(head) {
            return Self::Kdump;
        }
        let foreign = FOREIGN.iter().find(|(magic, ..)| head.starts_with(magic));
        foreign.map_or(Self::Unknown, |&(_, is, hint)| Self::Foreign { is, hint })
    }
}

fn read_head(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::unusable("can't be read").at(path).because(e);
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head)).map_err(failed)?;
    Ok(head)
}

/// An image of which the user knows better.
struct WithFacts {
    image: Box<dyn MemoryImage>,
    facts: ImageFacts,
}

impl PhysicalMemory for WithFacts {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        self.image.read(addr, buf)
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        self.image.view(addr, len)
    }
}

impl MemoryImage for WithFacts {
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
    fn names_what_is_no_image() {
        for (magic, is, hint) in FOREIGN {
            let error = error(&[magic, b"whatever"].concat());
            assert!(error.contains(is) && error.contains(hint), "{error}");
        }
        assert!(error(b"").contains("is empty"));
        let core = ElfBuilder::new().load(0, 0x1000, &[1; 4096]).build();
        let record = flattened::record_header(0, core.len() as u64);
        let flat = [&flattened::header()[..], &record, &core].concat();
        assert!(error(&flat).contains("makedumpfile -R"), "{}", error(&flat));
        assert!(error(&[0; 4096]).contains("--map"));
        let here = open(Path::new("."), &OpenOptions::default()).err().unwrap().report();
        assert!(here.contains("is a directory"));
        let missing = open(Path::new("/nowhere/vmcore"), &OpenOptions::default()).err().unwrap().report();
        assert!(missing.contains("/nowhere/vmcore: can't be opened"), "{missing}");
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
        assert!(error.contains("is no VMCOREINFO"), "{error}");
    }

    #[test]
    fn a_map_makes_raw_memory_of_any_file() {
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
