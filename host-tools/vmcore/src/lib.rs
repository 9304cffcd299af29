//! Memory images in, filtered dumps out.
//!
//! A [`MemoryImage`](image::MemoryImage) is a source of memory: an ELF vmcore, a kdump-compressed file (also
//! flattened), raw memory with a map. [`dump`] writes the part of it that a [`FrameFilter`](filter::FrameFilter) keeps.
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
