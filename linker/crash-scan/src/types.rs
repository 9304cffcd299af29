//! The types of the C interface. `linker/crash-scan/include/crash_scan.h` declares them in C.

use core::ffi::{c_char, c_int, c_void};
use core::mem::offset_of;
use scanner_core::{Pfn, PfnRange, PhysAddr, PhysicalMemory, Unreadable};
use static_assertions::{assert_eq_align, assert_eq_size, const_assert_eq};

/// Copies `len` bytes of physical memory at `addr` to `buf`. Returns 0 on success.
pub type ReadFn =
    unsafe extern "C" fn(context: *mut c_void, addr: u64, buf: *mut c_void, len: usize) -> c_int;
/// Returns a pointer to the `len` bytes of physical memory at `addr`; null if they cannot be read in place.
pub type ViewFn = unsafe extern "C" fn(context: *mut c_void, addr: u64, len: usize) -> *const c_void;
/// Checks a deadline and touches watchdogs. The scan calls it with the next frame every 4096 frames; adjacent free
/// blocks count as one frame per memory section. The sealing calls it before each 64 KiB of the bitmap, with the first
/// frame after the bitmap. Returning 0 stops the scan or the sealing.
pub type CheckpointFn = unsafe extern "C" fn(context: *mut c_void, next_frame: u64) -> c_int;
/// Returns the time in nanoseconds since an arbitrary instant.
pub type NowFn = unsafe extern "C" fn(context: *mut c_void) -> u64;

/// A range of page frames: `struct crash_scan_range`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first frame.
    pub first: u64,
    /// The first frame after the range.
    pub end: u64,
}

/// A physically contiguous part of the bitmap: `struct crash_scan_chunk`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BitmapChunk {
    /// Its physical address, a multiple of 8.
    pub address: u64,
    /// Its address for the scanner, aligned to 8.
    pub words: *mut u64,
    /// Its size in bytes: one bit per frame, rounded up to a multiple of 8.
    pub size: usize,
}

/// The parameters of a scan: `struct crash_scan_setup`. All memory that it points to, except the text, must stay valid
/// as long as the state is used.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The VMCOREINFO text.
    pub vmcoreinfo: *const c_char,
    /// Its size in bytes.
    pub vmcoreinfo_size: usize,
    /// `phys_base`, for kernels that do not export it (before 4.10); else 0.
    pub phys_base: u64,
    /// Passed to each callback.
    pub context: *mut c_void,
    /// Reads physical memory.
    pub read: Option<ReadFn>,
    /// Views physical memory without a copy; may be null.
    pub view: Option<ViewFn>,
    /// Can stop the scan; may be null.
    pub checkpoint: Option<CheckpointFn>,
    /// Measures time; may be null.
    pub now: Option<NowFn>,
    /// The ranges of memory that exist, ascending and disjoint.
    pub ranges: *const Range,
    /// Number of ranges.
    pub range_count: usize,
    /// The memory for the bitmap; may be null if `chunk_count` is 0.
    pub chunks: *const BitmapChunk,
    /// Number of chunks. If 0, the scan only counts: it has no bitmap and writes no info.
    pub chunk_count: usize,
    /// Binary logarithm of the frames of each chunk except the last, 15 to 40.
    pub chunk_shift: u32,
    /// Dump level, 0 to 31.
    pub level: u32,
    /// Rule set: 0 for makedumpfile's rules, 1 for the kernel's.
    pub rules: u32,
    /// The producer, as in `crash_dump_bitmap_info_v2`.
    pub producer: u32,
    /// The first frame of the bitmap, a multiple of 64.
    pub first_frame: u64,
    /// Number of frames of the bitmap.
    pub frame_count: u64,
    /// The memory for `crash_dump_bitmap_info_v2` and the chunk table after it; may be null if `chunk_count` is 0.
    pub info: *mut c_void,
    /// Its physical address, a multiple of 8.
    pub info_address: u64,
    /// Its size in bytes: at least 512, plus 24 per chunk.
    pub info_size: usize,
    /// The memory for `crash_dump_bitmap_info_v1`, 64 bytes; may be null. It describes a bitmap only if that has one
    /// chunk and starts with frame 0.
    pub info_v1: *mut c_void,
    /// The name of the clock, for the info: at most 23 bytes and a zero byte. May be null.
    pub clock: *const c_char,
}

/// The results of a scan: `struct crash_scan_result`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanResult {
    /// The first frame that is not decided.
    pub next_frame: u64,
    /// Excluded free pages.
    pub free_pages: u64,
    /// Excluded pages that a confidential guest has not accepted.
    pub unaccepted_pages: u64,
    /// Excluded pages of the non-private page cache.
    pub cache_pages: u64,
    /// Excluded pages of the private page cache.
    pub cache_private_pages: u64,
    /// Excluded pages of user data.
    pub user_pages: u64,
    /// Excluded pages that are hardware poisoned.
    pub hwpoison_pages: u64,
    /// Excluded pages that are logically offline.
    pub offline_pages: u64,
    /// Pages kept because their struct page cannot be read.
    pub unreadable_pages: u64,
    /// Pages kept because they are marked free but have an order that is out of range.
    pub bad_order_pages: u64,
}

/// The parameters of a direct map: `struct crash_direct_map`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DirectMapSetup {
    /// The ranges to map. They are sorted and merged in place.
    pub ranges: *mut Range,
    /// Number of ranges.
    pub range_count: usize,
    /// Memory for the page tables, aligned to 4096; may be null if `table_count` is 0.
    pub tables: *mut c_void,
    /// Number of tables of 4096 bytes in that memory.
    pub table_count: usize,
    /// Its physical address.
    pub tables_address: u64,
    /// Virtual minus physical address; 0 for an identity map.
    pub offset: u64,
    /// Mask of the memory encryption bit; 0 for none.
    pub sme_mask: u64,
    /// 1 for five levels of page tables, 0 for four.
    pub five_level: u32,
    /// Bit 0: 2 MiB pages, bit 1: 1 GiB pages.
    pub large_pages: u32,
}

// The scanner uses ranges from C as `PfnRange`, without a copy.
assert_eq_size!(Range, PfnRange);
assert_eq_align!(Range, PfnRange);
const_assert_eq!(offset_of!(Range, first), offset_of!(PfnRange, start));
const_assert_eq!(offset_of!(Range, end), offset_of!(PfnRange, end));
assert_eq_size!(Pfn, u64);

/// Physical memory that the caller's callbacks provide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callbacks {
    pub context: *mut c_void,
    pub read: ReadFn,
    pub view: Option<ViewFn>,
}

impl PhysicalMemory for Callbacks {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        // SAFETY: the caller of crash_scan_setup promised that this function accepts its context, any address, and a
        // buffer of `len` bytes. `buf` is such a buffer.
        let failed = unsafe { (self.read)(self.context, addr.as_u64(), buf.as_mut_ptr().cast(), buf.len()) };
        if failed == 0 { Ok(()) } else { Err(Unreadable { addr }) }
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        // SAFETY: as for `read`, without a buffer.
        let bytes = unsafe { (self.view?)(self.context, addr.as_u64(), len) };
        if bytes.is_null() || len > isize::MAX as usize {
            return None;
        }
        // SAFETY: the caller promised that a pointer that is not null has `len` readable bytes, which do not change
        // while the scanner runs. Bytes need no alignment, and `len` is at most `isize::MAX`.
        Some(unsafe { core::slice::from_raw_parts(bytes.cast(), len) })
    }
}
