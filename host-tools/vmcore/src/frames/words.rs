//! The words of a bitmap.

use memmap2::{Advice, MmapMut};
use std::ops::{Deref, DerefMut};
use zerocopy::FromBytes;

/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Words that are zero initially and take no memory until they are written.
///
/// A large bitmap uses huge pages where the system has them: the page faults of 512 small pages take longer than a scan
/// of 1 GiB of memory.
pub(super) enum Words {
    /// Words that need less than a huge page.
    Heap(Vec<u64>),
    /// An anonymous mapping, and the number of words at its start.
    Mapped(MmapMut, usize),
}

impl Words {
    /// `count` words, all zero.
    pub fn new(count: usize) -> Self {
        let bytes = count.saturating_mul(size_of::<u64>());
        let huge = bytes / HUGE_PAGE * HUGE_PAGE;
        // The kernel aligns a mapping for huge pages if its length is a multiple of the huge page size.
        let length = if huge > 0 { bytes.checked_next_multiple_of(HUGE_PAGE) } else { None };
        match length.and_then(|length| MmapMut::map_anon(length).ok()) {
            Some(map) => {
                // If the kernel rejects the advice, the pages are small, and the words are still correct.
                let _ = map.advise_range(Advice::HugePage, 0, huge);
                Self::Mapped(map, count)
            }
            None => Self::Heap(vec![0; count]),
        }
    }
}

impl Deref for Words {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        match self {
            Self::Heap(words) => words,
            Self::Mapped(map, count) => {
                <[u64]>::ref_from_prefix_with_elems(map, *count).map_or(&[], |(words, _)| words)
            }
        }
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Heap(words) => words,
            Self::Mapped(map, count) => {
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
    fn words_are_zero_initially_and_keep_written_values() {
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
