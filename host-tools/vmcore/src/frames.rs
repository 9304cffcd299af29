//! Sets of page frames on the host: as sorted ranges, and as a flat bitmap.

mod words;

use self::words::Words;
use crate::{Error, Result};
use scanner_core::arch::prefetch;
use scanner_core::{Pfn, PfnRange};
use std::fmt;

/// 64-bit words of a cache line.
const WORDS_OF_LINE: usize = 8;
/// How far ahead lines of two bitmaps are asked for, in bytes: what the processor guesses by itself is too late when one
/// of two streams is written.
const PREFETCH: usize = 2048;

/// A set of page frames as sorted, disjoint, non-adjacent, non-empty ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameRanges(Vec<PfnRange>);

impl FrameRanges {
    /// The union of `ranges`, which may overlap and come in any order.
    pub fn from_ranges(ranges: impl IntoIterator<Item = PfnRange>) -> Self {
        let mut sorted: Vec<PfnRange> = ranges.into_iter().filter(|r| !r.is_empty()).collect();
        sorted.sort_by_key(|r| r.start);
        let mut merged: Vec<PfnRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    /// The ranges, ascending.
    pub fn as_slice(&self) -> &[PfnRange] {
        &self.0
    }

    /// How many frames the set has.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|r| r.len()).sum()
    }

    /// The first frame behind the last one of the set; 0 if it is empty.
    pub fn end(&self) -> Pfn {
        self.0.last().map_or(Pfn::new(0), |r| r.end)
    }

    /// Whether `pfn` is in the set.
    pub fn contains(&self, pfn: Pfn) -> bool {
        let after = self.0.partition_point(|r| r.start <= pfn);
        after > 0 && self.0[after - 1].contains(pfn)
    }

    /// The frames of the set that lie in `window`, as ranges.
    pub fn within(&self, window: PfnRange) -> impl Iterator<Item = PfnRange> + '_ {
        let first = self.0.partition_point(|r| r.end <= window.start);
        self.0[first..].iter().take_while(move |r| r.start < window.end).map(move |r| r.intersection(window))
    }

    /// The frames of this set that are not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut rest = Vec::new();
        for range in &self.0 {
            let mut start = range.start;
            for hole in other.within(*range) {
                rest.push(PfnRange::new(start, hole.start));
                start = hole.end;
            }
            rest.push(PfnRange::new(start, range.end));
        }
        Self::from_ranges(rest)
    }
}

/// Bits of frames `0..frames`, least significant bit first: bit `pfn & 63` of word `pfn >> 6`. On a little-endian
/// machine the words' bytes are the bitmap of the kdump-compressed format and of `crash_dump_bitmap_info`.
#[derive(Clone)]
pub struct FrameBitmap {
    words: Words,
    frames: u64,
}

impl FrameBitmap {
    /// A bitmap of `frames` bits, all clear.
    pub fn new(frames: u64) -> Self {
        Self { words: Words::new(frames.div_ceil(64) as usize), frames }
    }

    /// A bitmap of `frames` bits, all set.
    pub fn ones(frames: u64) -> Self {
        Self::made_by(frames, |words| words.fill(u64::MAX))
    }

    /// A bitmap of `frames` bits that `make` decides about: each word of it, before it is read. So it is `make` that
    /// touches the memory first, by several threads perhaps.
    pub fn made_by(frames: u64, make: impl FnOnce(&mut [u64])) -> Self {
        let mut bitmap = Self::new(frames);
        make(&mut bitmap.words);
        bitmap.clear_tail();
        bitmap
    }

    /// Makes sure that there is memory for `count` bitmaps of `frames` bits, which a damaged image can make as large
    /// as it likes. Nothing is kept of what is asked for.
    ///
    /// # Errors
    /// If there is not enough.
    pub fn require_room(frames: u64, count: u64) -> Result<()> {
        let words = usize::try_from(frames.div_ceil(64).saturating_mul(count)).unwrap_or(usize::MAX);
        Vec::<u64>::new().try_reserve_exact(words).map_err(|_| {
            Error::failure(format!(
                "a bitmap of {frames:#x} frames takes {} MiB, and there is not enough memory for {count} of them",
                frames.div_ceil(8) >> 20
            ))
            .with_hint("If the file is what it should be, free some memory. To filter a vmcore, dump needs much less than scan.")
        })
    }

    /// A bitmap from the bytes of a file; bits that `bytes` doesn't have are clear, those at or behind
    /// `frames` are dropped.
    pub fn from_bytes(bytes: &[u8], frames: u64) -> Self {
        let mut bitmap = Self::new(frames);
        for (word, chunk) in bitmap.words.iter_mut().zip(bytes.chunks(8)) {
            let mut raw = [0; 8];
            raw[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(raw);
        }
        bitmap.clear_tail();
        bitmap
    }

    /// A bitmap with the bits of `ranges` set.
    pub fn from_ranges(ranges: &FrameRanges, frames: u64) -> Self {
        let mut bitmap = Self::new(frames);
        for range in ranges.within(PfnRange::new(Pfn::new(0), Pfn::new(frames))) {
            bitmap.set_range(range);
        }
        bitmap
    }

    /// How many frames the bitmap covers.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The words; bits behind the last frame are clear.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The words, to be changed. Bits behind the last frame must stay clear.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// The bit of `pfn`; clear behind the end.
    pub fn get(&self, pfn: Pfn) -> bool {
        let pfn = pfn.as_u64();
        pfn < self.frames && self.words[(pfn >> 6) as usize] >> (pfn & 63) & 1 == 1
    }

    /// Sets the bits of `range`, as far as the bitmap goes.
    pub fn set_range(&mut self, range: PfnRange) {
        self.each_mask(range, |word, mask| *word |= mask);
    }

    /// Clears the bits of `range`, as far as the bitmap goes.
    pub fn clear_range(&mut self, range: PfnRange) {
        self.each_mask(range, |word, mask| *word &= !mask);
    }

    /// How many bits are set.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    /// Keeps only the bits that `other` has too.
    pub fn intersect(&mut self, other: &Self) {
        self.intersect_words(&other.words);
    }

    /// [`intersect`](Self::intersect) with the bits of `words`, which starts with those of the first frames.
    pub fn intersect_words(&mut self, words: &[u64]) {
        let shared = words.len().min(self.words.len());
        let (both, rest) = self.words.split_at_mut(shared);
        let (lines, last) = both.as_chunks_mut::<WORDS_OF_LINE>();
        let (other_lines, other_last) = words[..shared].as_chunks::<WORDS_OF_LINE>();
        intersect_lines(lines, other_lines);
        last.iter_mut().zip(other_last).for_each(|(word, other)| *word &= other);
        rest.fill(0);
    }

    /// The bytes as they stand in a file: `frames / 8`, rounded up.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.truncate(self.frames.div_ceil(8) as usize);
        bytes
    }

    /// The frames whose bit is set, as ranges.
    pub fn to_ranges(&self) -> FrameRanges {
        let mut ranges = Vec::new();
        let mut pfn = 0;
        while let Some(start) = self.next_with(pfn, true) {
            let end = self.next_with(start, false).unwrap_or(self.frames);
            ranges.push(PfnRange::new(Pfn::new(start), Pfn::new(end)));
            pfn = end;
        }
        FrameRanges(ranges)
    }

    /// The first frame from `pfn` on whose bit is `set`.
    fn next_with(&self, pfn: u64, set: bool) -> Option<u64> {
        let mut index = (pfn >> 6) as usize;
        let mut mask = u64::MAX << (pfn & 63);
        while pfn < self.frames && index < self.words.len() {
            let word = if set { self.words[index] } else { !self.words[index] } & mask;
            if word != 0 {
                let found = (index as u64) << 6 | u64::from(word.trailing_zeros());
                return (found < self.frames).then_some(found);
            }
            mask = u64::MAX;
            index += 1;
        }
        None
    }

    fn each_mask(&mut self, range: PfnRange, mut change: impl FnMut(&mut u64, u64)) {
        let range = range.intersection(PfnRange::new(Pfn::new(0), Pfn::new(self.frames)));
        if range.is_empty() {
            return;
        }
        let (start, last) = (range.start.as_u64(), range.end.as_u64() - 1);
        let (from_start, to_last) = (u64::MAX << (start & 63), u64::MAX >> (63 - (last & 63)));
        match &mut self.words[(start >> 6) as usize..=(last >> 6) as usize] {
            [word] => change(word, from_start & to_last),
            [first, whole @ .., last] => {
                change(first, from_start);
                whole.iter_mut().for_each(|word| change(word, u64::MAX));
                change(last, to_last);
            }
            [] => {}
        }
    }

    fn clear_tail(&mut self) {
        let tail = self.frames & 63;
        if tail != 0
            && let Some(last) = self.words.last_mut()
        {
            *last &= u64::MAX >> (64 - tail);
        }
    }
}

/// Keeps only the bits that `others` have too. By itself, so that the compiler sees that the two are apart, and takes
/// several words at once.
#[inline(never)]
fn intersect_lines(lines: &mut [[u64; WORDS_OF_LINE]], others: &[[u64; WORDS_OF_LINE]]) {
    for (line, other) in lines.iter_mut().zip(others) {
        prefetch::to_l1::<PREFETCH>(line.as_ptr().cast());
        prefetch::to_l1::<PREFETCH>(other.as_ptr().cast());
        line.iter_mut().zip(other).for_each(|(word, other)| *word &= other);
    }
}

impl PartialEq for FrameBitmap {
    fn eq(&self, other: &Self) -> bool {
        self.frames == other.frames && *self.words == *other.words
    }
}

impl Eq for FrameBitmap {}

impl fmt::Debug for FrameBitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameBitmap of {} frames, {} set", self.frames, self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PfnRange {
        PfnRange::new(Pfn::new(start), Pfn::new(end))
    }

    #[test]
    fn ranges_are_merged_and_subtracted() {
        let set =
            FrameRanges::from_ranges([range(10, 20), range(0, 5), range(15, 30), range(30, 31), range(7, 7)]);
        assert_eq!(set.as_slice(), [range(0, 5), range(10, 31)]);
        assert_eq!(set.count(), 26);
        assert!(set.contains(Pfn::new(30)) && !set.contains(Pfn::new(31)) && !set.contains(Pfn::new(5)));
        let rest = set.minus(&FrameRanges::from_ranges([range(3, 12), range(20, 21), range(40, 50)]));
        assert_eq!(rest.as_slice(), [range(0, 3), range(12, 20), range(21, 31)]);
    }

    #[test]
    fn what_both_have_is_kept_and_what_one_lacks_goes() {
        for (frames, others) in [(64, 64), (1000, 1000), (1024, 1024), (5000, 700), (700, 5000)] {
            let even = |n: u64| FrameRanges::from_ranges((0..n / 2).map(|i| range(2 * i, 2 * i + 1)));
            let mut one = FrameBitmap::from_ranges(&even(frames), frames);
            let other = FrameBitmap::from_ranges(&FrameRanges::from_ranges([range(3, others - 5)]), others);
            one.intersect(&other);
            let expected = |pfn: u64| pfn.is_multiple_of(2) && (3..others - 5).contains(&pfn);
            assert!((0..frames).all(|pfn| one.get(Pfn::new(pfn)) == expected(pfn)));
            assert_eq!(one.count(), (0..frames).filter(|pfn| expected(*pfn)).count() as u64);
        }
    }

    #[test]
    fn a_bitmap_and_its_ranges_are_the_same_set() {
        let set = FrameRanges::from_ranges([range(0, 1), range(63, 65), range(100, 200)]);
        let bitmap = FrameBitmap::from_ranges(&set, 130);
        assert_eq!(bitmap.to_ranges().as_slice(), [range(0, 1), range(63, 65), range(100, 130)]);
        assert_eq!(FrameBitmap::from_bytes(&bitmap.to_bytes(), 130), bitmap);
        assert_eq!(bitmap.count(), 33);
    }
}
