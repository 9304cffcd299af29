//! Reads memory images and writes filtered dumps.
//!
//! A [`MemoryImage`](image::MemoryImage) is an ELF vmcore, a kdump-compressed file (plain or flattened), or raw memory
//! with a map. [`dump`] writes the page frames of an image that a [`FrameFilter`](filter::FrameFilter) keeps.
//!
//! ```text
//! file ──> image ──> (filter) ──> dump ──> output
//!            └── format, identity, frames ──┘
//! ```

pub mod dump;
pub mod error;
pub mod filter;
pub mod format;
pub mod frames;
pub mod identity;
pub mod image;
pub mod output;
pub mod progress;
pub mod units;

pub use error::{Error, ErrorKind, Result};
