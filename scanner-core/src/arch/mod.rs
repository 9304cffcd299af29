//! Instructions that need inline assembly: the compiler offers no intrinsics for them when vector registers are
//! disabled. This is the only `unsafe` code of the crate.

pub mod crc32;
pub mod prefetch;
