//! The facts about an image that are known without its page contents.

use crate::frames::{FrameBitmap, FrameRanges};
pub use scanner_core::kernel::Architecture;
use scanner_core::{PhysAddr, VirtAddr};

/// The file format of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// An ELF core: `/proc/vmcore`, or what QEMU's `dump-guest-memory` and `makedumpfile -E` write.
    Elf,
    /// A kdump-compressed file of this header version.
    Kdump {
        /// The header version, 1 to 6.
        version: u32,
        /// Whether the file is a flattened stream.
        flattened: bool,
    },
    /// Raw memory with a map in another file.
    Raw,
}

/// A range of physical memory that an image lists: a `PT_LOAD` of an ELF vmcore, or a line of a raw image's map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Physical start address (`p_paddr`).
    pub phys: PhysAddr,
    /// Kernel virtual address (`p_vaddr`); 0 if not known.
    pub virt: VirtAddr,
    /// Bytes of memory (`p_memsz`).
    pub mem_size: u64,
    /// Bytes at the start of the segment that the file has (`p_filesz`).
    pub file_size: u64,
    /// File offset of these bytes (`p_offset`).
    pub offset: u64,
}

/// How a dump was filtered.
#[derive(Clone, Debug)]
pub struct Filtered {
    /// The dump level.
    pub level: u32,
    /// The 2nd bitmap: the pages that are in the file.
    pub kept: FrameBitmap,
}

/// The facts about an image that are known without its page contents.
#[derive(Clone, Debug)]
pub struct ImageFacts {
    /// The file format.
    pub format: ImageFormat,
    /// The architecture of the machine. Opening an image of an unsupported architecture fails.
    pub architecture: Architecture,
    /// Base-2 logarithm of the page size. Opening an image with a page size other than its architecture's fails.
    pub page_shift: u32,
    /// The segments of the file, in the file's order; empty for a kdump-compressed file.
    pub segments: Vec<Segment>,
    /// The memory that exists: the 1st bitmap. It has every frame that a segment touches.
    pub exists: FrameRanges,
    /// The frames whose first byte is in the file. A scan examines these frames, as makedumpfile does.
    pub backed: FrameRanges,
    /// The largest frame number plus 1: makedumpfile's `max_mapnr` before the end of the last memory section limits it.
    pub max_pfn: u64,
    /// The ELF notes, as bytes of the file.
    pub notes: Vec<u8>,
    /// The VMCOREINFO text.
    pub vmcoreinfo: Option<Vec<u8>>,
    /// The filtering of the image, if the image is a dump that was already filtered.
    pub filtered: Option<Filtered>,
    /// Problems of a usable image that the user should know: a file that is cut off, an unfinished dump.
    /// Each is one sentence without a full stop.
    pub warnings: Vec<String>,
}

impl ImageFacts {
    /// The facts of an image of which only the format is known.
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
