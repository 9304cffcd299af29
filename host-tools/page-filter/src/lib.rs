//! Decides which pages of a crashed machine a dump keeps: by a scan, by a bitmap file, or by the bitmap that the first
//! kernel left in memory.
//!
//! Each module uses only those to its left:
//!
//! ```text
//! MemoryImage ──> machine ──> scan ──> bitmap_file ──> memory_bitmap ──> choose
//! ```

pub mod bitmap_file;
pub mod choose;
pub mod machine;
pub mod memory_bitmap;
pub mod scan;
