//! What the loader tells the stage: a block of numbers, the memory ranges and the VMCOREINFO text behind them, and one
//! checksum over all.
//!
//! The area is what kexec was given as one more segment, in this order. The loader hands over the bytes up to the end
//! of the block; kexec fills the rest with zeros.
//!
//! ```text
//! image, its last page the info | parameters, ranges, VMCOREINFO | state | page tables | bitmap
//! ```
//!
//! Where the info lies does not depend on the parameters: a stage that can't trust them can still say so.

use crash_scan::{STATE_ALIGN, STATE_SIZE};
use scanner_core::crc32c::Crc32c;
use scanner_core::info::v2::{ChunkEntry, Header};
use scanner_core::{PAGE_SIZE, PfnRange};

/// [`Parameters::magic`]: the version of all that the stage and its loader have to agree on is in its last byte.
pub const MAGIC: u64 = u64::from_le_bytes(*b"CDSTAGE\x02");

/// Bytes at the end of the info's page that hold the bitmap of the header which the loader prepares: all ones.
pub const PREPARED_BITMAP: u64 = 8;

/// The memory for the info, the image's last page: a header, its one chunk, and the prepared bitmap.
pub const INFO_SIZE: u64 = PAGE_SIZE as u64;
const _: () = assert!((Header::SIZE + ChunkEntry::SIZE) as u64 + PREPARED_BITMAP <= INFO_SIZE);

/// [`Parameters::large_pages`]: the processor has pages of 2 MiB.
pub const LARGE_2M: u64 = 1;
/// [`Parameters::large_pages`]: the processor has pages of 1 GiB.
pub const LARGE_1G: u64 = 2;

macro_rules! parameters {
    ($($(#[doc = $doc:literal])+ $field:ident;)*) => {
        /// The numbers. All are little-endian and of 64 bits; sizes and offsets are in bytes.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Parameters {
            $($(#[doc = $doc])+ pub $field: u64,)*
        }

        impl Parameters {
            /// Bytes of the numbers; the ranges follow.
            pub const SIZE: usize = size_of::<Self>();

            /// The numbers as they lie in memory.
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
    /// Where the stage goes on: the entry that kexec was about to load.
    entry;
    /// CRC-32C of the block, this field taken as 0.
    crc;
    /// Size of the block: the numbers, the ranges, and the VMCOREINFO text.
    block_size;
    /// Physical address of the area.
    area;
    /// Size of the area.
    area_size;
    /// Size of the image with the info, a multiple of 4096; the block is behind it.
    image_size;
    /// Bytes from the image's start on that nothing writes to.
    image_checked;
    /// CRC-32C of these.
    image_crc;
    /// Offset of the scanner's state in the area, a multiple of 4096.
    state;
    /// Offset of the memory for page tables in the area, a multiple of 4096.
    tables;
    /// How many page tables fit there.
    table_count;
    /// Offset of the bitmap in the area, a multiple of 4096.
    bitmap;
    /// Size of the bitmap, a multiple of 8.
    bitmap_size;
    /// Frames of the bitmap, from frame 0 on.
    frame_count;
    /// How many memory ranges there are; each is two numbers, the first frame and the first one behind.
    range_count;
    /// Size of the VMCOREINFO text.
    text_size;
    /// Dump level.
    level;
    /// 0 for makedumpfile's rules, 1 for the kernel's.
    rules;
    /// 1 if the dead kernel has five levels of page tables.
    five_level;
    /// Which large pages the stage's own page tables may use.
    large_pages;
    /// Ticks of the time stamp counter in a millisecond.
    tsc_khz;
    /// Milliseconds after which the scan ends.
    budget_ms;
    /// I/O port of a serial console to say on what happens; 0 for none.
    serial_port;
    /// What goes wrong on purpose; see [`Drill`].
    drill;
}

/// Something that goes wrong on purpose, to see that it costs nothing but the bitmap.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// The scan runs into an invalid opcode.
    InvalidOpcode = 1,
    /// It reads memory that is not mapped.
    PageFault = 2,
    /// It reads through a non-canonical address.
    GeneralProtection = 3,
    /// It calls itself until the stack is used up.
    StackOverflow = 4,
    /// A machine check arrives.
    MachineCheck = 5,
}

impl Drill {
    /// All, with the names by which they are asked for.
    pub const NAMES: [(Self, &'static str); 5] = [
        (Self::InvalidOpcode, "invalid-opcode"),
        (Self::PageFault, "page-fault"),
        (Self::GeneralProtection, "general-protection"),
        (Self::StackOverflow, "stack-overflow"),
        (Self::MachineCheck, "machine-check"),
    ];
}

/// A block whose checksum holds and whose numbers agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The numbers.
    pub numbers: &'a Parameters,
    /// The memory that exists, ascending and disjoint; [`crash_scan::crash_scan_setup`] checks that.
    pub ranges: &'a [PfnRange],
    /// The VMCOREINFO text.
    pub text: &'a [u8],
}

impl<'a> Block<'a> {
    /// The block at `start`, if it holds.
    ///
    /// # Safety
    /// `start` must be aligned to 8, and the memory from there on be readable as far as the block's own size says.
    /// Where that can't be known a fault must be survivable.
    pub unsafe fn at(start: *const u8) -> Option<Self> {
        // SAFETY: aligned, and the caller promised the memory. Any bits are numbers.
        let numbers = unsafe { &*start.cast::<Parameters>() };
        let size = numbers
            .block_size
            .try_into()
            .ok()
            .filter(|size| (Parameters::SIZE..=MAX_BLOCK).contains(size))?;
        // SAFETY: the caller promised memory of the size that the block says it has.
        let bytes: &[u8] = unsafe { core::slice::from_raw_parts(start, size) };
        let range_bytes = (numbers.range_count as usize).checked_mul(size_of::<PfnRange>())?;
        let (ranges, text) = bytes.get(Parameters::SIZE..)?.split_at_checked(range_bytes)?;
        let holds = numbers.magic == MAGIC
            && numbers.crc == u64::from(block_crc(bytes)?)
            && numbers.text_size == text.len() as u64
            && numbers.is_consistent();
        // SAFETY: the bytes behind the numbers are aligned as these are, and there are as many as the ranges take. A
        // range is two numbers, of any bits.
        let ranges =
            unsafe { core::slice::from_raw_parts(ranges.as_ptr().cast(), numbers.range_count as usize) };
        holds.then_some(Self { numbers, ranges, text })
    }
}

/// The most bytes that a block may have.
const MAX_BLOCK: usize = 16 << 20;

/// Sets the checksum of a block.
pub fn seal(block: &mut [u8]) {
    if let (Some(crc), Some(place)) = (block_crc(block), block.get_mut(CRC..CRC + 8)) {
        place.copy_from_slice(&u64::from(crc).to_le_bytes());
    }
}

const CRC: usize = core::mem::offset_of!(Parameters, crc);

/// The checksum of a block as if its field for it were 0.
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

    /// Whether everything lies inside the area, in its order, and is as large and as aligned as it has to be.
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
