//! Sources of memory: one trait, one file per format.

pub mod bytes;
pub mod elf;
pub mod extents;
mod facts;
pub mod file;
pub mod flattened;
pub(crate) mod identify;
pub mod kdump;
pub mod notes;
pub mod open;
pub mod raw;
mod segments;
mod source;
#[cfg(test)]
pub(crate) mod testing;
pub mod windows;

pub use facts::{Architecture, Filtered, ImageFacts, ImageFormat, Segment};
pub use file::Borrowed;
pub use identify::identify;
pub use open::{OpenOptions, open};
pub use source::{Hole, MemoryImage};
