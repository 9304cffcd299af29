//! x86_64 page tables: translates kernel addresses, and builds a direct map.

mod direct_map;
mod entry;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod sparse;
mod walk;

pub use direct_map::{DirectMap, DirectMapError, DirectMapOptions, FixedPool, Span, TablePool, covering};
pub use entry::{ENTRIES, Entry, EntryFlags, Level};
pub use walk::{AddressSpace, Hole, Piece, Pieces, START_KERNEL_MAP};
