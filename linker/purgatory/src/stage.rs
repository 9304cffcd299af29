//! The scan, and the info that it leaves at its end.
//!
//! An exception can end [`scan`] at any instruction. All of its cleanup is therefore in [`finish`], which relies only
//! on the block, the info and [`Progress`].

use crate::machine::Machine;
use crate::parameters::{Block, INFO_SIZE, LARGE_1G, LARGE_2M, PREPARED_BITMAP, Parameters};
use crate::ram::Ram;
use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use crash_scan::{BitmapChunk, Range, STATE_SIZE, Setup, Status, crash_scan_run, crash_scan_setup};
use scanner_core::crc32c::crc32c;
use scanner_core::info::v2::{
    self, Cause, Header, MAX_CHUNK_SHIFT, NOT_COUNTED, PAGE_FAULT, Producer, State, exception_name,
};
use scanner_core::paging::{DirectMap, DirectMapOptions, ENTRIES, FixedPool, covering};
use scanner_core::{PAGE_SHIFT, Pfn, PfnRange, PhysAddr};

/// How the scan ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The scan is complete or out of its time budget; the info has the state.
    Scanned = 0,
    /// The parameters have a wrong checksum, are inconsistent, or are for another load address.
    BadParameters,
    /// The image has a wrong checksum.
    BadImage,
    /// The processor's page tables do not have the number of levels that the loader recorded.
    BadPaging,
    /// The page tables do not fit into their memory.
    CannotMap,
    /// The scanner refused the setup.
    Refused,
    /// An exception ended the scan.
    Exception,
}

/// An exception, as the processor reports it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Its vector number.
    pub vector: u64,
    /// Its error code; 0 if it has none.
    pub error: u64,
    /// The address of the instruction.
    pub ip: u64,
    /// The value of CR2: for a page fault, the accessed address.
    pub address: u64,
}

impl Exception {
    /// No exception.
    pub const NONE: Self = Self { vector: 0, error: 0, ip: 0, address: 0 };

    /// Records the exception in the header. `image` is the physical address of the image.
    fn record(&self, header: &mut Header, image: u64) {
        header.cause_number = self.vector as u32;
        header.exception_error = self.error;
        header.exception_at = self.ip.wrapping_sub(image);
        if self.vector == u64::from(PAGE_FAULT) {
            header.exception_address = self.address;
            // The stage's page tables are an identity map, so the address is a physical address.
            if PhysAddr::new(self.address).pfn() < Pfn::END {
                header.first_unreadable = self.address;
            }
        }
    }
}

/// The state that survives an exception.
#[derive(Debug, Default)]
pub struct Progress {
    /// Time stamp counter at the start of the stage.
    started: AtomicU64,
    /// The first frame that is not decided.
    next: AtomicU64,
    /// 1 after the block and the image have been checked.
    checked: AtomicU64,
    /// Why the scanner refused, as a [`Status`].
    status: AtomicI32,
}

impl Progress {
    /// The initial state.
    pub const fn new() -> Self {
        Self {
            started: AtomicU64::new(0),
            next: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            status: AtomicI32::new(0),
        }
    }
}

/// The number of ranges that fit into the memory of the scanner's state, including the two ranges of the area.
const MAX_RANGES: usize = STATE_SIZE / size_of::<PfnRange>();

/// The context of the scanner's callbacks.
struct Context<'a> {
    ram: Ram<'a>,
    numbers: &'a Parameters,
    progress: &'a Progress,
    /// Time stamp counter at the end of the time budget.
    deadline: u64,
}

/// Checks the parameters and the image, maps the dead kernel's memory, and scans it.
///
/// # Safety
/// The area of the stage must be at `image`, with its parameters at `block`, and nothing else may use the area. If the
/// parameters are invalid, reads of them must be survivable. All memory in the parameters' ranges must be readable at
/// [`Machine::at`].
pub unsafe fn scan<M: Machine>(image: *mut u8, block: *const u8, progress: &Progress) -> End {
    progress.started.store(M::ticks(), Relaxed);
    // SAFETY: the caller's promise is the same.
    let Some(Block { numbers, ranges, text }) = (unsafe { Block::at(block) }) else {
        return End::BadParameters;
    };
    if !matches_location::<M>(image, block, numbers, ranges) {
        return End::BadParameters;
    }
    // SAFETY: the image has at least this size, and nothing writes to this part of it.
    let checked = unsafe { core::slice::from_raw_parts(image.cast_const(), numbers.image_checked as usize) };
    if u64::from(crc32c(checked)) != numbers.image_crc {
        return End::BadImage;
    }
    progress.checked.store(1, Relaxed);
    if M::has_five_levels() != (numbers.five_level == 1) {
        return End::BadPaging;
    }
    // SAFETY: the numbers are consistent: the state and the tables are in the area and do not overlap.
    let root = unsafe { build_map::<M>(image, numbers, ranges) };
    let Some(root) = root else { return End::CannotMap };
    // SAFETY: the tables map the area, which contains code and stack, and all memory that is read.
    unsafe { M::use_page_tables(root) };

    let ticks = numbers.budget_ms.saturating_mul(numbers.tsc_khz);
    let context = Context {
        ram: Ram::new(ranges),
        numbers,
        progress,
        deadline: progress.started.load(Relaxed).saturating_add(ticks),
    };
    // SAFETY: as above. The memory of the state is not in use.
    unsafe { run::<M>(image, &context, ranges, text) }
}

/// Whether the parameters are for this area, and no range of the dead kernel's memory overlaps the area. The stage
/// writes to the area only, and the scanner reads outside it only.
fn matches_location<M: Machine>(
    image: *const u8,
    block: *const u8,
    numbers: &Parameters,
    ranges: &[PfnRange],
) -> bool {
    let area = covering(PhysAddr::new(numbers.area), numbers.area_size);
    M::address_of(image) == numbers.area
        && (block as u64).wrapping_sub(image as u64) == numbers.image_size
        && ranges.iter().all(|range| range.intersection(area).is_empty())
}

/// Builds an identity map of `ranges` and of the area, without the guard page. Returns the physical address of the
/// root.
///
/// # Safety
/// The numbers must be consistent, and nothing else may use the area at `image`.
unsafe fn build_map<M: Machine>(image: *mut u8, numbers: &Parameters, ranges: &[PfnRange]) -> Option<u64> {
    // SAFETY: the memory of the state is not in use, and has room for this many ranges. Any bits are valid ranges.
    let scratch = unsafe {
        let start = image.wrapping_add(numbers.state as usize).cast::<PfnRange>();
        core::slice::from_raw_parts_mut(start, MAX_RANGES)
    };
    let frame = |offset: u64| Pfn::new(numbers.area.saturating_add(offset) >> PAGE_SHIFT);
    let guard = (M::guard() as u64).wrapping_sub(image as u64);
    let (own, rest) = scratch.split_first_chunk_mut()?;
    *own = [
        PfnRange::new(frame(0), frame(guard)),
        PfnRange::new(frame(guard).saturating_add(1), frame(numbers.area_size)),
    ];
    for (place, range) in rest.get_mut(..ranges.len())?.iter_mut().zip(ranges) {
        *place = *range;
    }
    // SAFETY: the area has this many tables, aligned to pages. Any bits are valid entries.
    let tables = unsafe {
        let start = image.wrapping_add(numbers.tables as usize).cast::<[u64; ENTRIES]>();
        core::slice::from_raw_parts_mut(start, numbers.table_count as usize)
    };
    let options = DirectMapOptions {
        five_level: numbers.five_level == 1,
        use_1g: numbers.large_pages & LARGE_1G != 0,
        use_2m: numbers.large_pages & LARGE_2M != 0,
        sme_mask: 0,
        offset: 0,
    };
    let used = scratch.get_mut(..ranges.len().saturating_add(2))?;
    let map = DirectMap::new(used, options).ok()?;
    let tables_at = PhysAddr::new(numbers.area.saturating_add(numbers.tables));
    let space = map.build(&mut FixedPool::new(tables, tables_at)).ok()?;
    Some(space.root.as_u64())
}

/// Sets up the scanner and scans.
///
/// # Safety
/// The numbers must be consistent, and nothing else may use the area at `image`.
unsafe fn run<M: Machine>(image: *mut u8, context: &Context<'_>, ranges: &[PfnRange], text: &[u8]) -> End {
    let numbers = context.numbers;
    let inside = |offset: u64| image.wrapping_add(offset as usize);
    let chunk = BitmapChunk {
        address: numbers.area.saturating_add(numbers.bitmap),
        words: inside(numbers.bitmap).cast(),
        size: numbers.bitmap_size as usize,
    };
    let clock = clock_name(numbers.tsc_khz);
    let setup = Setup {
        vmcoreinfo: text.as_ptr().cast(),
        vmcoreinfo_size: text.len(),
        phys_base: 0,
        context: core::ptr::from_ref(context).cast_mut().cast(),
        read: Some(read::<M>),
        view: Some(view::<M>),
        checkpoint: Some(checkpoint::<M>),
        now: Some(now::<M>),
        ranges: ranges.as_ptr().cast::<Range>(),
        range_count: ranges.len(),
        chunks: &raw const chunk,
        chunk_count: 1,
        chunk_shift: MAX_CHUNK_SHIFT,
        level: numbers.level as u32,
        rules: numbers.rules as u32,
        producer: Producer::Purgatory as u32,
        first_frame: 0,
        frame_count: numbers.frame_count,
        info: inside(numbers.info()).cast(),
        info_address: numbers.area.saturating_add(numbers.info()),
        info_size: INFO_SIZE.saturating_sub(PREPARED_BITMAP) as usize,
        info_v1: core::ptr::null_mut(),
        clock: clock.as_ptr().cast(),
    };
    let state = inside(numbers.state).cast::<c_void>();
    // SAFETY: state, chunk and info are in the area, do not overlap and have the given sizes. Ranges and text are in
    // the block. All of them and the context stay valid until the stage ends.
    match unsafe { crash_scan_setup(state, STATE_SIZE, &setup) } {
        // SAFETY: as above.
        Status::Done => unsafe {
            crash_scan_run(state);
            End::Scanned
        },
        status => {
            context.progress.status.store(status as i32, Relaxed);
            End::Refused
        }
    }
}

/// Records in the info how the scan ended, unless the scanner has done so, and prints a summary. The location of the
/// info depends on the image only, not on the parameters.
///
/// # Safety
/// As for [`scan`], with the same arguments.
pub unsafe fn finish<M: Machine>(
    image: *mut u8,
    block: *const u8,
    progress: &Progress,
    end: End,
    exception: &Exception,
) {
    let info = block.cast_mut().wrapping_sub(INFO_SIZE as usize);
    let address = M::address_of(info);
    // SAFETY: the last page of the image, which the scanner no longer uses.
    let info = unsafe { core::slice::from_raw_parts_mut(info, INFO_SIZE as usize) };
    let mut header = match Header::decode(info, address) {
        Ok(header) => header,
        // An exception interrupted a write to the info.
        Err(_) => match prepare_info(info, address) {
            Some(header) => header,
            None => return,
        },
    };
    let trusted = if progress.checked.load(Relaxed) == 1 {
        // SAFETY: `scan` has checked the block.
        unsafe { Block::at(block) }
    } else {
        None
    };
    if end != End::Scanned {
        if let Some(Block { numbers, ranges, .. }) = trusted {
            if header.frame_count == numbers.frame_count {
                let words = image.wrapping_add(numbers.bitmap as usize).cast::<u64>();
                // SAFETY: the numbers are consistent, and the scanner has ended.
                keep_from(
                    unsafe { core::slice::from_raw_parts_mut(words, (numbers.bitmap_size >> 3) as usize) },
                    progress.next.load(Relaxed),
                );
                header.scanned_up_to = progress.next.load(Relaxed).min(numbers.frame_count);
            }
            clear_counts(&mut header, ranges);
        }
        let status = progress.status.load(Relaxed);
        (header.state, header.cause) = match end {
            End::Exception => (State::Fault, Cause::Exception),
            End::Refused if status == Status::Unreadable as i32 => (State::Fault, Cause::Refused),
            End::Refused => (State::Corrupt, Cause::Refused),
            End::BadParameters => (State::Cancelled, Cause::Parameters),
            End::BadImage => (State::Cancelled, Cause::Code),
            End::BadPaging => (State::Cancelled, Cause::Levels),
            End::CannotMap | End::Scanned => (State::Cancelled, Cause::Tables),
        };
        match end {
            End::Exception => exception.record(&mut header, M::address_of(image)),
            End::Refused => header.cause_number = status as u32,
            _ => {}
        }
        let _ = header.encode(info);
    }
    if let Some(Block { numbers, .. }) = trusted.filter(|block| block.numbers.serial_port != 0) {
        let ticks = M::ticks().saturating_sub(progress.started.load(Relaxed));
        print_summary::<M>(numbers, &header, ticks);
    }
}

/// Writes the initial info: an empty bitmap of 64 frames, all ones, in the last bytes of the info. It is valid and
/// excludes no frame. `address` is the physical address of `info`. `None` if `info` is too small.
pub fn prepare_info(info: &mut [u8], address: u64) -> Option<Header> {
    let at = info.len().checked_sub(PREPARED_BITMAP as usize)?;
    info.fill(0);
    info.get_mut(at..)?.fill(0xff);
    let mut header = Header::new(Pfn::new(0), PREPARED_BITMAP.saturating_mul(8), MAX_CHUNK_SHIFT);
    header.self_address = address;
    header.producer = Producer::Purgatory;
    let chunk = v2::ChunkEntry::unsealed(address.saturating_add(at as u64), PREPARED_BITMAP);
    header.put_chunk(info, 0, &chunk).ok()?;
    header.encode(info).ok()?;
    Some(header)
}

/// Sets the bits from frame `next` on: the decisions about these frames are not final.
fn keep_from(bitmap: &mut [u64], next: u64) {
    let first = (next >> 6) as usize;
    if let Some(word) = bitmap.get_mut(first) {
        *word |= u64::MAX << (next & 63);
    }
    if let Some(rest) = bitmap.get_mut(first.saturating_add(1)..) {
        rest.fill(u64::MAX);
    }
}

/// Marks the counts as unknown, after a scan that did not end normally. The number of unscanned frames is known.
fn clear_counts(header: &mut Header, ranges: &[PfnRange]) {
    for count in [
        &mut header.cache_pages,
        &mut header.cache_private_pages,
        &mut header.user_pages,
        &mut header.free_pages,
        &mut header.hwpoison_pages,
        &mut header.offline_pages,
        &mut header.unaccepted_pages,
        &mut header.unreadable_pages,
        &mut header.bad_order_pages,
    ] {
        *count = NOT_COUNTED;
    }
    let rest = PfnRange::new(Pfn::new(header.scanned_up_to), Pfn::END);
    header.unscanned_pages =
        ranges.iter().fold(0, |sum, range| sum.saturating_add(range.intersection(rest).len()));
}

/// The name of the clock, such as "tsc 2893 MHz", with a zero byte.
fn clock_name(khz: u64) -> [u8; 24] {
    let mut text = [0; 24];
    // The last byte stays 0.
    let mut line = Line { text: text.split_at_mut_checked(23).unwrap_or_default().0, len: 0 };
    line.push("tsc ");
    line.push_number(khz / 1000);
    line.push(" MHz");
    text
}

/// Prints on the serial console how the scan ended.
fn print_summary<M: Machine>(numbers: &Parameters, header: &Header, ticks: u64) {
    let mut text = [0; 160];
    let mut line = Line { text: &mut text, len: 0 };
    line.push("crash stage: ");
    line.push(header.state.name());
    if header.cause == Cause::Exception {
        line.push(" (");
        line.push(exception_name(header.cause_number).unwrap_or("exception"));
        line.push(" at byte ");
        line.push_number(header.exception_at);
        line.push(" of the image)");
    }
    line.push(", frames up to ");
    line.push_number(header.scanned_up_to);
    line.push(" of ");
    line.push_number(numbers.frame_count);
    line.push(", ");
    line.push_number(ticks.checked_div(numbers.tsc_khz).unwrap_or_default());
    line.push(" ms\r\n");
    let len = line.len;
    for byte in text.get(..len).unwrap_or_default() {
        M::print(numbers.serial_port as u16, *byte);
    }
}

/// A line of text under construction. Excess characters are dropped.
struct Line<'a> {
    text: &'a mut [u8],
    len: usize,
}

impl Line<'_> {
    fn push(&mut self, words: &str) {
        words.bytes().for_each(|byte| self.push_byte(byte));
    }

    fn push_byte(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.len) {
            *place = byte;
            self.len = self.len.saturating_add(1);
        }
    }

    fn push_number(&mut self, number: u64) {
        let digits = number.checked_ilog10().unwrap_or(0);
        for digit in (0..=digits).rev() {
            let digit = number.checked_div(10_u64.saturating_pow(digit)).unwrap_or(0) % 10;
            self.push_byte(b'0' | digit as u8);
        }
    }
}

/// The context that a callback's argument points to.
///
/// # Safety
/// `context` must be the pointer that [`run`] passes in the setup, and the scan must be running.
unsafe fn context<'a>(context: *mut c_void) -> &'a Context<'a> {
    // SAFETY: the caller's promise.
    unsafe { &*context.cast_const().cast::<Context<'a>>() }
}

/// Callback of the scanner: copies the dead kernel's memory.
unsafe extern "C" fn read<M: Machine>(data: *mut c_void, addr: u64, out: *mut c_void, len: usize) -> c_int {
    // SAFETY: the scanner passes the context of the setup.
    if !unsafe { context(data) }.ram.contains(addr, len) {
        return -1;
    }
    // SAFETY: the memory is RAM and mapped, and `out` has room for it. The scanner's memory is in the area, which does
    // not overlap the dead kernel's memory.
    unsafe { core::ptr::copy_nonoverlapping(M::at(addr).cast_const(), out.cast::<u8>(), len) };
    0
}

/// Callback of the scanner: views the dead kernel's memory.
unsafe extern "C" fn view<M: Machine>(data: *mut c_void, addr: u64, len: usize) -> *const c_void {
    // SAFETY: the scanner passes the context of the setup.
    if unsafe { context(data) }.ram.contains(addr, len) {
        M::at(addr).cast_const().cast()
    } else {
        core::ptr::null()
    }
}

/// Callback of the scanner: whether the time budget allows to scan from frame `next` on.
unsafe extern "C" fn checkpoint<M: Machine>(data: *mut c_void, next: u64) -> c_int {
    // SAFETY: the scanner passes the context of the setup.
    let context = unsafe { context(data) };
    // The sealing passes the end of the bitmap, even if the scan has not reached it.
    if next < context.numbers.frame_count {
        context.progress.next.store(next, Relaxed);
    }
    if context.numbers.injected_fault != 0 && next >= context.numbers.frame_count >> 1 {
        M::inject_fault(context.numbers.injected_fault);
    }
    c_int::from(M::ticks() < context.deadline)
}

/// Callback of the scanner: nanoseconds since the start of the stage.
unsafe extern "C" fn now<M: Machine>(data: *mut c_void) -> u64 {
    // SAFETY: the scanner passes the context of the setup.
    let context = unsafe { context(data) };
    let ticks = M::ticks().saturating_sub(context.progress.started.load(Relaxed));
    let khz = context.numbers.tsc_khz;
    let ns = |ticks: u64| ticks.saturating_mul(1_000_000).checked_div(khz).unwrap_or(0);
    let ms = ticks.checked_div(khz).unwrap_or(0);
    ms.saturating_mul(1_000_000).saturating_add(ns(ticks.saturating_sub(ms.saturating_mul(khz))))
}
