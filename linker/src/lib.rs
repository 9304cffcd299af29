//! The scanner with its C interface ([`scanner_core::abi`]) and nothing else, to be linked into crash-time code.
//!
//! `linker/build` builds it for a machine without an operating system and links it into one object;
//! `linker/include/scanner_core.h` declares its functions. On a host it is an ordinary static library, which the
//! tests link with C programs.
#![cfg_attr(target_os = "none", no_std)]

pub use scanner_core::abi;

/// A panic can't be handled when a kernel dies. There is none: nothing defines the symbol, so that an object with a
/// path to a panic has an undefined reference, and neither links nor passes the audit.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn a_panic_is_reachable() -> !;
    }
    // SAFETY: it is never called: what would call it doesn't link.
    unsafe { a_panic_is_reachable() }
}
