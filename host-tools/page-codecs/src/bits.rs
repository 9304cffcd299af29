//! Writes a stream of bits, starting at the lowest bit of each byte.

use crate::page::{PAGE_SIZE, ROOM};

/// A stream of bits. A stream that becomes longer than two pages overwrites its own bytes and is invalid, but never
/// writes outside of `out`.
pub struct BitWriter<'a> {
    out: &'a mut [u8; ROOM],
    /// Number of whole bytes in `out`.
    len: usize,
    /// Bits that are not in `out` yet, and their number.
    bits: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    /// A stream that starts after the first `len` bytes of `out`.
    pub fn new(out: &'a mut [u8; ROOM], len: usize) -> Self {
        Self { out, len, bits: 0, count: 0 }
    }

    /// Adds the lowest `count` bits of `bits`; the others must be 0. At most 63 bits can be pending.
    /// [`flush`](Self::flush) leaves at most 7.
    #[inline(always)]
    pub fn add(&mut self, bits: u64, count: u32) {
        self.bits |= bits << self.count;
        self.count += count;
    }

    /// Writes the pending whole bytes to `out`.
    #[inline(always)]
    pub fn flush(&mut self) {
        // The remainder costs less than a bounds check.
        self.out[self.len % (2 * PAGE_SIZE)..][..8].copy_from_slice(&self.bits.to_le_bytes());
        self.len += (self.count / 8) as usize;
        self.bits >>= self.count & !7;
        self.count &= 7;
    }

    /// Adds the lowest `count` bits of `bits`, at most 56, and flushes.
    #[inline(always)]
    pub fn put(&mut self, bits: u64, count: u32) {
        self.add(bits, count);
        self.flush();
    }

    /// Fills the last byte with zero bits.
    pub fn align(&mut self) {
        self.count = self.count.next_multiple_of(8);
        self.flush();
    }

    /// Ends a stream that a decoder reads backward: writes a set bit after the last bit. Returns the number of used
    /// bytes of `out`.
    pub fn finish_backward(mut self) -> usize {
        self.put(1, 1);
        self.finish()
    }

    /// Writes the pending bits. Returns the number of used bytes of `out`.
    pub fn finish(mut self) -> usize {
        self.align();
        self.len
    }
}
