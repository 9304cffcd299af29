//! Encoders and decoders of one page of memory, for the five page formats of a kdump-compressed file.
//!
//! [`Compressor`] and [`Decompressor`] are the whole interface. This crate has its own encoders for zlib, lzo and zstd.
//! They are optimized for a sequence of inputs of one page each. Any decoder of the format reads their output.
//!
//! ```text
//! codec ──> deflate ──> huffman ──┐
//!       ──> lzo ──────────────────┼──> bits, bytes, repeats ──> page
//!       ──> zstd ──> huffman, fse ┘
//! ```
//!
//! ```
//! use page_codecs::{Codec, Compressor, Decompressor, PAGE_SIZE};
//!
//! let page = [7; PAGE_SIZE];
//! let mut room = vec![0; Compressor::ROOM];
//! let size = Compressor::new(Codec::Zstd).compress(&page, &mut room).expect("a page of equal bytes shrinks");
//! let mut back = [0; PAGE_SIZE];
//! assert!(Decompressor::default().decompress(Codec::Zstd, &room[..size], &mut back));
//! assert_eq!(back, page);
//! ```

mod bits;
mod bytes;
mod codec;
mod deflate;
mod fse;
mod huffman;
mod lzo;
mod page;
mod prefetch;
mod repeats;
mod zstd;

pub use codec::{Codec, Compressor, Decompressor};
pub use page::PAGE_SIZE;
