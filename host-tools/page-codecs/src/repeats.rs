//! What the encoders of this crate share: looking for bytes of a page that its beginning has already.
//!
//! A page is small: positions fit 16 bits, the table of them fits the first cache, and clearing it for each page costs
//! next to nothing. Most of the time goes to branches that nobody can foretell, so there are few of them.

use crate::page::PAGE_SIZE;
use crate::prefetch;

/// Bytes in front of a page and behind it, so that there are eight in front of each of its bytes, and a piece at it.
const IN_FRONT: usize = 8;
const BEHIND: usize = 32;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Any position of 16 bits has bytes, though only those of a page are ever looked at: one that comes out of a table needs
/// neither a check nor a remainder, on a way that every match waits for.
const POSITIONS: usize = 1 << 16;
/// Bytes that are copied in one go where it does no harm to copy too many.
pub const PIECE: usize = 32;

/// A page with room behind it. Behind the first eight, `STEP` bytes are compared in one go: sixteen take fewer branches
/// that can't be foretold, eight are done sooner.
pub struct PaddedPage<const STEP: usize>(Box<[u8; IN_FRONT + POSITIONS + BEHIND]>);

impl<const STEP: usize> PaddedPage<STEP> {
    /// A page of zeros.
    pub fn new() -> Self {
        Self(Box::new([0; IN_FRONT + POSITIONS + BEHIND]))
    }

    /// Makes it a copy of `page`. Most often the page behind it is next: it is asked for meanwhile.
    pub fn set(&mut self, page: &[u8; PAGE_SIZE]) {
        let lines = self.0[IN_FRONT..][..PAGE_SIZE].as_chunks_mut::<LINE>().0;
        for (to, from) in lines.iter_mut().zip(page.as_chunks().0) {
            prefetch::to_l2::<PAGE_SIZE>(from.as_ptr());
            *to = *from;
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0[IN_FRONT..][..PAGE_SIZE]
    }

    /// The eight bytes at `at`, which lies in the page; the first is the lowest.
    #[inline(always)]
    pub fn eight(&self, at: usize) -> u64 {
        // The remainder costs less than a check.
        self.word(IN_FRONT + at % POSITIONS)
    }

    /// The sixteen bytes at `at`, which lies in the page.
    #[inline(always)]
    fn sixteen(&self, at: usize) -> u128 {
        self.0[IN_FRONT + at % POSITIONS..].first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
    }

    /// The bytes at `at`, which lies in the page.
    #[inline(always)]
    pub fn piece(&self, at: usize) -> &[u8; PIECE] {
        self.0[IN_FRONT + at % POSITIONS..].first_chunk().unwrap_or(&[0; PIECE])
    }

    /// How many bytes from `before` on are the same as those from `at` on, up to the page's end; `here` are the eight
    /// bytes at `at`.
    #[inline(always)]
    pub fn common(&self, before: usize, at: usize, here: u64) -> usize {
        self.common_behind(before, at, self.eight(before) ^ here)
    }

    /// The same, if the first eight bytes differ by `difference`.
    #[inline(always)]
    pub fn common_behind(&self, before: usize, at: usize, difference: u64) -> usize {
        if difference != 0 {
            return same_bytes(difference.into());
        }
        let mut length = 8;
        while at + length < PAGE_SIZE {
            let (before, at) = (before + length, at + length);
            let difference = if STEP == 16 {
                self.sixteen(before) ^ self.sixteen(at)
            } else {
                u128::from(self.eight(before) ^ self.eight(at))
            };
            if difference != 0 {
                length += same_bytes(difference);
                break;
            }
            length += STEP;
        }
        // The padding may go on like the page.
        length.min(PAGE_SIZE - at)
    }

    /// How many bytes in front of `before` are the same as those in front of `at`, up to eight.
    #[inline(always)]
    pub fn common_in_front(&self, before: usize, at: usize) -> usize {
        let in_front = |place: usize| self.word(place % POSITIONS);
        // What is in front of the page's first byte does not count.
        ((in_front(before) ^ in_front(at)).leading_zeros() as usize / 8).min(before)
    }

    /// The eight bytes at `index` of the page with what is around it.
    #[inline(always)]
    fn word(&self, index: usize) -> u64 {
        self.0[index..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// Whether the first `BYTES` bytes are the same in two words whose bits differ in `difference`.
#[inline(always)]
pub fn are_same<const BYTES: u32>(difference: u64) -> bool {
    difference << (64 - 8 * BYTES) == 0
}

/// How many of the first bytes are the same in two words whose bits differ in `difference`.
#[inline(always)]
fn same_bytes(difference: u128) -> usize {
    (difference.trailing_zeros() / 8) as usize
}

/// Where in a page each sequence of `BYTES` bytes was seen the last `DEPTH` times, in `SLOTS` (a power of two) slots by
/// their hash.
pub struct LastSeen<const BYTES: u32, const SLOTS: usize, const DEPTH: usize>(Box<[[u16; DEPTH]; SLOTS]>);

impl<const BYTES: u32, const SLOTS: usize, const DEPTH: usize> LastSeen<BYTES, SLOTS, DEPTH> {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self(Box::new([[0; DEPTH]; SLOTS]))
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.fill([0; DEPTH]);
    }

    /// Where the bytes that `here` begins with may have been seen, the last place first: the bytes there have to be
    /// compared. The page's first position, if they were not seen.
    #[inline(always)]
    pub fn get(&self, here: u64) -> [u16; DEPTH] {
        self.0[Self::slot(here)]
    }

    /// The same, and that they are at `at` now.
    #[inline(always)]
    pub fn push(&mut self, here: u64, at: usize) -> [u16; DEPTH] {
        let seen = &mut self.0[Self::slot(here)];
        let before = *seen;
        seen[1..].copy_from_slice(&before[..DEPTH - 1]);
        seen[0] = at as u16;
        before
    }

    /// Whether two places whose words differ by `difference` have the same sequence.
    #[inline(always)]
    pub fn is_match(difference: u64) -> bool {
        are_same::<BYTES>(difference)
    }

    #[inline(always)]
    fn slot(here: u64) -> usize {
        // Half a word: four bytes need no shift.
        let hash = ((here as u32) << (32 - 8 * BYTES)).wrapping_mul(0x9e37_79b1);
        // The remainder only saves a check.
        (hash >> (32 - SLOTS.trailing_zeros())) as usize % SLOTS
    }
}
