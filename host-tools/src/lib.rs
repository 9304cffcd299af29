//! Crash dump bitmaps on a host: memory images in, bitmaps, dumps, reports and pictures out.
//!
//! A [`image::MemoryImage`] is a source of memory (ELF vmcore, kdump-compressed file, raw memory with a map);
//! [`scanner_core`] turns it into a bitmap; the modules of [`dump`] write the filtered dump.

pub mod bitmap_file;
pub mod commands;
pub mod dump;
pub mod error;
pub mod explain;
pub mod found;
pub mod frames;
pub mod image;
pub mod info_layout;
pub mod inspect;
pub mod kdump;
pub mod machine;
pub mod output;
pub mod picture;
pub mod progress;
pub mod reference;
pub mod sample;
pub mod scan;
pub mod scan_report;
pub mod stage;
pub mod synth;
pub mod verdict;

pub use error::{Error, Result};
