//! Reads memory images and writes filtered dumps.
//!
//! A [`MemoryImage`](image::MemoryImage) is an ELF vmcore, a kdump-compressed file (plain or flattened), or raw memory
//! with a map. [`dump`] writes the page frames of an image that a [`FrameFilter`](filter::FrameFilter) keeps.
//!
//! ```text
//! file ──> image ──> (filter) ──> dump ──> output
//!            └── format, identity, frames ──┘
//! ```
//!
//! ```no_run
//! use scanner_core::{PAGE_SIZE, PhysAddr};
//! use vmcore::image::{OpenOptions, open};
//!
//! let image = open("vmcore".as_ref(), &OpenOptions::default())?;
//! let mut page = [0; PAGE_SIZE];
//! image.read(PhysAddr::new(0x1000), &mut page)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
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
