//! The bitmap: one bit per page frame. 1 means "dump the page".

use crate::addr::{Pfn, PfnRange};
use crate::arch::prefetch;
use core::fmt;

/// A bitmap in chunks of memory that need not be contiguous. In each chunk, bit `i & 63` of word `i >> 6` is the bit of
/// the chunk's `i`-th frame.
pub trait BitmapChunks {
    /// The frames of the bitmap.
    fn frames(&self) -> PfnRange;

    /// Whether there is no bitmap, so that frames are only counted.
    fn counts_only(&self) -> bool {
        false
    }

    /// The chunk that contains the bit of `pfn`: its frames and its words. `None` if no chunk contains the bit.
    fn chunk_mut(&mut self, pfn: Pfn) -> Option<(PfnRange, &mut [u64])>;
}

/// A bitmap in contiguous memory. Bit `i & 63` of word `i >> 6` is the bit of the `i`-th frame.
#[derive(Debug)]
pub struct Bitmap<'a> {
    frames: PfnRange,
    words: &'a mut [u64],
}

/// A buffer that is too small for the frames of a bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFewWords {
    /// The number of 64-bit words that the bitmap needs.
    pub needed: u64,
}

impl fmt::Display for TooFewWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the bitmap needs {} words of 64 bits", self.needed)
    }
}

impl core::error::Error for TooFewWords {}

impl<'a> Bitmap<'a> {
    /// A bitmap of `frames` in `words`. Does not change the bits.
    ///
    /// # Errors
    /// Fails if `words` has fewer bits than there are frames.
    pub fn new(frames: PfnRange, words: &'a mut [u64]) -> Result<Self, TooFewWords> {
        let needed = frames.len().div_ceil(64);
        if (words.len() as u64) < needed { Err(TooFewWords { needed }) } else { Ok(Self { frames, words }) }
    }

    /// The frames of the bitmap.
    pub fn frames(&self) -> PfnRange {
        self.frames
    }

    /// Sets every bit: all pages are kept.
    pub fn fill(&mut self) {
        self.words.fill(u64::MAX);
    }

    /// Whether page `pfn` is kept. Frames outside the bitmap count as kept.
    pub fn get(&self, pfn: Pfn) -> bool {
        let index = pfn.frames_since(self.frames.start);
        !self.frames.contains(pfn)
            || self.words.get((index >> 6) as usize).is_none_or(|word| word >> (index & 63) & 1 == 1)
    }

    /// Clears the bits of `range`. Frames outside the bitmap are ignored. Returns the number of bits that were set.
    pub fn clear(&mut self, range: PfnRange) -> u64 {
        let range = range.intersection(self.frames);
        if range.is_empty() {
            0
        } else {
            clear_in_chunk(self.words, range.start.frames_since(self.frames.start), range.len())
        }
    }

    /// The word of the 64 frames from `first` on; `None` unless one word holds the bits of all of them.
    #[inline]
    pub fn word_mut(&mut self, first: Pfn) -> Option<&mut u64> {
        let index = first.frames_since(self.frames.start);
        // The bits after the last frame have no meaning.
        if index & 63 != 0 || first < self.frames.start || self.frames.end.frames_since(first) < 64 {
            return None;
        }
        self.words.get_mut((index >> 6) as usize)
    }

    /// Clears the bits of the frames in `mask`; bit `i` of `mask` stands for frame `first + i`. Returns the number of
    /// bits that were set.
    #[inline]
    pub fn clear_masked(&mut self, first: Pfn, mask: u64) -> u64 {
        match self.word_mut(first) {
            Some(word) => clear_bits(word, mask),
            None => runs_of(first, mask).fold(0, |sum, frames| self.clear(frames).wrapping_add(sum)),
        }
    }
}

/// The runs of adjacent frames in `mask`, as ranges; bit `i` stands for frame `first + i`.
pub fn runs_of(first: Pfn, mask: u64) -> impl Iterator<Item = PfnRange> {
    let (mut at, mut left) = (first, mask);
    core::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let gap = left.trailing_zeros();
        let start = at.saturating_add(gap.into());
        let len = (left >> gap).trailing_ones();
        left = (left >> gap).checked_shr(len).unwrap_or(0);
        at = start.saturating_add(len.into());
        Some(PfnRange::new(start, at))
    })
}

impl BitmapChunks for Bitmap<'_> {
    fn frames(&self) -> PfnRange {
        self.frames
    }

    fn chunk_mut(&mut self, pfn: Pfn) -> Option<(PfnRange, &mut [u64])> {
        self.frames.contains(pfn).then_some((self.frames, &mut *self.words))
    }
}

/// Clears the bits of `mask` in `word`. Returns the number of bits that were set.
#[inline]
pub(crate) fn clear_bits(word: &mut u64, mask: u64) -> u64 {
    // The common case: all 64 bits are set, so they need not be counted.
    if *word == u64::MAX && mask == u64::MAX {
        *word = 0;
        return 64;
    }
    let cleared = *word & mask;
    *word &= !mask;
    u64::from(cleared.count_ones())
}

/// Clears `count` bits from bit `first` on. Returns the number of bits that were set.
#[inline]
pub(crate) fn clear_in_chunk(chunk: &mut [u64], first: u64, count: u64) -> u64 {
    let end = first.wrapping_add(count);
    let (first_word, last_word) = (first >> 6, end.wrapping_sub(1) >> 6);
    let Some(words) = chunk.get_mut(first_word as usize..=last_word as usize) else { return 0 };
    let mask = u64::MAX << (first & 63);
    // The bits of the last word that are before `end`.
    let last_mask = u64::MAX >> (end.wrapping_neg() & 63);
    match words {
        [] => 0,
        [word] => clear_words(core::slice::from_mut(word), mask & last_mask),
        [first, between @ .., last] => {
            let ends = [
                clear_words(core::slice::from_mut(first), mask),
                clear_words(core::slice::from_mut(last), last_mask),
            ];
            ends.into_iter().fold(clear_lines(between), u64::wrapping_add)
        }
    }
}

/// Clears all bits of `words`, one cache line at a time. Returns the number of bits that were set.
fn clear_lines(words: &mut [u64]) -> u64 {
    let (lines, rest) = words.as_chunks_mut::<WORDS_OF_LINE>();
    let mut cleared = clear_words(rest, u64::MAX);
    for line in lines {
        prefetch::to_l1::<PREFETCH>(line.as_ptr().cast());
        // The common case: all bits of the line are set, so they need not be counted.
        cleared = cleared.wrapping_add(if line.iter().fold(u64::MAX, |all, word| all & word) == u64::MAX {
            line.fill(0);
            BITS_OF_LINE
        } else {
            clear_words(line, u64::MAX)
        });
    }
    cleared
}

/// Clears the bits of `mask` in each of `words`. Returns the number of bits that were set.
#[inline(never)]
fn clear_words(words: &mut [u64], mask: u64) -> u64 {
    words.iter_mut().fold(0, |sum, word| sum.wrapping_add(clear_bits(word, mask)))
}

/// 64-bit words in a cache line.
const WORDS_OF_LINE: usize = 8;
/// Bits in a cache line.
const BITS_OF_LINE: u64 = 512;
/// Prefetch distance into L1, in bytes: the bitmap of one memory section of 128 MiB.
const PREFETCH: usize = 4096;

#[cfg(test)]
#[path = "bitmap_tests.rs"]
mod tests;
