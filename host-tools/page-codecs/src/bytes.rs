//! Writes a stream of bytes, in copies of a fixed size where that saves a branch.

use crate::page::{PAGE_SIZE, ROOM};

/// A stream of bytes. A stream that becomes longer than two pages overwrites its own bytes and is invalid, but never
/// writes outside of `out`.
pub struct ByteWriter<'a> {
    out: &'a mut [u8; ROOM],
    len: usize,
}

impl<'a> ByteWriter<'a> {
    /// A stream that starts at the start of `out`.
    pub fn new(out: &'a mut [u8; ROOM]) -> Self {
        Self { out, len: 0 }
    }

    /// Number of bytes in the stream.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Appends a byte.
    #[inline(always)]
    pub fn put(&mut self, byte: u8) {
        self.put_piece(&[byte], 1);
    }

    /// Copies all of `bytes`, and appends the first `len` of them. The following write overwrites the others.
    #[inline(always)]
    pub fn put_piece<const N: usize>(&mut self, bytes: &[u8; N], len: usize) {
        // The remainder costs less than a bounds check.
        self.out[self.len % (2 * PAGE_SIZE)..][..N].copy_from_slice(bytes);
        self.len += len;
    }

    /// Sets `bits` in the byte at `at`.
    #[inline(always)]
    pub fn set_bits(&mut self, at: usize, bits: u8) {
        self.out[at % (2 * PAGE_SIZE)] |= bits;
    }
}
