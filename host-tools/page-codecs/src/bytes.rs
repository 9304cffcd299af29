//! Bytes that are written, more than count in one go where that saves a branch.

use crate::page::{PAGE_SIZE, ROOM};

/// A stream of bytes. It may pass a page's size by as much as the last literals; it is of no use then, and never leaves
/// its room.
pub struct ByteWriter<'a> {
    out: &'a mut [u8; ROOM],
    len: usize,
}

impl<'a> ByteWriter<'a> {
    /// Bytes from the start of `out` on.
    pub fn new(out: &'a mut [u8; ROOM]) -> Self {
        Self { out, len: 0 }
    }

    /// Bytes so far.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts a byte.
    #[inline(always)]
    pub fn put(&mut self, byte: u8) {
        self.put_piece(&[byte], 1);
    }

    /// Puts all of `bytes`, of which only `len` count.
    #[inline(always)]
    pub fn put_piece<const N: usize>(&mut self, bytes: &[u8; N], len: usize) {
        // The remainder costs less than a check.
        self.out[self.len % (2 * PAGE_SIZE)..][..N].copy_from_slice(bytes);
        self.len += len;
    }

    /// Sets `bits` in the byte at `at`.
    #[inline(always)]
    pub fn set_bits(&mut self, at: usize, bits: u8) {
        self.out[at % (2 * PAGE_SIZE)] |= bits;
    }
}
