//! The bitmap: one bit per page frame, 1 for "dump it".

use crate::addr::{Pfn, PfnRange};
use crate::prefetch;
use crate::scan::runs_of;

/// A bitmap in chunks that need not be contiguous. Bit `i & 63` of word `i >> 6` stands for the `i`-th frame; all
/// chunks but the last have `1 << chunk_shift` frames.
#[derive(Debug)]
pub struct Bitmap<'a, 'c> {
    frames: PfnRange,
    chunk_shift: u32,
    chunks: &'c mut [&'a mut [u64]],
}

/// Chunks that don't add up to the frames they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkMismatch {
    /// The first chunk that is too short or missing.
    pub chunk: usize,
}

impl<'a, 'c> Bitmap<'a, 'c> {
    /// The smallest `chunk_shift`: a chunk of 64 frames is one word.
    pub const MIN_CHUNK_SHIFT: u32 = 6;

    /// The bitmap of `frames`, kept in `chunks`, whose bits stay as they are.
    ///
    /// # Errors
    /// If a chunk is too short, or `chunk_shift` is not from 6 to 63.
    pub fn new(
        frames: PfnRange,
        chunk_shift: u32,
        chunks: &'c mut [&'a mut [u64]],
    ) -> Result<Self, ChunkMismatch> {
        if !(Self::MIN_CHUNK_SHIFT..64).contains(&chunk_shift) {
            return Err(ChunkMismatch { chunk: 0 });
        }
        let needed = frames.len().div_ceil(1 << chunk_shift);
        let mut left = frames.len();
        for chunk in 0..needed {
            let chunk = usize::try_from(chunk).unwrap_or(usize::MAX);
            let words = left.min(1 << chunk_shift).div_ceil(64);
            if chunks.get(chunk).is_none_or(|c| (c.len() as u64) < words) {
                return Err(ChunkMismatch { chunk });
            }
            left = left.saturating_sub(1 << chunk_shift);
        }
        Ok(Self { frames, chunk_shift, chunks })
    }

    /// The frames that have a bit.
    pub fn frames(&self) -> PfnRange {
        self.frames
    }

    /// Sets every bit: keep everything.
    pub fn fill(&mut self) {
        for chunk in self.chunks.iter_mut() {
            chunk.fill(u64::MAX);
        }
    }

    /// Whether `pfn` is to be dumped; frames without a bit are.
    pub fn get(&self, pfn: Pfn) -> bool {
        if !self.frames.contains(pfn) {
            return true;
        }
        let index = pfn.frames_since(self.frames.start);
        let chunk = self.chunks.get((index >> self.chunk_shift) as usize);
        let in_chunk = index & (1_u64 << self.chunk_shift).wrapping_sub(1);
        chunk
            .and_then(|c| c.get((in_chunk >> 6) as usize))
            .is_none_or(|word| word >> (in_chunk & 63) & 1 == 1)
    }

    /// Clears the bits of `range`, as far as it has any, by whole words where it can. Returns how many were set.
    pub fn clear(&mut self, range: PfnRange) -> u64 {
        let range = range.intersection(self.frames);
        let mut index = range.start.frames_since(self.frames.start);
        let mut left = range.len();
        let mut cleared: u64 = 0;
        while left > 0 {
            let in_chunk = index & (1_u64 << self.chunk_shift).wrapping_sub(1);
            let span = left.min((1_u64 << self.chunk_shift).wrapping_sub(in_chunk));
            if let Some(chunk) = self.chunks.get_mut((index >> self.chunk_shift) as usize) {
                cleared = cleared.wrapping_add(clear_in_chunk(chunk, in_chunk, span));
            }
            index = index.wrapping_add(span);
            left = left.wrapping_sub(span);
        }
        cleared
    }

    /// The word of the 64 frames from `first` on, if it has a bit for each of them.
    #[inline]
    pub fn word_mut(&mut self, first: Pfn) -> Option<&mut u64> {
        let index = first.frames_since(self.frames.start);
        // Words behind the last frame have no bits that count.
        if index & 63 != 0 || first < self.frames.start || self.frames.end.frames_since(first) < 64 {
            return None;
        }
        let in_chunk = index & (1_u64 << self.chunk_shift).wrapping_sub(1);
        self.chunks.get_mut((index >> self.chunk_shift) as usize)?.get_mut((in_chunk >> 6) as usize)
    }

    /// Clears the bits of those of the 64 frames from `first` on whose bit of `which` is set. Returns how many were
    /// set.
    #[inline]
    pub fn clear_some(&mut self, first: Pfn, which: u64) -> u64 {
        match self.word_mut(first) {
            Some(word) => clear_bits(word, which),
            None => runs_of(first, which).fold(0, |sum, frames| self.clear(frames).wrapping_add(sum)),
        }
    }
}

/// Clears the bits of `mask`, and returns how many were set.
#[inline]
pub(crate) fn clear_bits(word: &mut u64, mask: u64) -> u64 {
    // Most often all bits are still set: counting them is for the others.
    if *word == u64::MAX && mask == u64::MAX {
        *word = 0;
        return 64;
    }
    let cleared = *word & mask;
    *word &= !mask;
    u64::from(cleared.count_ones())
}

/// Clears `count` bits from `first` on, and returns how many were set.
#[inline]
pub(crate) fn clear_in_chunk(chunk: &mut [u64], first: u64, count: u64) -> u64 {
    let end = first.wrapping_add(count);
    let (first_word, last_word) = (first >> 6, end.wrapping_sub(1) >> 6);
    let Some(words) = chunk.get_mut(first_word as usize..=last_word as usize) else { return 0 };
    let mask = u64::MAX << (first & 63);
    // The bits of the last word up to, not including, `end`.
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

/// Clears all bits of `words`, by cache lines where it can, and returns how many were set.
fn clear_lines(words: &mut [u64]) -> u64 {
    let (lines, rest) = words.as_chunks_mut::<WORDS_OF_LINE>();
    let mut cleared = clear_words(rest, u64::MAX);
    for line in lines {
        prefetch::near::<PREFETCH>(line.as_ptr().cast());
        // Most often all bits are still set: counting them is for the others.
        cleared = cleared.wrapping_add(if line.iter().fold(u64::MAX, |all, word| all & word) == u64::MAX {
            line.fill(0);
            BITS_OF_LINE
        } else {
            clear_words(line, u64::MAX)
        });
    }
    cleared
}

/// Clears the bits of `mask` in each of `words`, and returns how many were set.
#[inline(never)]
fn clear_words(words: &mut [u64], mask: u64) -> u64 {
    words.iter_mut().fold(0, |sum, word| sum.wrapping_add(clear_bits(word, mask)))
}

/// 64-bit words of a cache line, and its bits.
const WORDS_OF_LINE: usize = 8;
const BITS_OF_LINE: u64 = 512;
/// How far ahead of bits that go those behind them are asked for, in bytes. A free section of memory has 4096.
const PREFETCH: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn chunks_must_be_large_enough() {
        let frames = PfnRange::from_start(Pfn::new(0), 130);
        let (mut a, mut b, mut c) = ([0; 1], [0; 1], [0; 1]);
        assert!(Bitmap::new(frames, 6, &mut [&mut a, &mut b, &mut c]).is_ok());
        let short = Bitmap::new(frames, 6, &mut [&mut a, &mut b]).err();
        assert_eq!(short, Some(ChunkMismatch { chunk: 2 }));
        assert!(Bitmap::new(frames, 5, &mut [&mut a]).is_err());
        assert!(Bitmap::new(frames, 64, &mut [&mut a]).is_err());
    }

    #[test]
    fn frames_without_a_bit_are_kept() {
        let mut words = [0; 2];
        let mut chunks = [&mut words[..]];
        let bitmap = Bitmap::new(PfnRange::from_start(Pfn::new(64), 100), 7, &mut chunks).unwrap();
        assert!(bitmap.get(Pfn::new(63)) && bitmap.get(Pfn::new(164)));
        assert!(!bitmap.get(Pfn::new(64)) && !bitmap.get(Pfn::new(163)));
    }

    proptest! {
        #[test]
        fn clearing_agrees_with_a_plain_set(
            shift in 6_u32..9,
            start in 0_u64..200,
            len in 1_u64..700,
            clears in prop::collection::vec((0_u64..1000, 0_u64..600), 0..12),
        ) {
            let frames = PfnRange::from_start(Pfn::new(start), len);
            let mut words: Vec<Vec<u64>> = (0..len.div_ceil(1 << shift)).map(|_| std::vec![0; 1 << (shift - 6)]).collect();
            let mut chunks: Vec<&mut [u64]> = words.iter_mut().map(|w| &mut w[..]).collect();
            let mut bitmap = Bitmap::new(frames, shift, &mut chunks).unwrap();
            bitmap.fill();
            let mut plain = std::vec![true; len as usize];
            for (from, count) in clears {
                let cleared = bitmap.clear(PfnRange::from_start(Pfn::new(from), count));
                let mut expected = 0;
                for pfn in from.max(start)..(from + count).min(start + len) {
                    expected += u64::from(std::mem::replace(&mut plain[(pfn - start) as usize], false));
                }
                prop_assert_eq!(cleared, expected);
            }
            for (i, keep) in plain.iter().enumerate() {
                prop_assert_eq!(bitmap.get(Pfn::new(start + i as u64)), *keep);
            }
        }
    }
}
