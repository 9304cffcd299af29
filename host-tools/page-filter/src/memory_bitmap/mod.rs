//! The bitmap that a crashed kernel left in its memory: where it is, whether it can be trusted, what it decides.
//!
//! Whatever a crash leaves may be torn, stale or of another machine, so nothing of it is used before all of it has been
//! looked at. A bitmap that can't be used is named with the reason, and whoever wanted it scans the memory instead: a
//! bitmap may cost time, never a dump.

mod locate;
mod report;
mod validate;

pub use locate::{LocatedBitmap, Place, SearchHints, find, live_command_line, parse_address};
pub use report::MemoryBitmapReport;
pub use validate::{MemoryBitmap, Request};
