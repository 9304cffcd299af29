//! The functions of the C interface.

use crate::failure::{Failure, status_of_map};
use crate::setup::is_slice;
use crate::state::{STATE_SIZE, State, set_up};
use crate::types::{DirectMapSetup, ScanResult, Setup};
use core::ffi::{c_char, c_void};
use scanner_core::info::ScanStatus;
use scanner_core::paging::{DirectMap, DirectMapOptions, ENTRIES, FixedPool};
use scanner_core::{PAGE_SIZE, PfnRange, PhysAddr};

/// Sets up a scan in `state`, which has `state_size` bytes, and sets every bit of the bitmap. It parses VMCOREINFO and
/// reads the description of the memory sections, so it must be called while the kernel is healthy.
///
/// # Safety
/// If not null, `state` must point to `state_size` writable bytes, `setup` to a [`Setup`], and each pointer in the
/// setup to memory of the given size. All of that memory except the text must stay valid, and only the scanner may
/// write to it, as long as the state is used. The callbacks must behave as documented.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crash_scan_setup(
    state: *mut c_void,
    state_size: usize,
    setup: *const Setup,
) -> ScanStatus {
    let Some(state) = State::at(state).filter(|_| state_size >= STATE_SIZE) else {
        return ScanStatus::BadState;
    };
    // SAFETY: `state` is aligned and has room for a state.
    unsafe { State::fail(state, Failure::argument("setup")) };
    if setup.is_null() || !setup.is_aligned() {
        return ScanStatus::BadArgument;
    }
    // SAFETY: not null and aligned, and the caller promised a Setup there.
    let setup = unsafe { &*setup };
    // SAFETY: `state` as above; what `setup` points to is promised by the caller.
    match unsafe { set_up(state, setup) } {
        Ok(()) => ScanStatus::Done,
        Err(failure) => {
            // SAFETY: as above.
            unsafe { State::fail(state, failure) };
            failure.status
        }
    }
}

/// Scans until all frames are decided and the bitmap is sealed ([`ScanStatus::Done`]), or until the caller's checkpoint
/// stops the scan ([`ScanStatus::Interrupted`]). In both cases the info structures have the result. After an
/// interruption the next call resumes the scan.
///
/// # Safety
/// `state` must be null, or have been passed to [`crash_scan_setup`], whose conditions must still hold. No other call
/// with the same state may be in progress.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crash_scan_run(state: *mut c_void) -> ScanStatus {
    // SAFETY: the caller's promise is the same.
    match unsafe { State::ready(state) } {
        // SAFETY: it is ready, and no other call is in progress.
        Some(state) => unsafe { State::run(state) },
        None => ScanStatus::BadState,
    }
}

/// Copies the current results of the scan to `result`.
///
/// # Safety
/// As for [`crash_scan_run`]. `result` must be null or point to a [`ScanResult`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crash_scan_results(state: *const c_void, result: *mut ScanResult) -> ScanStatus {
    // SAFETY: the caller's promise is the same.
    let Some(state) = (unsafe { State::ready(state.cast_mut()) }) else { return ScanStatus::BadState };
    if result.is_null() || !result.is_aligned() {
        return ScanStatus::BadArgument;
    }
    // SAFETY: the state is ready and no other call is in progress. `result` is aligned and not null, and the caller
    // promised that it is writable.
    unsafe { result.write(State::progress(state).result()) };
    ScanStatus::Done
}

/// Writes the reason why [`crash_scan_setup`] failed to `text`, which has `size` bytes: one line with the key, the
/// argument or the address, and a zero byte. The line is truncated if `text` is too small. Returns its length without
/// the zero byte.
///
/// # Safety
/// `state` must be null, or have been passed to [`crash_scan_setup`]. `text` must be null or have `size` writable
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
        // SAFETY: the caller promised that `crash_scan_setup` was called with this memory.
        Some(state) => unsafe { State::failure(state) }.unwrap_or(Failure::new(ScanStatus::Done, "", 0)),
        None => Failure::new(ScanStatus::BadState, "", 0),
    };
    // SAFETY: not null, and the caller promised `size` writable bytes. `size` is at most `isize::MAX`.
    failure.write(unsafe { core::slice::from_raw_parts_mut(text.cast::<u8>(), size) })
}

/// Builds page tables that map physical memory. Stores the physical address of the top-level table at `root`, and the
/// number of tables that the map needs at `needed`; both pointers may be null. If `table_count` is 0, it only counts
/// the tables.
///
/// # Safety
/// `map` must be null or point to a [`DirectMapSetup`] whose pointers are null or point to writable memory of the given
/// size. `root` and `needed` must be null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crash_direct_map(
    map: *const DirectMapSetup,
    root: *mut u64,
    needed: *mut u64,
) -> ScanStatus {
    if map.is_null() || !map.is_aligned() {
        return ScanStatus::BadArgument;
    }
    // SAFETY: not null and aligned, and the caller promised a DirectMapSetup there.
    let map = unsafe { &*map };
    let tables = map.tables.cast::<[u64; ENTRIES]>();
    let no_tables = map.table_count == 0;
    if !is_slice(map.ranges, map.range_count)
        || !(no_tables || is_slice(tables, map.table_count) && (tables as usize).is_multiple_of(PAGE_SIZE))
        || !(root.is_aligned() && needed.is_aligned())
    {
        return ScanStatus::BadArgument;
    }
    // SAFETY: not null, aligned, at most `isize::MAX` bytes, and the caller promised the memory. Both types have the
    // same layout (types.rs).
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
            // SAFETY: not null, aligned, and the caller promised that it is writable.
            unsafe { needed.write(direct_map.tables_needed()) };
        }
        if no_tables {
            return Ok(None);
        }
        // SAFETY: as for the ranges. The tables are aligned to 4096.
        let tables = unsafe { core::slice::from_raw_parts_mut(tables, map.table_count) };
        direct_map.build(&mut FixedPool::new(tables, PhysAddr::new(map.tables_address))).map(Some)
    });
    match built {
        Ok(space) => {
            if let Some(space) = space.filter(|_| !root.is_null()) {
                // SAFETY: not null, aligned, and the caller promised that it is writable.
                unsafe { root.write(space.root.as_u64()) };
            }
            ScanStatus::Done
        }
        Err(error) => status_of_map(error),
    }
}
