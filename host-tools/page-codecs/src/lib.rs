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
