//! Encoders and decoders of one page of memory: the five ways in which a kdump-compressed file stores it.
//!
//! [`Compressor`] and [`Decompressor`] are the whole interface. zlib, lzo and zstd have encoders of their own, made for
//! pages: small inputs, one after the other, whose result any decoder of the format reads.
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
