//! What is known of an image without looking at page contents.

use crate::frames::{FrameBitmap, FrameRanges};
use scanner_core::{PhysAddr, VirtAddr};

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

/// A processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Architecture {
    /// x86_64 with pages of 4 KiB.
    X86_64,
}

impl Architecture {
    /// The name, as `uname -m` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
        }
    }

    /// Bytes of a page, as a power of 2.
    pub const fn page_shift(self) -> u32 {
        match self {
            Self::X86_64 => 12,
        }
    }
}

/// What is known of an image without looking at page contents.
#[derive(Clone, Debug)]
pub struct ImageFacts {
    /// The kind of file.
    pub format: ImageFormat,
    /// The architecture of the machine. An image of another one than those that are known is refused when it is opened.
    pub architecture: Architecture,
    /// Bytes of a page, as a power of 2. An image with another page size than its architecture's is refused.
    pub page_shift: u32,
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

impl ImageFacts {
    /// The facts of an image of which nothing but its kind is known.
    pub fn empty(format: ImageFormat) -> Self {
        Self {
            format,
            architecture: Architecture::X86_64,
            page_shift: Architecture::X86_64.page_shift(),
            segments: Vec::new(),
            exists: FrameRanges::default(),
            backed: FrameRanges::default(),
            max_pfn: 0,
            notes: Vec::new(),
            vmcoreinfo: None,
            filtered: None,
            warnings: Vec::new(),
        }
    }
}
