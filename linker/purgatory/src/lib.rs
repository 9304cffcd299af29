//! The purgatory stage: it scans between the crash of the first kernel and the start of the capture kernel.
//!
//! kexec keeps the capture kernel in memory that the running kernel cannot write to. The stage is in the same memory.
//! It is loaded and checksummed long before the crash. When the kernel crashes, kexec jumps to the stage instead of the
//! capture kernel's purgatory. The stage then
//!
//! 1. sets up its own stack, page tables and descriptor tables,
//! 2. checks its parameters and its own code,
//! 3. scans the dead kernel's `struct page`s,
//! 4. restores all registers and jumps to the capture kernel's purgatory.
//!
//! An exception, the end of the time budget or a failed check ends the scan only: the stage then continues with step 4.
//!
//! - [`parameters`]: the parameters of the stage, in one block with a checksum.
//! - [`ram`]: the dead kernel's memory that is known to be RAM.
//! - [`stage`]: the scan and its end, for any [`machine::Machine`]. The tests run it on a host.
//! - [`machine`]: what the stage needs of a machine; `bare` is the real one: entry, exceptions, page tables, clock.
//!
//! The constraints are those of [`crash_scan`]: no allocation, no panic path, no vector registers, bounded loops and a
//! bounded stack. `linker/purgatory/build` builds the image, and `linker/audit` checks the constraints.
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

#[cfg(target_os = "none")]
mod bare;
pub mod machine;
pub mod parameters;
pub mod ram;
pub mod stage;
