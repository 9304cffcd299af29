//! The words of a bitmap.

use memmap2::{Advice, MmapMut};
use std::ops::{Deref, DerefMut};
use zerocopy::FromBytes;

/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Words that are zero at first, and take no memory until they are touched. Many of them lie in huge pages, where the
/// system has some: it takes the kernel longer to give out 512 pages one by one than a scan to decide about a GiB.
pub(super) enum Words {
    /// Fewer than a huge page has.
    Few(Vec<u64>),
    /// This many, at the start of whole pages of our own.
    Many(MmapMut, usize),
}

impl Words {
    /// `count` words.
    pub fn new(count: usize) -> Self {
        let bytes = count.saturating_mul(size_of::<u64>());
        let huge = bytes / HUGE_PAGE * HUGE_PAGE;
        // Of a length that is a multiple of it, the kernel puts them where huge pages fit.
        let room = if huge > 0 { bytes.checked_next_multiple_of(HUGE_PAGE) } else { None };
        match room.and_then(|room| MmapMut::map_anon(room).ok()) {
            Some(map) => {
                // Where it is not followed, pages are small.
                let _ = map.advise_range(Advice::HugePage, 0, huge);
                Self::Many(map, count)
            }
            None => Self::Few(vec![0; count]),
        }
    }
}

impl Deref for Words {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        match self {
            Self::Few(words) => words,
            Self::Many(map, count) => {
                <[u64]>::ref_from_prefix_with_elems(map, *count).map_or(&[], |(words, _)| words)
            }
        }
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Few(words) => words,
            Self::Many(map, count) => {
                <[u64]>::mut_from_prefix_with_elems(map, *count).map_or(&mut [], |(words, _)| words)
            }
        }
    }
}

impl Clone for Words {
    fn clone(&self) -> Self {
        let mut words = Self::new(self.len());
        words.copy_from_slice(self);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_zero_and_keep_what_is_written() {
        for count in [0, 1, HUGE_PAGE / 8 - 1, HUGE_PAGE / 8, HUGE_PAGE / 8 + 1, HUGE_PAGE] {
            let mut words = Words::new(count);
            assert_eq!(words.len(), count);
            assert!(words.iter().all(|word| *word == 0));
            for (word, value) in words.iter_mut().zip(1..) {
                *word = value;
            }
            let copy = words.clone();
            words.fill(0);
            assert!(copy.iter().copied().eq(1..=count as u64));
        }
    }
}
