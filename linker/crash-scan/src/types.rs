//! What crosses the border to C. `linker/crash-scan/include/crash_scan.h` says the same in C.

use core::ffi::{c_char, c_int, c_void};
use core::mem::offset_of;
use scanner_core::{Pfn, PfnRange, PhysAddr, PhysicalMemory, Unreadable};
use static_assertions::{assert_eq_align, assert_eq_size, const_assert_eq};

/// Copies `len` bytes of physical memory from `addr` on to `buf`; 0 if that was possible.
pub type ReadFn =
    unsafe extern "C" fn(context: *mut c_void, addr: u64, buf: *mut c_void, len: usize) -> c_int;
/// Where the `len` bytes of physical memory from `addr` on can be read in place; null if they can't.
pub type ViewFn = unsafe extern "C" fn(context: *mut c_void, addr: u64, len: usize) -> *const c_void;
/// Called every 4096 frames with the next one (free blocks side by side count once for each memory section), and with the
/// frame behind the last one before each 64 KiB of the bitmap are sealed: the place to look at a deadline and to touch
/// watchdogs. 0 ends the scan, or the sealing.
pub type CheckpointFn = unsafe extern "C" fn(context: *mut c_void, next_frame: u64) -> c_int;
/// Nanoseconds since any instant.
pub type NowFn = unsafe extern "C" fn(context: *mut c_void) -> u64;

/// A range of page frames: `struct crash_scan_range`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first frame.
    pub first: u64,
    /// The first frame behind it.
    pub end: u64,
}

/// A physically contiguous piece of the bitmap: `struct crash_scan_chunk`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BitmapChunk {
    /// Its physical address, a multiple of 8.
    pub address: u64,
    /// The same memory as the scanner can write to it, aligned to 8.
    pub words: *mut u64,
    /// Its size in bytes: a bit for each frame, rounded up to a multiple of 8.
    pub size: usize,
}

/// What a scan is to do: `struct crash_scan_setup`. Everything that it points to, but for the text, has to stay where
/// it is as long as the state is used.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The VMCOREINFO text.
    pub vmcoreinfo: *const c_char,
    /// Its size in bytes.
    pub vmcoreinfo_size: usize,
    /// Where the kernel image was loaded (`phys_base`), for kernels before 4.10, which don't say it themselves; else 0.
    pub phys_base: u64,
    /// Passed to each callback.
    pub context: *mut c_void,
    /// How memory is read.
    pub read: Option<ReadFn>,
    /// How memory is seen in place; may be null.
    pub view: Option<ViewFn>,
    /// Where the scan can be stopped; may be null.
    pub checkpoint: Option<CheckpointFn>,
    /// How time is measured; may be null.
    pub now: Option<NowFn>,
    /// The memory that exists, ascending and disjoint.
    pub ranges: *const Range,
    /// How many ranges.
    pub range_count: usize,
    /// The memory for the bitmap; may be null if there are no chunks.
    pub chunks: *const BitmapChunk,
    /// How many chunks. 0 for a scan that only counts: it has no bitmap, and writes no info.
    pub chunk_count: usize,
    /// Each chunk but the last stands for `1 << chunk_shift` frames, 15 to 40.
    pub chunk_shift: u32,
    /// Dump level, 0 to 31.
    pub level: u32,
    /// 0 for makedumpfile's rules, 1 for the kernel's.
    pub rules: u32,
    /// Who produces the bitmap, as in `crash_dump_bitmap_info_v2`.
    pub producer: u32,
    /// The first frame of the bitmap, a multiple of 64.
    pub first_frame: u64,
    /// Frames of the bitmap.
    pub frame_count: u64,
    /// Where `crash_dump_bitmap_info_v2` and the chunk table behind it go; may be null if there are no chunks.
    pub info: *mut c_void,
    /// Its physical address, a multiple of 8.
    pub info_address: u64,
    /// Its size in bytes: at least 512 + 24 for each chunk.
    pub info_size: usize,
    /// Where `crash_dump_bitmap_info_v1` goes, 64 bytes; may be null. It describes only a bitmap in one chunk that
    /// starts with frame 0.
    pub info_v1: *mut c_void,
    /// What measures the time, for the info, ending with a zero byte: at most 23 bytes. May be null.
    pub clock: *const c_char,
}

/// What a scan found: `struct crash_scan_result`.
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
    /// Pages kept because their struct page can't be read.
    pub unreadable_pages: u64,
    /// Pages kept because they are marked free with an order that no free block has.
    pub bad_order_pages: u64,
}

/// How a direct map shall look: `struct crash_direct_map`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DirectMapSetup {
    /// What to map: sorted and merged in place.
    pub ranges: *mut Range,
    /// How many ranges.
    pub range_count: usize,
    /// Memory for the page tables, aligned to 4096; may be null if `table_count` is 0.
    pub tables: *mut c_void,
    /// How many tables of 4096 bytes fit there.
    pub table_count: usize,
    /// Their physical address.
    pub tables_address: u64,
    /// Virtual minus physical address; 0 for an identity map.
    pub offset: u64,
    /// The memory encryption bit; 0 for none.
    pub sme_mask: u64,
    /// 1 for five levels of page tables, 0 for four.
    pub five_level: u32,
    /// Bit 0: 2 MiB pages, bit 1: 1 GiB pages.
    pub large_pages: u32,
}

// The scanner takes a range from C as its own kind, without a copy.
assert_eq_size!(Range, PfnRange);
assert_eq_align!(Range, PfnRange);
const_assert_eq!(offset_of!(Range, first), offset_of!(PfnRange, start));
const_assert_eq!(offset_of!(Range, end), offset_of!(PfnRange, end));
assert_eq_size!(Pfn, u64);

/// Physical memory behind a caller's callbacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callbacks {
    pub context: *mut c_void,
    pub read: ReadFn,
    pub view: Option<ViewFn>,
}

impl PhysicalMemory for Callbacks {
    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), Unreadable> {
        // SAFETY: the caller of crash_scan_setup promised that this function takes its context, any address, and a
        // buffer of the size given, and `buf` is one.
        let failed = unsafe { (self.read)(self.context, addr.as_u64(), buf.as_mut_ptr().cast(), buf.len()) };
        if failed == 0 { Ok(()) } else { Err(Unreadable { addr }) }
    }

    fn view(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        // SAFETY: as for `read`; it is given no buffer.
        let bytes = unsafe { (self.view?)(self.context, addr.as_u64(), len) };
        if bytes.is_null() || len > isize::MAX as usize {
            return None;
        }
        // SAFETY: the caller promised that what is not null are `len` readable bytes that nobody writes to while the
        // scanner runs. Bytes need no alignment, and `len` is no more than an object can have.
        Some(unsafe { core::slice::from_raw_parts(bytes.cast(), len) })
    }
}
