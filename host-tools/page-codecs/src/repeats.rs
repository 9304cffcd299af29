//! The match search that the encoders share: finds bytes of a page that occur earlier in the page.
//!
//! A page is small. Positions fit in 16 bits, the hash table fits in the L1 cache, and clearing it for each page is
//! cheap. Mispredicted branches take most of the time, so the code has few unpredictable branches.

use crate::page::PAGE_SIZE;
use crate::prefetch;

/// Padding before and after a page, in bytes. Each byte of the page has 8 bytes before it, and is the first byte of a
/// whole piece.
const PADDING_BEFORE: usize = 8;
const PADDING_AFTER: usize = 32;
/// Size of a cache line in bytes.
const LINE: usize = 64;
/// Number of positions in the buffer. Any 16-bit position is valid, so a position from the hash table needs neither a
/// check nor a remainder, which would delay every match. Only the positions of a page are used.
const POSITIONS: usize = 1 << 16;
/// Size of a piece in bytes: a copy of a fixed size, where the bytes after the needed ones are overwritten later.
pub const PIECE: usize = 32;

/// A page with padding. Comparisons take `STEP` bytes at a time after the first 8 bytes. 16 need fewer unpredictable
/// branches; 8 have a lower latency.
pub struct PaddedPage<const STEP: usize>(Box<[u8; PADDING_BEFORE + POSITIONS + PADDING_AFTER]>);

impl<const STEP: usize> PaddedPage<STEP> {
    /// A page of zeros.
    pub fn new() -> Self {
        Self(Box::new([0; PADDING_BEFORE + POSITIONS + PADDING_AFTER]))
    }

    /// Copies `page`. Prefetches the memory after it, which is usually the page to compress next.
    pub fn set(&mut self, page: &[u8; PAGE_SIZE]) {
        let lines = self.0[PADDING_BEFORE..][..PAGE_SIZE].as_chunks_mut::<LINE>().0;
        for (to, from) in lines.iter_mut().zip(page.as_chunks().0) {
            prefetch::to_l2::<PAGE_SIZE>(from.as_ptr());
            *to = *from;
        }
    }

    /// The bytes of the page.
    pub fn bytes(&self) -> &[u8] {
        &self.0[PADDING_BEFORE..][..PAGE_SIZE]
    }

    /// The 8 bytes at position `at` of the page, little-endian.
    #[inline(always)]
    pub fn word_at(&self, at: usize) -> u64 {
        // The remainder costs less than a bounds check.
        self.word(PADDING_BEFORE + at % POSITIONS)
    }

    /// The 16 bytes at position `at` of the page, little-endian.
    #[inline(always)]
    fn double_word(&self, at: usize) -> u128 {
        self.0[PADDING_BEFORE + at % POSITIONS..].first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
    }

    /// The piece at position `at` of the page.
    #[inline(always)]
    pub fn piece(&self, at: usize) -> &[u8; PIECE] {
        self.0[PADDING_BEFORE + at % POSITIONS..].first_chunk().unwrap_or(&[0; PIECE])
    }

    /// Length of the match of the bytes at `at` with those at `before`, up to the end of the page. `here` is the 8
    /// bytes at `at`.
    #[inline(always)]
    pub fn match_length(&self, before: usize, at: usize, here: u64) -> usize {
        self.match_length_from(before, at, self.word_at(before) ^ here)
    }

    /// The same length, where `difference` is the exclusive or of the first 8 bytes at both positions.
    #[inline(always)]
    pub fn match_length_from(&self, before: usize, at: usize, difference: u64) -> usize {
        if difference != 0 {
            return equal_bytes(difference.into());
        }
        let mut length = 8;
        while at + length < PAGE_SIZE {
            let (before, at) = (before + length, at + length);
            let difference = if STEP == 16 {
                self.double_word(before) ^ self.double_word(at)
            } else {
                u128::from(self.word_at(before) ^ self.word_at(at))
            };
            if difference != 0 {
                length += equal_bytes(difference);
                break;
            }
            length += STEP;
        }
        // The padding can match too.
        length.min(PAGE_SIZE - at)
    }

    /// Number of equal bytes directly before `before` and `at`, at most 8.
    #[inline(always)]
    pub fn match_length_backward(&self, before: usize, at: usize) -> usize {
        let word_before = |place: usize| self.word(place % POSITIONS);
        // Bytes before the start of the page are padding, and do not count.
        ((word_before(before) ^ word_before(at)).leading_zeros() as usize / 8).min(before)
    }

    /// The 8 bytes at `index` of the padded page, little-endian.
    #[inline(always)]
    fn word(&self, index: usize) -> u64 {
        self.0[index..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// Whether the first `BYTES` bytes of two words are equal. `difference` is their exclusive or.
#[inline(always)]
pub fn starts_equal<const BYTES: u32>(difference: u64) -> bool {
    difference << (64 - 8 * BYTES) == 0
}

/// Number of equal bytes at the start of two words. `difference` is their exclusive or, and not 0.
#[inline(always)]
fn equal_bytes(difference: u128) -> usize {
    (difference.trailing_zeros() / 8) as usize
}

/// A hash table of positions: the last `DEPTH` positions in a page of each string of `BYTES` bytes. It has `SLOTS`
/// slots, a power of two.
pub struct LastSeen<const BYTES: u32, const SLOTS: usize, const DEPTH: usize>(Box<[[u16; DEPTH]; SLOTS]>);

impl<const BYTES: u32, const SLOTS: usize, const DEPTH: usize> LastSeen<BYTES, SLOTS, DEPTH> {
    /// An empty table.
    pub fn new() -> Self {
        Self(Box::new([[0; DEPTH]; SLOTS]))
    }

    /// Removes all positions.
    pub fn clear(&mut self) {
        self.0.fill([0; DEPTH]);
    }

    /// Candidate positions of the first bytes of `here`, the latest position first. The caller must compare the bytes:
    /// other strings share the slot, and an empty slot has position 0.
    #[inline(always)]
    pub fn get(&self, here: u64) -> [u16; DEPTH] {
        self.0[Self::slot(here)]
    }

    /// Returns the candidates like [`get`](Self::get), and adds the position `at` of the bytes.
    #[inline(always)]
    pub fn push(&mut self, here: u64, at: usize) -> [u16; DEPTH] {
        let seen = &mut self.0[Self::slot(here)];
        let before = *seen;
        seen[1..].copy_from_slice(&before[..DEPTH - 1]);
        seen[0] = at as u16;
        before
    }

    /// Whether two positions have the same string. `difference` is the exclusive or of their words.
    #[inline(always)]
    pub fn is_match(difference: u64) -> bool {
        starts_equal::<BYTES>(difference)
    }

    #[inline(always)]
    fn slot(here: u64) -> usize {
        // A hash of 32 bits: 4 bytes need no shift.
        let hash = ((here as u32) << (32 - 8 * BYTES)).wrapping_mul(0x9e37_79b1);
        // The remainder changes nothing, and removes the bounds check.
        (hash >> (32 - SLOTS.trailing_zeros())) as usize % SLOTS
    }
}
