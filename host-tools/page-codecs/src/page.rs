//! The page that the encoders are made for, and the room that a compressed one takes.

/// Bytes of a page: the size for which the encoders' tables and loops are made.
pub const PAGE_SIZE: usize = 4096;

/// Bytes of room that an encoder needs: more than any codec makes of a page, and some for an encoder that writes more
/// than counts.
pub const ROOM: usize = 2 * PAGE_SIZE + 64;
