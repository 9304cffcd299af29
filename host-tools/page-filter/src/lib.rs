//! Decides which pages of a crashed machine a dump keeps: by a scan, by a bitmap file, or by the bitmap that the first
//! kernel left in memory.
//!
//! Each module uses only those to its left:
//!
//! ```text
//! MemoryImage ──> machine ──> scan ──> bitmap_file ──> memory_bitmap ──> choose
//! ```
//!
//! ```no_run
//! use page_filter::machine::Machine;
//! use page_filter::scan::scan;
//! use scanner_core::scan::RunToCompletion;
//! use scanner_core::{DumpLevel, RuleSet};
//! use vmcore::image::{OpenOptions, open};
//!
//! let image = open("vmcore".as_ref(), &OpenOptions::default())?;
//! let machine = Machine::new(&*image, RuleSet::Makedumpfile)?;
//! let scanned = scan(&machine, DumpLevel::all(), &mut RunToCompletion);
//! println!("{} pages excluded", scanned.findings.counters.total());
//! # Ok::<(), vmcore::Error>(())
//! ```

pub mod bitmap_file;
pub mod choose;
pub mod machine;
pub mod memory_bitmap;
pub mod scan;
