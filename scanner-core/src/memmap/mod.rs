//! Locates a machine's `struct page`s and walks its free lists.
//!
//! - [`sections`]: the arrays of `struct page`, per memory section or per node.
//! - [`nodes`]: the NUMA nodes.
//! - [`free_lists`]: the free blocks in the zones' free lists.

pub mod free_lists;
pub mod nodes;
pub mod sections;

pub use sections::MemorySections;

#[cfg(test)]
mod test_memory;
