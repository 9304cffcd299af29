//! Turns a machine's `struct page` array into a bitmap of the pages worth dumping.
//!
//! The same code runs in the panic path of a dying kernel, in a purgatory stage between two kernels, and on a
//! host that reads a vmcore. It therefore never knows a file, a process or a clock, never allocates, uses no
//! floating point, and has no path to a panic: whatever the crashed kernel's memory holds, the worst outcome is
//! a page that is kept although it could have been dropped.
//!
//! Data goes one way:
//!
//! ```text
//! VMCOREINFO ──> KernelLayout ──┐
//! PhysicalMemory ──> AddressSpace ──> MemorySections ──> Scan ──> Bitmap + Counters ──> info (v1, v2)
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

pub mod abi;
pub mod addr;
pub mod bitmap;
pub mod classify;
pub mod free_list;
pub mod info;
pub mod layout;
pub mod level;
pub mod memory;
pub mod nodes;
pub mod paging;
pub mod prefetch;
pub mod scan;
pub mod sections;
pub mod vmcoreinfo;

pub use addr::{PAGE_SHIFT, PAGE_SIZE, Pfn, PfnRange, PhysAddr, VirtAddr};
pub use bitmap::Bitmap;
pub use classify::Rules;
pub use layout::KernelLayout;
pub use level::{Counters, DumpLevel, PageClass, RuleSet};
pub use memory::{PhysicalMemory, Unreadable};
pub use scan::Scan;
pub use sections::MemorySections;
pub use vmcoreinfo::VmcoreInfo;
