//! The parameters that the loader passes to the stage: a block of numbers, followed by the memory ranges and the
//! VMCOREINFO text. One checksum covers the block.
//!
//! The *area* is the kexec segment of the stage. Its parts are in this order:
//!
//! ```text
//! image (last page: info) | block: parameters, ranges, VMCOREINFO | state | page tables | bitmap
//! ```
//!
//! The loader provides the bytes up to the end of the block. kexec fills the rest with zeros.
//!
//! The location of the info does not depend on the parameters, so the stage can report corrupted parameters.

use crash_scan::{STATE_ALIGN, STATE_SIZE};
use scanner_core::crc32c::Crc32c;
use scanner_core::info::v2::{ChunkEntry, Header};
use scanner_core::{PAGE_SIZE, PfnRange};

/// The value of [`Parameters::magic`]. Its last byte is the version of the interface between the stage and its loader.
pub const MAGIC: u64 = u64::from_le_bytes(*b"CDSTAGE\x02");

/// Size of the prepared bitmap in bytes. It is at the end of the info's page, and all of its bits are 1.
pub const PREPARED_BITMAP: u64 = 8;

/// Size of the info in bytes: the last page of the image, with a header, one chunk entry, and the prepared bitmap.
pub const INFO_SIZE: u64 = PAGE_SIZE as u64;
const _: () = assert!((Header::SIZE + ChunkEntry::SIZE) as u64 + PREPARED_BITMAP <= INFO_SIZE);

/// Bit of [`Parameters::large_pages`]: the processor supports 2 MiB pages.
pub const LARGE_2M: u64 = 1;
/// Bit of [`Parameters::large_pages`]: the processor supports 1 GiB pages.
pub const LARGE_1G: u64 = 2;

macro_rules! parameters {
    ($($(#[doc = $doc:literal])+ $field:ident;)*) => {
        /// The numbers of the block, each with 64 bits, little-endian. Sizes and offsets are in bytes.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Parameters {
            $($(#[doc = $doc])+ pub $field: u64,)*
        }

        impl Parameters {
            /// Size of the numbers in bytes. The ranges follow.
            pub const SIZE: usize = size_of::<Self>();

            /// The numbers as bytes.
            pub fn to_bytes(&self) -> [u8; Self::SIZE] {
                let mut bytes = [0; Self::SIZE];
                let words = [$(self.$field),*];
                for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
                    *place = word.to_le_bytes();
                }
                bytes
            }
        }
    };
}

parameters! {
    /// [`MAGIC`].
    magic;
    /// Address that the stage jumps to at its end: the original entry of the kexec image.
    entry;
    /// CRC-32C of the block, with this field as 0.
    crc;
    /// Size of the block: the numbers, the ranges, and the VMCOREINFO text.
    block_size;
    /// Physical address of the area.
    area;
    /// Size of the area.
    area_size;
    /// Size of the image with the info, a multiple of 4096. The block follows the image.
    image_size;
    /// Size of the read-only part at the start of the image.
    image_checked;
    /// CRC-32C of the read-only part.
    image_crc;
    /// Offset of the scanner's state in the area, a multiple of 4096.
    state;
    /// Offset of the memory for page tables in the area, a multiple of 4096.
    tables;
    /// Number of page tables in that memory.
    table_count;
    /// Offset of the bitmap in the area, a multiple of 4096.
    bitmap;
    /// Size of the bitmap, a multiple of 8.
    bitmap_size;
    /// Number of frames of the bitmap, which starts with frame 0.
    frame_count;
    /// Number of memory ranges. A range is two numbers: its first frame, and the first frame after it.
    range_count;
    /// Size of the VMCOREINFO text.
    text_size;
    /// Dump level.
    level;
    /// Rule set: 0 for makedumpfile's rules, 1 for the kernel's.
    rules;
    /// 1 if the dead kernel has five levels of page tables.
    five_level;
    /// Large pages that the stage's page tables may use: [`LARGE_2M`], [`LARGE_1G`].
    large_pages;
    /// Frequency of the time stamp counter in kHz: ticks per millisecond.
    tsc_khz;
    /// Time budget of the scan in milliseconds.
    budget_ms;
    /// I/O port of a serial console, on which the stage prints a summary; 0 for none.
    serial_port;
    /// The fault to inject; see [`FaultInjection`]. 0 for none.
    injected_fault;
}

/// A fault that the stage injects into its own scan, to test that a fault affects only the bitmap.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultInjection {
    /// Executes an invalid opcode.
    InvalidOpcode = 1,
    /// Reads memory that is not mapped.
    PageFault = 2,
    /// Reads from a non-canonical address.
    GeneralProtection = 3,
    /// Pushes to the stack until it overflows.
    StackOverflow = 4,
    /// Raises a machine check.
    MachineCheck = 5,
}

impl FaultInjection {
    /// All faults, with their names on command lines.
    pub const NAMES: [(Self, &'static str); 5] = [
        (Self::InvalidOpcode, "invalid-opcode"),
        (Self::PageFault, "page-fault"),
        (Self::GeneralProtection, "general-protection"),
        (Self::StackOverflow, "stack-overflow"),
        (Self::MachineCheck, "machine-check"),
    ];
}

/// A block with a valid checksum and consistent numbers.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The numbers.
    pub numbers: &'a Parameters,
    /// The ranges of memory that exist. [`crash_scan::crash_scan_setup`] checks that they are ascending and disjoint.
    pub ranges: &'a [PfnRange],
    /// The VMCOREINFO text.
    pub text: &'a [u8],
}

impl<'a> Block<'a> {
    /// The block at `start`; `None` if its checksum or its numbers are invalid.
    ///
    /// # Safety
    /// `start` must be aligned to 8, and the block must be readable up to the size that it contains. If that is not
    /// certain, a fault during the read must be survivable.
    pub unsafe fn at(start: *const u8) -> Option<Self> {
        // SAFETY: aligned, and the caller promised the memory. Any bits are valid numbers.
        let numbers = unsafe { &*start.cast::<Parameters>() };
        let size = numbers
            .block_size
            .try_into()
            .ok()
            .filter(|size| (Parameters::SIZE..=MAX_BLOCK).contains(size))?;
        // SAFETY: the caller promised memory of the size that the block contains.
        let bytes: &[u8] = unsafe { core::slice::from_raw_parts(start, size) };
        let range_bytes = (numbers.range_count as usize).checked_mul(size_of::<PfnRange>())?;
        let (ranges, text) = bytes.get(Parameters::SIZE..)?.split_at_checked(range_bytes)?;
        let is_valid = numbers.magic == MAGIC
            && numbers.crc == u64::from(block_crc(bytes)?)
            && numbers.text_size == text.len() as u64
            && numbers.is_consistent();
        // SAFETY: the size of the numbers is a multiple of the alignment of a range, so the bytes after the numbers are
        // aligned, and `ranges` has the bytes of all ranges. A range is two numbers, for which any bits are valid.
        let ranges =
            unsafe { core::slice::from_raw_parts(ranges.as_ptr().cast(), numbers.range_count as usize) };
        is_valid.then_some(Self { numbers, ranges, text })
    }
}

/// The largest size of a block, in bytes.
const MAX_BLOCK: usize = 16 << 20;

/// Writes the checksum of a block.
pub fn seal(block: &mut [u8]) {
    if let (Some(crc), Some(place)) = (block_crc(block), block.get_mut(CRC..CRC + 8)) {
        place.copy_from_slice(&u64::from(crc).to_le_bytes());
    }
}

const CRC: usize = core::mem::offset_of!(Parameters, crc);

/// The checksum of a block, with the checksum field as 0.
fn block_crc(block: &[u8]) -> Option<u32> {
    let (before, rest) = block.split_at_checked(CRC)?;
    let mut crc = Crc32c::new();
    crc.update(before);
    crc.update(&[0; 8]);
    crc.update(rest.get(8..)?);
    Some(crc.finish())
}

impl Parameters {
    /// Offset of the info in the area.
    pub const fn info(&self) -> u64 {
        self.image_size.saturating_sub(INFO_SIZE)
    }

    /// Whether all parts are inside the area, in order, aligned, and large enough.
    pub fn is_consistent(&self) -> bool {
        let page = PAGE_SIZE as u64;
        let is_page = |offset: u64| offset.is_multiple_of(page);
        let end = |offset: u64, size: u64| offset.checked_add(size);
        let tables_size = self.table_count.checked_mul(page);
        let bits = self.frame_count.div_ceil(64).checked_mul(8);
        [self.area, self.area_size, self.image_size, self.state, self.tables, self.bitmap]
            .into_iter()
            .all(is_page)
            && end(self.image_checked, INFO_SIZE).is_some_and(|end| end <= self.image_size)
            && end(self.area, self.area_size)
                .is_some_and(|end| end >> scanner_core::addr::PHYS_ADDR_BITS == 0)
            && end(self.image_size, self.block_size).is_some_and(|end| end <= self.state)
            && end(self.state, STATE_SIZE as u64).is_some_and(|end| end <= self.tables)
            && tables_size.and_then(|size| end(self.tables, size)).is_some_and(|end| end <= self.bitmap)
            && bits.is_some_and(|bits| bits <= self.bitmap_size)
            && self.bitmap_size.is_multiple_of(8)
            && end(self.bitmap, self.bitmap_size).is_some_and(|end| end <= self.area_size)
    }
}

const _: () =
    assert!(PAGE_SIZE.is_multiple_of(STATE_ALIGN) && Parameters::SIZE.is_multiple_of(align_of::<PfnRange>()));
