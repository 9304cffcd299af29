//! x86_64 page tables: translating kernel addresses, and building a direct map.

mod walk;

pub use walk::{AddressSpace, Piece};
