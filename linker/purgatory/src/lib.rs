//! The scan between two kernels.
//!
//! kexec keeps the capture kernel ready in memory that the running kernel can't write to. This stage lies beside it,
//! loaded and checksummed long before the crash. When the kernel dies, kexec jumps here instead of to the capture
//! kernel's purgatory. The stage takes a stack, page tables and descriptor tables of its own, checks itself, scans the
//! dead kernel's `struct page`s, and goes on to where kexec would have gone, with every register as it was given.
//! Whatever goes wrong on the way, an exception, the end of the time budget or a failed check, ends the scan and
//! nothing else.
//!
//! - [`parameters`]: what the loader tells the stage, in one block with a checksum.
//! - [`ram`]: the dead kernel's memory, as far as it is known to be RAM.
//! - [`stage`]: the scan itself and its end, for any [`machine::Machine`]; the tests run it on a host.
//! - [`machine`]: the real machine: entry, exceptions, page tables, clock.
//!
//! The constraints are those of [`crash_scan`]: no allocation, no panic path, no vector registers, bounded loops
//! and a bounded stack. `linker/purgatory/build` builds the image, and `linker/audit` proves the constraints.
#![no_std]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

#[cfg(any(test, not(target_os = "none")))]
extern crate std;

pub mod machine;
pub mod parameters;
pub mod ram;
pub mod stage;
