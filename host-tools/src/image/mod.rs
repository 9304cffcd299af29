//! Sources of memory: one trait, one file per format.

pub mod bytes;
pub mod elf;
pub mod extents;
pub mod file;
pub mod flattened;
pub mod kdump;
pub mod notes;
pub mod open;
pub mod raw;
mod segments;
#[cfg(test)]
pub(crate) mod testing;
pub mod windows;

pub use file::Lent;
pub use open::{OpenOptions, open};

use crate::frames::{FrameBitmap, FrameRanges};
use crate::kdump::DumpIdentity;
use scanner_core::{PhysAddr, PhysicalMemory, VirtAddr};

/// What kind of file an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// An ELF core: `/proc/vmcore`, or what QEMU's `dump-guest-memory` and `makedumpfile -E` write.
    Elf,
    /// A kdump-compressed file of this header version.
    Kdump {
        /// The header version, 1 to 6.
        version: u32,
        /// Whether it came as a flattened stream.
        flattened: bool,
    },
    /// Memory as it is, with a map beside it.
    Raw,
}

/// A piece of physical memory that an image lists: a `PT_LOAD` of an ELF vmcore, a line of a raw image's map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts in physical memory (`p_paddr`).
    pub phys: PhysAddr,
    /// Where the kernel maps it (`p_vaddr`); 0 if not known.
    pub virt: VirtAddr,
    /// Bytes of memory (`p_memsz`).
    pub mem_size: u64,
    /// Bytes of it that the file holds (`p_filesz`), from the start on.
    pub file_size: u64,
    /// Where they are in the file (`p_offset`).
    pub offset: u64,
}

/// What a filtered image (a dump) says about its filtering.
#[derive(Clone, Debug)]
pub struct Filtered {
    /// The dump level it was written with.
    pub level: u32,
    /// The 2nd bitmap: the pages that are in the file.
    pub kept: FrameBitmap,
}

/// What is known of an image without looking at page contents.
#[derive(Clone, Debug)]
pub struct ImageFacts {
    /// The kind of file.
    pub format: ImageFormat,
    /// The pieces of memory it lists, in the file's order; empty for a kdump-compressed file.
    pub segments: Vec<Segment>,
    /// The memory that exists: the 1st bitmap (every frame that a segment touches).
    pub exists: FrameRanges,
    /// The frames whose first byte the file holds: those that a scan looks at, as in makedumpfile.
    pub backed: FrameRanges,
    /// One more than the largest frame number: makedumpfile's `max_mapnr` before sections lower it.
    pub max_pfn: u64,
    /// The ELF notes as they are in the file.
    pub notes: Vec<u8>,
    /// The VMCOREINFO text.
    pub vmcoreinfo: Option<Vec<u8>>,
    /// Set if the image is a dump that was filtered already.
    pub filtered: Option<Filtered>,
    /// What the user should know although the image can be used: a file that is cut off, an unfinished dump.
    /// One sentence each, without a full stop.
    pub warnings: Vec<String>,
}

/// Memory of which one thing is known without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Whether it is known to be zeros: a hole of a sparse file. If not, it may still be zeros.
    pub zeros: bool,
    /// The first address behind it.
    pub end: PhysAddr,
}

/// A source of physical memory that can say what it is.
///
/// [`PhysicalMemory::read`] of memory that exists but is not in the file is an error, except that a page of which
/// only a part is in the file reads as that part, with zeros for the rest (as makedumpfile does).
pub trait MemoryImage: PhysicalMemory + Send + Sync {
    /// What is known of it without looking at page contents.
    fn facts(&self) -> &ImageFacts;

    /// The first of the `len` bytes from `addr` on in place: at least one, if these bytes don't have to be read. Unlike
    /// what [`PhysicalMemory::view`] gives they are there only until they are given back, so that `/proc/vmcore`, of
    /// which never all is mapped, can lend them too. `None` says nothing of whether they can be read.
    fn lend(&self, addr: PhysAddr, len: usize) -> Option<Lent<'_>> {
        self.view(addr, len).map(Lent::InPlace)
    }

    /// What is known of memory from `addr` on without reading it; nothing, unless an image can know more.
    fn stretch(&self, addr: PhysAddr) -> Stretch {
        let _ = addr;
        Stretch { zeros: false, end: PhysAddr::new(u64::MAX) }
    }

    /// What the image's own headers record of the machine, if they do: a dump's know more than its notes.
    fn recorded_identity(&self) -> Option<&DumpIdentity> {
        None
    }
}
