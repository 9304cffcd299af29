//! The scanner's state, in memory that the caller provides.

use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;
use crate::setup::CheckedSetup;
use crate::types::{Callbacks, Setup};
use core::ffi::c_void;
use core::ptr::{addr_of, addr_of_mut};
use scanner_core::info::ScanStatus;
use scanner_core::info::v2::Header;
use scanner_core::kernel::vmcoreinfo::{self, VmcoreInfo};
use scanner_core::memmap::MemorySections;
use scanner_core::scan::{Scan, Tally};
use scanner_core::{KernelLayout, PAGE_SHIFT, Rules};
use static_assertions::const_assert;

/// Size of the scanner's state in bytes: nine pages. Part of it is reserved for later versions.
pub const STATE_SIZE: usize = 9 << PAGE_SHIFT;
/// Alignment of the scanner's state in bytes.
pub const STATE_ALIGN: usize = 64;
const_assert!(size_of::<State>() <= STATE_SIZE && align_of::<State>() <= STATE_ALIGN);

/// The scanner's state. It is opaque to C.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct State {
    /// [`State::READY`] after all other fields are written.
    magic: u64,
    failure: Failure,
    fixed: Fixed,
    progress: Progress,
}

/// The results of the setup. They do not change afterwards; [`Progress`] refers to them.
#[derive(Debug)]
struct Fixed {
    memory: Callbacks,
    setup: CheckedSetup,
    sections: MemorySections,
}

impl State {
    const READY: u64 = u64::from_le_bytes(*b"scan set");
    const FAILED: u64 = u64::from_le_bytes(*b"scan bad");

    /// The state at `memory`; `None` if it is null or not aligned.
    pub fn at(memory: *mut c_void) -> Option<*mut Self> {
        let state = memory.cast::<Self>();
        (!state.is_null() && (memory as usize).is_multiple_of(STATE_ALIGN)).then_some(state)
    }

    /// Records in `state` that the setup failed with `failure`.
    ///
    /// # Safety
    /// `state` must be aligned and have room for a state.
    pub unsafe fn fail(state: *mut Self, failure: Failure) {
        // SAFETY: the caller's promise. These writes make the first two fields valid.
        unsafe {
            addr_of_mut!((*state).magic).write(Self::FAILED);
            addr_of_mut!((*state).failure).write(failure);
        }
    }

    /// Why the setup of `state` failed; `None` if it succeeded.
    ///
    /// # Safety
    /// `state` must have been passed to [`fail`](Self::fail), which `crash_scan_setup` calls first.
    pub unsafe fn failure(state: *mut Self) -> Option<Failure> {
        // SAFETY: the caller's promise: `fail` has written both fields.
        unsafe {
            (addr_of!((*state).magic).read() == Self::FAILED).then(|| addr_of!((*state).failure).read())
        }
    }

    /// The state at `memory`; `None` if it is not set up.
    ///
    /// # Safety
    /// `memory` must be null, or have been passed to `crash_scan_setup`.
    pub unsafe fn ready(memory: *mut c_void) -> Option<*mut Self> {
        let state = Self::at(memory)?;
        // SAFETY: aligned, and passed to `crash_scan_setup`, which writes the magic before all other fields.
        let magic = unsafe { addr_of!((*state).magic).read() };
        (magic == Self::READY).then_some(state)
    }

    /// The mutable state of the scan.
    ///
    /// # Safety
    /// `state` must be [`ready`](Self::ready), and no other reference to its progress may exist while the result is
    /// used.
    pub unsafe fn progress<'a>(state: *mut Self) -> &'a mut Progress {
        // SAFETY: all fields of a ready state are written. The caller promised that there is no other reference.
        unsafe { &mut *addr_of_mut!((*state).progress) }
    }

    /// Runs the scan of `state` until the caller's checkpoint stops it.
    ///
    /// # Safety
    /// `state` must be [`ready`](Self::ready), and no other call with the same state may be in progress.
    pub unsafe fn run(state: *mut Self) -> ScanStatus {
        // SAFETY: all fields of a ready state are written. `fixed` does not change after the setup, and this is the
        // only reference to the progress.
        let (fixed, progress) = unsafe { (&*addr_of!((*state).fixed), Self::progress(state)) };
        let geometry = progress.header.geometry();
        // SAFETY: the caller of `crash_scan_setup` promised that only the scanner writes to this memory, and no other
        // call is in progress.
        let mut output = unsafe { Output::new(&fixed.setup, geometry) };
        progress.run(&fixed.memory, &mut output)
    }
}

/// Checks `setup` and fills `state`.
///
/// # Safety
/// `state` must be aligned and have room for a state; the pointers in `setup` must be as `crash_scan_setup` requires.
pub(crate) unsafe fn set_up(state: *mut State, setup: &Setup) -> Result<(), Failure> {
    let start = setup.now();
    // SAFETY: the caller's promise is the same.
    let text = unsafe { setup.vmcoreinfo()? };
    let request = setup.request()?;
    // SAFETY: the caller's promise is the same.
    let checked = unsafe { CheckedSetup::new(setup)? };

    // SAFETY: aligned, with room for a state, and without references to it. The state is too large for the stack, so it
    // is written field by field; each field is written before a reference to it is made.
    let (header, sections) = unsafe {
        let header = addr_of_mut!((*state).progress.header);
        header.write(Header::new(setup.frames().start, setup.frame_count, setup.chunk_shift));
        (&mut *header, addr_of_mut!((*state).fixed.sections))
    };
    header.self_address = setup.info_address;
    header.producer = request.producer;
    header.dump_level = setup.level;
    header.rules = request.rule_set.into();
    // SAFETY: the caller's promise is the same.
    header.set_clock(unsafe { setup.clock() });
    let layout = resolve(text, setup.phys_base, header)?;
    let end = setup.frames().end;
    // SAFETY: as above. All fields of `fixed` are written before the reference to it is made.
    let fixed = unsafe {
        sections.write(MemorySections::locate(&layout, &request.memory, end, request.rule_set)?);
        addr_of_mut!((*state).fixed.memory).write(request.memory);
        addr_of_mut!((*state).fixed.setup).write(checked);
        &*addr_of!((*state).fixed)
    };
    let rules = Rules::new(&layout, request.level, request.rule_set);
    let scan = rules.need_scan().then(|| Scan::new(rules, &fixed.sections, fixed.setup.ranges()));
    // SAFETY: as above. With these four fields and the header, all of `progress` is written.
    let progress = unsafe {
        let progress = addr_of_mut!((*state).progress);
        addr_of_mut!((*progress).scan).write(scan);
        addr_of_mut!((*progress).tally).write(Tally::default());
        addr_of_mut!((*progress).sealed).write(0);
        addr_of_mut!((*progress).scratch).write_bytes(0, 1);
        &mut *progress
    };
    // SAFETY: the caller of `crash_scan_setup` promised that only the scanner writes to this memory, and no other
    // `Output` exists.
    let mut output = unsafe { Output::new(&fixed.setup, progress.header.geometry()) };
    progress.begin(&mut output, start)?;
    // SAFETY: aligned, with room for a state.
    unsafe { addr_of_mut!((*state).magic).write(State::READY) };
    Ok(())
}

/// Resolves the kernel's layout, and records the kernel's identity in `header`.
// `#[inline(never)]` frees the parsed text, more than 1 KiB of stack, before the sections are located.
#[inline(never)]
fn resolve(text: &[u8], phys_base: u64, header: &mut Header) -> Result<KernelLayout, Failure> {
    let info = VmcoreInfo::parse(text)?;
    header.vmcoreinfo_crc = vmcoreinfo::checksum(text);
    header.set_kernel_release(info.os_release());
    header.set_build_id(build_id(info.build_id().unwrap_or_default(), &mut [0; 20]));
    Ok(KernelLayout::resolve(&info, Some(phys_base))?)
}

/// The bytes of a hexadecimal build ID; empty if it is malformed or longer than `place`.
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
