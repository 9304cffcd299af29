//! Turns a machine's `struct page` array into a bitmap of the pages worth dumping.
//!
//! The same code runs in the panic path of a dying kernel, in a purgatory stage between two kernels, and on a host that
//! reads a vmcore. It therefore does not use files, processes or clocks, does not allocate, uses no floating point, and
//! has no path to a panic. The crashed kernel's memory is untrusted. Whatever it holds, the worst result is a page that
//! is kept although it could have been excluded.
//!
//! Data flows one way:
//!
//! ```text
//! VMCOREINFO ──> KernelLayout ──┐
//! PhysicalMemory ──> AddressSpace ──> MemorySections ──> Scan ──> Bitmap + Counters ──> info (v1, v2)
//! ```
//!
//! ```
//! use scanner_core::{DumpLevel, PageClass, VmcoreInfo};
//!
//! let info = VmcoreInfo::parse(b"OSRELEASE=6.12.0\nPAGESIZE=4096\n").unwrap();
//! assert_eq!(info.os_release(), "6.12.0");
//! let level = DumpLevel::from_number(31).unwrap();
//! assert!(PageClass::User.is_excluded_at(level));
//! ```
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

#[cfg(test)]
extern crate std;

pub mod addr;
pub mod arch;
pub mod bitmap;
pub mod crc32c;
pub mod info;
pub mod kernel;
pub mod memmap;
pub mod memory;
pub mod paging;
pub mod rules;
pub mod scan;

pub use addr::{PAGE_SHIFT, PAGE_SIZE, Pfn, PfnRange, PhysAddr, VirtAddr};
pub use bitmap::Bitmap;
pub use kernel::{KernelLayout, VmcoreInfo};
pub use memmap::MemorySections;
pub use memory::{PhysicalMemory, Unreadable};
pub use rules::{Counters, DumpLevel, PageClass, RuleSet, Rules};
pub use scan::Scan;
