//! The C interface of the scanner, for a kernel module, a purgatory stage, or the kernel itself.
//!
//! A dying kernel calls [`crash_scan_run`] with interrupts off and a few KiB of stack left. The scanner therefore obeys
//! these constraints:
//!
//! - It does not allocate. Its state has [`STATE_SIZE`] bytes, which the caller provides. Large objects are in the
//!   state, not on the stack.
//! - It does not panic, and no number from the crashed kernel's memory alone bounds a loop.
//! - It uses neither floating point nor vector registers: they belong to the context that crashed.
//! - It reads memory through the caller's callbacks only. They decide which memory exists.
//! - It does not parse: [`crash_scan_setup`] parsed VMCOREINFO while the kernel was healthy. It also set every bit of
//!   the bitmap, so that a scan that does not end leaves a bitmap that keeps all pages.
//!
//! Functions return a [`Status`]. [`crash_scan_error_text`] describes a failed setup in words. Calls with the same
//! state must not overlap. `include/crash_scan.h` is the C header. `build` links the crate into one relocatable object.
//! On a host it is a static library, which the tests link with C programs.
//!
//! ```
//! use crash_scan::{Status, crash_scan_run};
//!
//! // A state that was never set up is refused.
//! // SAFETY: a null pointer is allowed.
//! assert_eq!(unsafe { crash_scan_run(core::ptr::null_mut()) }, Status::BadState);
//! ```
#![cfg_attr(target_os = "none", no_std)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable
)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

mod failure;
mod interface;
mod output;
mod progress;
mod setup;
mod state;
mod types;

pub use interface::{
    crash_direct_map, crash_scan_error_text, crash_scan_results, crash_scan_run, crash_scan_setup,
};
pub use scanner_core::info::ScanStatus as Status;
pub use state::{STATE_ALIGN, STATE_SIZE};
pub use types::{BitmapChunk, CheckpointFn, DirectMapSetup, NowFn, Range, ReadFn, ScanResult, Setup, ViewFn};

/// A panic cannot be handled when a kernel dies. `a_panic_is_reachable` is not defined anywhere, so an object with a
/// path to a panic has an undefined symbol: it does not link, and it does not pass the audit.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn a_panic_is_reachable() -> !;
    }
    // SAFETY: never called, since an object with this call does not link.
    unsafe { a_panic_is_reachable() }
}
