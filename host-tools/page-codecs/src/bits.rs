//! Bits that are written, the first one lowest in its byte.

use crate::page::{PAGE_SIZE, ROOM};

/// A stream of bits. It may pass a page's size; it is of no use then, and never leaves its room.
pub struct BitWriter<'a> {
    out: &'a mut [u8; ROOM],
    /// Whole bytes that are written.
    len: usize,
    /// Bits that are not, and how many.
    bits: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    /// Bits behind the first `len` bytes of `out`.
    pub fn new(out: &'a mut [u8; ROOM], len: usize) -> Self {
        Self { out, len, bits: 0, count: 0 }
    }

    /// Adds the lowest `count` of `bits`, the others being 0; [`flush`](Self::flush) is to come before there are 57.
    #[inline(always)]
    pub fn add(&mut self, bits: u64, count: u32) {
        self.bits |= bits << self.count;
        self.count += count;
    }

    /// Writes the whole bytes.
    #[inline(always)]
    pub fn flush(&mut self) {
        // The remainder costs less than a check.
        self.out[self.len % (2 * PAGE_SIZE)..][..8].copy_from_slice(&self.bits.to_le_bytes());
        self.len += (self.count / 8) as usize;
        self.bits >>= self.count & !7;
        self.count &= 7;
    }

    /// Writes the lowest `count` of `bits`.
    #[inline(always)]
    pub fn put(&mut self, bits: u64, count: u32) {
        self.add(bits, count);
        self.flush();
    }

    /// Goes to the next whole byte.
    pub fn align(&mut self) {
        self.count = self.count.next_multiple_of(8);
        self.flush();
    }

    /// Ends a stream that is read backwards: a bit that is set is behind the last one. Returns the bytes of `out` that
    /// are in use.
    pub fn end_backwards(mut self) -> usize {
        self.put(1, 1);
        self.finish()
    }

    /// Writes what is left. Returns the bytes of `out` that are in use.
    pub fn finish(mut self) -> usize {
        self.align();
        self.len
    }
}
