//! The layout of a kernel's data structures, as plain data.
//!
//! - [`vmcoreinfo`]: the VMCOREINFO text, in which a kernel describes its layout.
//! - [`layout`]: [`KernelLayout`], the layout that the scanner uses. `resolve.rs` derives it from
//!   VMCOREINFO.
//! - [`nodes`], [`free_lists`]: the locations of NUMA nodes and of free lists.

mod architecture;
mod error;
pub mod free_lists;
pub mod layout;
pub mod nodes;
mod resolve;
pub mod vmcoreinfo;

pub use architecture::Architecture;
pub use error::LayoutError;
pub use layout::KernelLayout;
pub use vmcoreinfo::VmcoreInfo;
