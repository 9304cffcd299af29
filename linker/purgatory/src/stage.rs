//! The scan, and what is left behind at its end.
//!
//! [`scan`] may be left at any instruction by an exception. It therefore leaves nothing to be undone but what
//! [`finish`] does, and that relies on nothing but the block, the info and [`Progress`].

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
    /// It came to its end, or to that of its budget: the info says which.
    Scanned = 0,
    /// The parameters' checksum doesn't hold, they contradict themselves, or they are those of another place.
    BadParameters,
    /// The image is not what was loaded.
    BadImage,
    /// The processor's page tables have another number of levels than those of the kernel that was loaded for.
    BadPaging,
    /// The page tables don't fit where they have to.
    CannotMap,
    /// The scanner can't make sense of the dead kernel.
    Refused,
    /// An exception.
    Exception,
}

/// What the processor said about an exception.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Its number.
    pub vector: u64,
    /// Its error code; 0 if it has none.
    pub error: u64,
    /// The instruction.
    pub ip: u64,
    /// What CR2 held: the address, if it was a page fault.
    pub address: u64,
}

impl Exception {
    /// There was none.
    pub const NONE: Self = Self { vector: 0, error: 0, ip: 0, address: 0 };

    /// Says in the header which exception it was; the image lies at physical address `image`.
    fn record(&self, header: &mut Header, image: u64) {
        header.cause_number = self.vector as u32;
        header.exception_error = self.error;
        header.exception_at = self.ip.wrapping_sub(image);
        if self.vector == u64::from(PAGE_FAULT) {
            header.exception_address = self.address;
            // The dead kernel's memory is mapped at its own addresses.
            if PhysAddr::new(self.address).pfn() < Pfn::END {
                header.first_unreadable = self.address;
            }
        }
    }
}

/// What has to survive an exception.
#[derive(Debug, Default)]
pub struct Progress {
    /// Ticks when the stage began.
    started: AtomicU64,
    /// The first frame that is not decided.
    next: AtomicU64,
    /// 1 as soon as the block is known to hold.
    checked: AtomicU64,
    /// Why the scanner refused, as a [`Status`].
    status: AtomicI32,
}

impl Progress {
    /// Nothing has happened yet.
    pub const fn new() -> Self {
        Self {
            started: AtomicU64::new(0),
            next: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            status: AtomicI32::new(0),
        }
    }
}

/// The most ranges, with two of the area's own, that fit where the state will be.
const MAX_RANGES: usize = STATE_SIZE / size_of::<PfnRange>();

/// What the scanner's callbacks work with.
struct Context<'a> {
    ram: Ram<'a>,
    numbers: &'a Parameters,
    progress: &'a Progress,
    /// Ticks at which the budget is used up.
    deadline: u64,
}

/// Checks everything, maps the dead kernel's memory, and scans it.
///
/// # Safety
/// At `image` must lie the area of a stage whose parameters are at `block`, and nobody else may use it. If it doesn't
/// hold, reading it must be survivable. All of the memory that the parameters list must be readable where
/// [`Machine::at`] says.
pub unsafe fn scan<M: Machine>(image: *mut u8, block: *const u8, progress: &Progress) -> End {
    progress.started.store(M::ticks(), Relaxed);
    // SAFETY: the caller's promise is the same.
    let Some(Block { numbers, ranges, text }) = (unsafe { Block::at(block) }) else {
        return End::BadParameters;
    };
    if !describes_this_place::<M>(image, block, numbers, ranges) {
        return End::BadParameters;
    }
    // SAFETY: the image is that large, and this part of it is only read.
    let checked = unsafe { core::slice::from_raw_parts(image.cast_const(), numbers.image_checked as usize) };
    if u64::from(crc32c(checked)) != numbers.image_crc {
        return End::BadImage;
    }
    progress.checked.store(1, Relaxed);
    if M::has_five_levels() != (numbers.five_level == 1) {
        return End::BadPaging;
    }
    // SAFETY: the numbers are consistent: the state and the tables lie in the area, each at its own place.
    let root = unsafe { build_map::<M>(image, numbers, ranges) };
    let Some(root) = root else { return End::CannotMap };
    // SAFETY: they map the area, with code and stack in it, and all memory that is read.
    unsafe { M::use_page_tables(root) };

    let ticks = numbers.budget_ms.saturating_mul(numbers.tsc_khz);
    let context = Context {
        ram: Ram::new(ranges),
        numbers,
        progress,
        deadline: progress.started.load(Relaxed).saturating_add(ticks),
    };
    // SAFETY: as above, and nobody uses these any more or as yet.
    unsafe { run::<M>(image, &context, ranges, text) }
}

/// Whether the parameters are those of this area, and none of the dead kernel's memory lies in it: what is written to is
/// in the area, and what is read is not.
fn describes_this_place<M: Machine>(
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

/// Builds page tables that map the memory in `ranges`, and the area, where they are; the root's physical address.
///
/// # Safety
/// The numbers must be consistent and the area at `image` nobody else's.
unsafe fn build_map<M: Machine>(image: *mut u8, numbers: &Parameters, ranges: &[PfnRange]) -> Option<u64> {
    // SAFETY: the state is not in use yet, and has room for as many ranges; any bits are ranges.
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
    // SAFETY: as many tables are there, aligned; any bits are entries.
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

/// Sets the scanner up and lets it scan.
///
/// # Safety
/// The numbers must be consistent and the area at `image` nobody else's.
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
    // SAFETY: state, chunk and info lie in the area, each at its own place and of the size given; ranges and text are
    // in the block. All stay there until the stage ends, as does the context.
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

/// Says in the info how the scan ended, if the scanner itself could not. The info is where the image says, whatever the
/// parameters say.
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
    // SAFETY: the image's last page, which the scanner has done with.
    let info = unsafe { core::slice::from_raw_parts_mut(info, INFO_SIZE as usize) };
    let mut header = match Header::decode(info, address) {
        Ok(header) => header,
        // Torn by an exception.
        Err(_) => match prepare_info(info, address) {
            Some(header) => header,
            None => return,
        },
    };
    let trusted = if progress.checked.load(Relaxed) == 1 {
        // SAFETY: the block has been checked.
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
            forget_counts(&mut header, ranges);
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
        say::<M>(numbers, &header, ticks);
    }
}

/// Writes the info that stands in the area before the stage has run: an empty bitmap of 64 frames, all ones, in the
/// info's last bytes. Valid at any time, and of no frame it says that it can be left out.
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

/// Sets the bits from frame `next` on: decisions behind it were under way.
fn keep_from(bitmap: &mut [u64], next: u64) {
    let first = (next >> 6) as usize;
    if let Some(word) = bitmap.get_mut(first) {
        *word |= u64::MAX << (next & 63);
    }
    if let Some(rest) = bitmap.get_mut(first.saturating_add(1)..) {
        rest.fill(u64::MAX);
    }
}

/// What was counted is not known for a scan that was left in the middle; how many frames it has not seen is.
fn forget_counts(header: &mut Header, ranges: &[PfnRange]) {
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

/// The clock's name, as "tsc 2893 MHz", with a zero byte at the end.
fn clock_name(khz: u64) -> [u8; 24] {
    let mut text = [0; 24];
    // The last byte stays 0.
    let mut line = Line { text: text.split_at_mut_checked(23).unwrap_or_default().0, len: 0 };
    line.push("tsc ");
    line.push_number(khz / 1000);
    line.push(" MHz");
    text
}

/// Says on the serial console how the scan ended.
fn say<M: Machine>(numbers: &Parameters, header: &Header, ticks: u64) {
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

/// A line of text under construction; what doesn't fit is left out.
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

/// The context behind a callback's argument.
///
/// # Safety
/// `context` must be what [`run`] put into the setup, and the scan be running.
unsafe fn context<'a>(context: *mut c_void) -> &'a Context<'a> {
    // SAFETY: the caller's promise.
    unsafe { &*context.cast_const().cast::<Context<'a>>() }
}

/// Copies the dead kernel's memory for the scanner.
unsafe extern "C" fn read<M: Machine>(data: *mut c_void, addr: u64, out: *mut c_void, len: usize) -> c_int {
    // SAFETY: the scanner hands on what it was given.
    if !unsafe { context(data) }.ram.has(addr, len) {
        return -1;
    }
    // SAFETY: the memory is RAM and mapped, and `out` has room for it; the scanner's own memory is none of the dead
    // kernel's.
    unsafe { core::ptr::copy_nonoverlapping(M::at(addr).cast_const(), out.cast::<u8>(), len) };
    0
}

/// Shows the dead kernel's memory to the scanner.
unsafe extern "C" fn view<M: Machine>(data: *mut c_void, addr: u64, len: usize) -> *const c_void {
    // SAFETY: the scanner hands on what it was given.
    if unsafe { context(data) }.ram.has(addr, len) {
        M::at(addr).cast_const().cast()
    } else {
        core::ptr::null()
    }
}

/// Whether there is time left to scan from frame `next` on.
unsafe extern "C" fn checkpoint<M: Machine>(data: *mut c_void, next: u64) -> c_int {
    // SAFETY: the scanner hands on what it was given.
    let context = unsafe { context(data) };
    // Sealing names the end, also of a scan that didn't get there.
    if next < context.numbers.frame_count {
        context.progress.next.store(next, Relaxed);
    }
    if context.numbers.drill != 0 && next >= context.numbers.frame_count >> 1 {
        M::go_wrong(context.numbers.drill);
    }
    c_int::from(M::ticks() < context.deadline)
}

/// Nanoseconds since the stage began.
unsafe extern "C" fn now<M: Machine>(data: *mut c_void) -> u64 {
    // SAFETY: the scanner hands on what it was given.
    let context = unsafe { context(data) };
    let ticks = M::ticks().saturating_sub(context.progress.started.load(Relaxed));
    let khz = context.numbers.tsc_khz;
    let ns = |ticks: u64| ticks.saturating_mul(1_000_000).checked_div(khz).unwrap_or(0);
    let ms = ticks.checked_div(khz).unwrap_or(0);
    ms.saturating_mul(1_000_000).saturating_add(ns(ticks.saturating_sub(ms.saturating_mul(khz))))
}
