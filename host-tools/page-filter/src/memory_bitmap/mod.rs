//! The bitmap that a crashed kernel left in its memory: locates it, validates it, and filters a dump with it.
//!
//! After a crash the bitmap may be incomplete, stale or of another machine, so all of it is validated before any of it
//! is used. If it cannot be used, the error gives the reason, and the caller scans the image instead: a bad bitmap may
//! cost time, but never the dump.

mod locate;
mod report;
mod validate;

pub use locate::{LocatedBitmap, Place, SearchHints, find, live_command_line, parse_address};
pub use report::MemoryBitmapReport;
pub use validate::{MemoryBitmap, Request};
