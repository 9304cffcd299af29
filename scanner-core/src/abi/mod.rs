//! The scanner for callers in C: a kernel module's panic notifier, a stage in purgatory.
//!
//! [`crash_scan_run`] is called from a dying kernel, with interrupts off and a few KiB of stack left, and so keeps to
//! these constraints:
//!
//! - Nothing is allocated. All that the scanner remembers lies in one piece of memory of [`STATE_SIZE`] bytes that the
//!   caller gives; what is large lies there rather than on the stack.
//! - Nothing panics, and no number that the crashed kernel's memory holds bounds a loop by itself.
//! - No floating point and no vector registers, whose content belongs to whoever crashed.
//! - Memory is touched through the caller's callbacks alone. They decide what exists.
//! - Nothing is parsed: [`crash_scan_setup`] has done that when all was well. It has also set every bit of the bitmap,
//!   so that a scan which never ends leaves a bitmap that keeps everything.
//!
//! Every function says by its [`Status`] how it ended, as a number; [`crash_scan_error_text`] has the words. None may
//! run at the same time as another one with the same state. `linker/include/scanner_core.h` is the C side.

mod progress;
mod status;
mod types;

pub use status::Status;
pub use types::{Chunk, DirectMapSetup, Findings, NowFn, PaceFn, Range, ReadFn, Setup, ViewFn};

use crate::addr::{PAGE_SHIFT, PAGE_SIZE, Pfn, PfnRange, PhysAddr};
use crate::classify::Rules;
use crate::info::v1;
use crate::info::v2::{self, Header, Producer};
use crate::layout::KernelLayout;
use crate::level::{DumpLevel, RuleSet};
use crate::paging::{DirectMap, DirectMapOptions, ENTRIES, FixedPool};
use crate::scan::Scan;
use crate::sections::MemorySections;
use crate::vmcoreinfo::{self, VmcoreInfo};
use core::ffi::{c_char, c_void};
use core::ptr::{addr_of, addr_of_mut};
use progress::{Progress, Tally};
use status::Failure;
use types::Callbacks;

/// Bytes that a scanner's state takes: nine pages, with some room for later versions.
pub const STATE_SIZE: usize = 9 << PAGE_SHIFT;
/// What its address has to be a multiple of.
pub const STATE_ALIGN: usize = 64;
const _: () = assert!(size_of::<State>() <= STATE_SIZE && align_of::<State>() <= STATE_ALIGN);

/// A scanner's state, in memory of the caller. Opaque to C.
#[repr(C)]
#[derive(Debug)]
pub struct State {
    /// [`State::READY`] once all other fields are written.
    magic: u64,
    failure: Failure,
    fixed: Fixed,
    progress: Progress,
}

/// What set-up has resolved; nothing writes to it afterwards, and [`Progress`] refers to it.
#[derive(Debug)]
struct Fixed {
    memory: Callbacks,
    setup: Setup,
    sections: MemorySections,
}

impl State {
    const READY: u64 = u64::from_le_bytes(*b"scan set");
    const FAILED: u64 = u64::from_le_bytes(*b"scan bad");

    /// The state at `memory`, if it can be one: then it is aligned and has [`STATE_SIZE`] bytes.
    fn at(memory: *mut c_void) -> Option<*mut Self> {
        let state = memory.cast::<Self>();
        (!state.is_null() && (memory as usize).is_multiple_of(STATE_ALIGN)).then_some(state)
    }
}

/// Sets a scan up in `state`, of `state_size` bytes, and sets every bit of the bitmap. To be called when all is well:
/// it parses VMCOREINFO and reads the description of the memory sections.
///
/// # Safety
/// If not null, `state` must point to `state_size` writable bytes, `setup` to a [`Setup`], and each pointer in that to
/// as much memory as the number beside it says. All but the text has to stay there, and but for the scanner nobody
/// writes to it, until the state is not used any more. The callbacks must keep to their descriptions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crash_scan_setup(
    state: *mut c_void,
    state_size: usize,
    setup: *const Setup,
) -> Status {
    let Some(state) = State::at(state).filter(|_| state_size >= STATE_SIZE) else {
        return Status::BadState;
    };
    // SAFETY: `state` is aligned and has room for a State; these are the writes that make its start valid.
    unsafe {
        addr_of_mut!((*state).magic).write(State::FAILED);
        addr_of_mut!((*state).failure).write(Failure::argument("setup"));
    }
    if setup.is_null() || !setup.is_aligned() {
        return Status::BadArgument;
    }
    // SAFETY: not null, aligned, and the caller promised a Setup there.
    let setup = unsafe { &*setup };
    // SAFETY: `state` as above; what `setup` points to is promised by the caller.
    match unsafe { set_up(state, setup) } {
        Ok(()) => Status::Done,
        Err(failure) => {
            // SAFETY: as above.
            unsafe { addr_of_mut!((*state).failure).write(failure) };
            failure.status
        }
    }
}

/// Scans until all frames are decided and the bitmap is sealed ([`Status::Done`]), or until the caller's pace callback
/// says stop ([`Status::Interrupted`]). What it found is in the info structures either way. After an interruption it
/// can be called again and goes on where it was.
///
/// # Safety
/// `state` must be null, or have been given to [`crash_scan_setup`], whose conditions hold still.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crash_scan_run(state: *mut c_void) -> Status {
    // SAFETY: the caller's promise is the same.
    let Some(state) = (unsafe { ready(state) }) else { return Status::BadState };
    // SAFETY: a state that is ready has both parts written. `progress` refers to `fixed`, to which nobody writes, and
    // nobody else refers to `progress`.
    let (fixed, progress) = unsafe { (&*addr_of!((*state).fixed), &mut *addr_of_mut!((*state).progress)) };
    progress.run(fixed)
}

/// Copies what the scan has found so far to `findings`.
///
/// # Safety
/// As for [`crash_scan_run`]; `findings` must be null or point to a [`Findings`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crash_scan_findings(state: *const c_void, findings: *mut Findings) -> Status {
    // SAFETY: the caller's promise is the same.
    let Some(state) = (unsafe { ready(state.cast_mut()) }) else { return Status::BadState };
    if findings.is_null() || !findings.is_aligned() {
        return Status::BadArgument;
    }
    // SAFETY: a state that is ready is written, and nobody else uses it now; `findings` is not null and aligned, and
    // the caller promised room there.
    unsafe { findings.write((*addr_of!((*state).progress)).findings()) };
    Status::Done
}

/// Writes why [`crash_scan_setup`] failed to `text`, of `size` bytes: one line that names the key, the argument or the
/// address, cut off where there is no more room, with a zero byte behind it. Returns its length without that.
///
/// # Safety
/// `state` must be null, or have been given to [`crash_scan_setup`]; `text` must be null or have `size` writable
/// bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crash_scan_error_text(
    state: *const c_void,
    text: *mut c_char,
    size: usize,
) -> usize {
    if text.is_null() || size > isize::MAX as usize {
        return 0;
    }
    let failure = match State::at(state.cast_mut()) {
        // SAFETY: the caller promised that set-up has seen this memory; it wrote these two first of all.
        Some(state) => match unsafe { (addr_of!((*state).magic).read(), addr_of!((*state).failure)) } {
            // SAFETY: as above.
            (State::FAILED, failure) => unsafe { failure.read() },
            _ => Failure::new(Status::Done, "", 0),
        },
        None => Failure::new(Status::BadState, "", 0),
    };
    // SAFETY: not null, and the caller promised `size` writable bytes; an object can have as many.
    failure.write(unsafe { core::slice::from_raw_parts_mut(text.cast::<u8>(), size) })
}

/// Builds page tables that map physical memory, and stores the physical address of the top one at `root` and how many
/// tables it takes at `needed`; either may be null. With `table_count` 0 it only counts.
///
/// # Safety
/// `map` must be null or point to a [`DirectMapSetup`] whose pointers are null or have as much writable memory as the
/// number beside them says; `root` and `needed` must be null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crash_direct_map(
    map: *const DirectMapSetup,
    root: *mut u64,
    needed: *mut u64,
) -> Status {
    if map.is_null() || !map.is_aligned() {
        return Status::BadArgument;
    }
    // SAFETY: not null, aligned, and the caller promised one.
    let map = unsafe { &*map };
    let tables = map.tables.cast::<[u64; ENTRIES]>();
    let no_tables = map.table_count == 0;
    if !fits(map.ranges, map.range_count)
        || !(no_tables || fits(tables, map.table_count) && (tables as usize).is_multiple_of(PAGE_SIZE))
        || !(root.is_aligned() && needed.is_aligned())
    {
        return Status::BadArgument;
    }
    // SAFETY: not null, aligned, of a possible size, and the caller promised the memory. The types have one layout.
    let ranges = unsafe { core::slice::from_raw_parts_mut(map.ranges.cast::<PfnRange>(), map.range_count) };
    let options = DirectMapOptions {
        five_level: map.five_level != 0,
        use_2m: map.large_pages & 1 != 0,
        use_1g: map.large_pages & 2 != 0,
        sme_mask: map.sme_mask,
        offset: map.offset,
    };
    let built = DirectMap::new(ranges, options).and_then(|direct_map| {
        if !needed.is_null() {
            // SAFETY: not null, aligned, and the caller promised that it can be written.
            unsafe { needed.write(direct_map.tables_needed()) };
        }
        if no_tables {
            return Ok(None);
        }
        // SAFETY: as for the ranges; they are aligned even to 4096.
        let tables = unsafe { core::slice::from_raw_parts_mut(tables, map.table_count) };
        direct_map.build(&mut FixedPool::new(tables, PhysAddr::new(map.tables_address))).map(Some)
    });
    match built {
        Ok(space) => {
            if let Some(space) = space.filter(|_| !root.is_null()) {
                // SAFETY: not null, aligned, and the caller promised that it can be written.
                unsafe { root.write(space.root.as_u64()) };
            }
            Status::Done
        }
        Err(error) => error.into(),
    }
}

/// The state at `memory`, if it is set up.
///
/// # Safety
/// `memory` must be null, or have been given to [`crash_scan_setup`].
unsafe fn ready(memory: *mut c_void) -> Option<*mut State> {
    let state = State::at(memory)?;
    // SAFETY: aligned, and the caller promised that set-up has seen this memory: the magic is the first it writes.
    let magic = unsafe { addr_of!((*state).magic).read() };
    (magic == State::READY).then_some(state)
}

/// Checks `setup` and fills `state`.
///
/// # Safety
/// `state` must be aligned and have room for a state; the pointers in `setup` must be as [`crash_scan_setup`] wants.
unsafe fn set_up(state: *mut State, setup: &Setup) -> Result<(), Failure> {
    let start = setup.now();
    if !fits(setup.vmcoreinfo, setup.vmcoreinfo_size) {
        return Err(Failure::argument("vmcoreinfo"));
    }
    // SAFETY: not null, of a possible size, and the caller promised the memory. Bytes need no alignment.
    let text = unsafe { core::slice::from_raw_parts(setup.vmcoreinfo.cast::<u8>(), setup.vmcoreinfo_size) };
    let level = DumpLevel::from_number(u64::from(setup.level)).ok_or(Failure::argument("level"))?;
    let rule_set = setup.rule_set().ok_or(Failure::argument("rules"))?;
    let producer = Producer::from_code(setup.producer).ok_or(Failure::argument("producer"))?;
    let memory = Callbacks {
        context: setup.context,
        read: setup.read.ok_or(Failure::argument("read"))?,
        view: setup.view,
    };
    // SAFETY: the caller's promise is the same.
    unsafe { setup.check_memory()? };

    // SAFETY: aligned, with room for a state, and nobody refers to it yet. It is written field by field since it is too
    // large for the stack; each is written before the reference to it is made.
    let (header, sections) = unsafe {
        let header = addr_of_mut!((*state).progress.header);
        header.write(Header::new(setup.frames().start, setup.frame_count, setup.chunk_shift));
        (&mut *header, addr_of_mut!((*state).fixed.sections))
    };
    header.self_address = setup.info_address;
    header.producer = producer;
    header.dump_level = setup.level;
    header.rules = rule_set.into();
    // SAFETY: the caller's promise is the same.
    header.set_clock(unsafe { setup.clock() });
    let layout = resolve(text, setup.phys_base, header)?;
    let end = setup.frames().end;
    // SAFETY: as above; all of `fixed` is written before the reference to it is made.
    let fixed = unsafe {
        sections.write(MemorySections::locate(&layout, &memory, end, rule_set)?);
        addr_of_mut!((*state).fixed.memory).write(memory);
        addr_of_mut!((*state).fixed.setup).write(*setup);
        &*addr_of!((*state).fixed)
    };
    // SAFETY: `check_memory` has checked the ranges.
    let ranges = unsafe { fixed.setup.ranges() };
    let rules = Rules::new(&layout, level, rule_set);
    let scan = rules.need_scan().then(|| Scan::new(rules, &fixed.sections, ranges));
    // SAFETY: as above; with these four and the header all of `progress` is written.
    let progress = unsafe {
        let progress = addr_of_mut!((*state).progress);
        addr_of_mut!((*progress).scan).write(scan);
        addr_of_mut!((*progress).tally).write(Tally::default());
        addr_of_mut!((*progress).sealed).write(0);
        addr_of_mut!((*progress).scratch).write_bytes(0, 1);
        &mut *progress
    };
    progress.begin(fixed, start)?;
    // SAFETY: aligned, with room for a state.
    unsafe { addr_of_mut!((*state).magic).write(State::READY) };
    Ok(())
}

/// Resolves the kernel's layout, and notes whose it is. Not inlined: the parsed text is more than a KiB, and is not
/// needed any more when the sections are searched.
#[inline(never)]
fn resolve(text: &[u8], phys_base: u64, header: &mut Header) -> Result<KernelLayout, Failure> {
    let info = VmcoreInfo::parse(text)?;
    header.vmcoreinfo_crc = vmcoreinfo::checksum(text);
    header.set_kernel_release(info.os_release());
    header.set_build_id(build_id(info.build_id().unwrap_or_default(), &mut [0; 20]));
    Ok(KernelLayout::resolve(&info, Some(phys_base))?)
}

impl Setup {
    fn frames(&self) -> PfnRange {
        PfnRange::from_start(Pfn::new(self.first_frame), self.frame_count)
    }

    fn rule_set(&self) -> Option<RuleSet> {
        [RuleSet::Makedumpfile, RuleSet::Kernel].into_iter().find(|rules| *rules as u32 == self.rules)
    }

    /// Nanoseconds by the caller's clock; 0 without one.
    fn now(&self) -> u64 {
        // SAFETY: the caller promised that this function takes its context.
        self.now.map_or(0, |now| unsafe { now(self.context) })
    }

    /// Whether the pace callback wants to go on.
    fn go_on(&self, next: Pfn) -> bool {
        // SAFETY: the caller promised that this function takes its context and any frame.
        self.pace.is_none_or(|pace| unsafe { pace(self.context, next.as_u64()) } != 0)
    }

    /// Checks that ranges, chunks and info are as they must be; the others of this type's functions rely on it.
    ///
    /// # Safety
    /// The pointers must be as [`crash_scan_setup`] wants.
    unsafe fn check_memory(&self) -> Result<(), Failure> {
        if !fits(self.ranges, self.range_count) {
            return Err(Failure::argument("ranges"));
        }
        if self.has_bitmap() && !fits(self.chunks, self.chunk_count) {
            return Err(Failure::argument("chunks"));
        }
        if self.has_bitmap() && !fits(self.info.cast::<u64>(), self.info_size / 8) {
            return Err(Failure::argument("info"));
        }
        // SAFETY: these two have just been checked.
        let (ranges, chunks) = unsafe { (self.ranges(), self.chunks()) };
        let mut behind = Pfn::new(0);
        for range in ranges {
            if range.start < behind || range.end < range.start {
                return Err(Failure::new(Status::BadRange, "first frame", range.start.as_u64()));
            }
            behind = range.end;
        }
        if !self.has_bitmap() {
            return Ok(());
        }
        let header = Header::new(self.frames().start, self.frame_count, self.chunk_shift);
        for index in 0..header.chunk_count {
            let size = header.chunk_size(index).next_multiple_of(8);
            let chunk = chunks.get(index as usize).filter(|chunk| {
                fits(chunk.words, chunk.size / 8) && chunk.size as u64 >= size && chunk.address % 8 == 0
            });
            if chunk.is_none() || index >= v2::MAX_CHUNKS {
                return Err(Failure::new(Status::BadChunk, "chunk number", u64::from(index)));
            }
        }
        Ok(())
    }

    /// # Safety
    /// [`check_memory`](Self::check_memory) must have looked at them.
    unsafe fn ranges<'a>(&self) -> &'a [PfnRange] {
        // SAFETY: not null, aligned, of a possible size; that the memory is there and stays is promised by the
        // caller of crash_scan_setup. The types have one layout.
        unsafe { core::slice::from_raw_parts(self.ranges.cast::<PfnRange>(), self.range_count) }
    }

    /// Whether there is a bitmap, rather than only counts.
    fn has_bitmap(&self) -> bool {
        self.chunk_count > 0
    }

    /// # Safety
    /// As for [`ranges`](Self::ranges).
    unsafe fn chunks<'a>(&self) -> &'a [Chunk] {
        if !self.has_bitmap() {
            return &[];
        }
        // SAFETY: as for the ranges.
        unsafe { core::slice::from_raw_parts(self.chunks, self.chunk_count) }
    }

    /// The clock's name; empty without one.
    ///
    /// # Safety
    /// `clock` must be null, or have 23 bytes or a zero byte before them.
    unsafe fn clock<'a>(&self) -> &'a str {
        let start = self.clock.cast::<u8>();
        if start.is_null() {
            return "";
        }
        // SAFETY: not null, and what is before the zero byte is there, as is that.
        let is_text = |at: &usize| unsafe { start.add(*at).read() } != 0;
        let size = (0..23).take_while(is_text).count();
        // SAFETY: these bytes have just been read. Whoever names a clock doesn't change its name meanwhile.
        core::str::from_utf8(unsafe { core::slice::from_raw_parts(start, size) }).unwrap_or_default()
    }

    /// The memory for the info of version 2.
    ///
    /// # Safety
    /// [`check_memory`](Self::check_memory) must have passed, and no other such slice may be in use.
    unsafe fn info<'a>(&self) -> &'a mut [u8] {
        // SAFETY: not null, of a possible size; the caller of crash_scan_setup promised that it is there and that
        // only the scanner uses it.
        unsafe { core::slice::from_raw_parts_mut(self.info.cast::<u8>(), self.info_size) }
    }

    /// The memory for the info of version 1, if the caller wants one.
    ///
    /// # Safety
    /// As for [`info`](Self::info).
    unsafe fn info_v1<'a>(&self) -> Option<&'a mut [u8]> {
        let info = self.info_v1.cast::<u8>();
        // SAFETY: not null, and the caller promised this size; the rest as for version 2.
        (!info.is_null()).then(|| unsafe { core::slice::from_raw_parts_mut(info, v1::Info::SIZE) })
    }
}

/// Whether `count` of what `start` points to can be a slice: not null, aligned, and of a possible size.
fn fits<T>(start: *const T, count: usize) -> bool {
    let size = size_of::<T>().checked_mul(count);
    !start.is_null() && start.is_aligned() && size.is_some_and(|size| size <= isize::MAX as usize)
}

/// The bytes of a build id in hexadecimal; none if it isn't, or if it is longer than `place`.
fn build_id<'a>(hexadecimal: &str, place: &'a mut [u8]) -> &'a [u8] {
    let (pairs, rest) = hexadecimal.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let Some(place) = place.get_mut(..pairs.len()).filter(|_| rest.is_empty()) else { return &[] };
    for (byte, [high, low]) in place.iter_mut().zip(pairs) {
        match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => *byte = (high << 4 | low) as u8,
            _ => return &[],
        }
    }
    place
}
