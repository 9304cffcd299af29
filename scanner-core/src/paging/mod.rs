//! x86_64 page tables: translating kernel addresses, and building a direct map.

mod entry;
#[cfg(test)]
mod sparse;
mod walk;

pub use entry::{ENTRIES, Entry, EntryFlags, Level};
pub use walk::{AddressSpace, Hole, Piece, Pieces, START_KERNEL_MAP};
