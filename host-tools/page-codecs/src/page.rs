//! The size of a page, and of the output buffer of an encoder.

/// Size of a page in bytes. The encoders' tables and loops are made for this size.
pub const PAGE_SIZE: usize = 4096;

/// Size of the output buffer that an encoder needs, in bytes: two pages, which is more than any codec
/// produces for a page, and one copy of a fixed size that starts before that limit.
pub const ROOM: usize = 2 * PAGE_SIZE + 64;
