//! The scanner for callers in C: a kernel module, a stage in purgatory, the kernel itself.
//!
//! [`crash_scan_run`] is called from a dying kernel, with interrupts off and a few KiB of stack left. It therefore keeps to
//! these constraints:
//!
//! - Nothing is allocated. The scanner's state lies in [`STATE_SIZE`] bytes that the caller provides; large parts of it lie
//!   there rather than on the stack.
//! - Nothing panics, and no number from the crashed kernel's memory alone bounds a loop.
//! - No floating point and no vector registers: their contents belong to the context that crashed.
//! - Memory is accessed through the caller's callbacks only. They decide what exists.
//! - Nothing is parsed: [`crash_scan_setup`] did that while the kernel was healthy. It also set every bit of the bitmap, so
//!   that a scan which never ends leaves a bitmap that keeps everything.
//!
//! Every function returns a [`Status`]; [`crash_scan_error_text`] puts it into words. Calls with the same state must not
//! overlap. `include/crash_scan.h` is the C side. `build` links the crate into one relocatable object; on a host it is an
//! ordinary static library, which the tests link with C programs.
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

/// A panic cannot be handled when a kernel dies. Nothing defines the symbol, so an object with a path to a panic has an
/// undefined reference: it does not link and does not pass the audit.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn a_panic_is_reachable() -> !;
    }
    // SAFETY: never called: a caller does not link.
    unsafe { a_panic_is_reachable() }
}
