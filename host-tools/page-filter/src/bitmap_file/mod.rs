//! Bitmap files: `crash_dump_bitmap_info` at offset 0, with file offsets for addresses.
//!
//! [`BitmapReader`] reads them, and equally the bitmap that a crashed kernel left in its memory, in constant memory;
//! [`BitmapFile`] holds one as a whole. `Documentation/format.md` is the specification.

mod check_machine;
mod convert;
mod copy;
mod file;
mod info;
mod reader;
mod report;
mod scanned;
mod stopped;
mod writer;

pub use convert::Conversion;
pub use file::{BitmapFile, is_bitmap_file};
pub use info::{Counted, Info};
pub use reader::{BitmapReader, Bytes, DamagedChunk, FileAsMemory, Survey};
pub use report::{ChunkReport, CountReport, ExceptionReport, RecordedScan, Report};

#[cfg(test)]
mod tests;
