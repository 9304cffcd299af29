//! The kdump-compressed format: what its readers ([`crate::image::kdump`]) and writers ([`crate::dump::kdump`])
//! share.
//!
//! ```text
//! block 0                              disk_dump_header
//! block 1 .. 1 + sub_hdr_size          kdump_sub_header, ELF notes behind it
//! (1 + sub_hdr_size) blocks            1st bitmap (memory that exists), 2nd bitmap (pages in the file)
//! + bitmap_blocks blocks               page_desc of each page of the 2nd bitmap, ascending
//! behind them                          page data, unaligned; the shared zero page first, if there is one
//! behind it                            erase info, if any
//! ```
//!
//! Source: makedumpfile's `diskdump_mod.h` and `IMPLEMENTATION`; header versions 1 to 6 only ever added fields.

mod bits;
mod bytes;
pub mod codec;
mod deflate;
pub mod flattened;
mod fse;
pub mod header;
mod huffman;
pub mod identity;
mod lzo;
mod repeats;
mod zstd;

pub use codec::Codec;
pub use identity::DumpIdentity;

use scanner_core::PAGE_SIZE;

/// Bytes of a block: the page size, since x86_64 has one only.
pub const BLOCK_SIZE: usize = PAGE_SIZE;

/// Blocks that one bitmap of `max_mapnr` frames takes.
pub const fn bitmap_blocks(max_mapnr: u64) -> u64 {
    max_mapnr.div_ceil(8).div_ceil(BLOCK_SIZE as u64)
}
