//! A Zstandard encoder for pages.
//!
//! The library is made for files: of the time that it takes for a page most goes to setting up. This encoder does the
//! same work, one block with a Huffman code for the literals and tables of its own for the sequences, on tables as
//! small as a page. It takes matches from four bytes on, and from three on with the last offset, where the library's level
//! 1, which makedumpfile uses, takes five and four, and so gets a little smaller. The format is that of RFC 8878.

mod literals;
mod sequences;

use crate::page::{PAGE_SIZE, ROOM};
use crate::repeats::{LastSeen, are_same};
use literals::{Literals, Page};
use sequences::Sequences;

/// Bytes that have to be equal to count as a match.
const MIN_MATCH: u32 = 4;

/// Bytes that have to be equal at the last offset, which takes next to no bits.
const MIN_REPEAT: u32 = 3;

/// The last bytes of a page are not looked at.
const END_OF_SEARCH: usize = PAGE_SIZE - 9;

/// What a frame of one page begins with: the magic number, and that its size follows, in two bytes that count from 256.
const FRAME_HEADER: [u8; 7] = [0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x0f];
/// Bytes in front of a block: that it is the last one, its kind, its size.
const BLOCK_HEADER: usize = 3;
const LAST_COMPRESSED_BLOCK: u32 = 1 | 2 << 1;

type Seen = LastSeen<MIN_MATCH, 0x1000, 1>;

/// Compresses pages.
pub struct Encoder {
    page: Page,
    seen: Seen,
    literals: Literals,
    sequences: Sequences,
}

impl Encoder {
    /// An encoder.
    pub fn new() -> Self {
        Self {
            page: Page::new(),
            seen: LastSeen::new(),
            literals: Literals::new(),
            sequences: Sequences::new(),
        }
    }

    /// Compresses `page` to a frame at the start of `out`. Returns its length; `None` if the page does not get smaller.
    pub fn compress(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8; ROOM]) -> Option<usize> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("lzcnt")
        {
            // SAFETY: All that the function demands is a processor with these instructions, and this is one.
            return unsafe { self.compress_by_bits(page, out) };
        }
        self.compress_plain(page, out)
    }

    /// The same code, made for processors that shift and count bits without detours.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "bmi1,bmi2,lzcnt")]
    fn compress_by_bits(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8; ROOM]) -> Option<usize> {
        self.compress_plain(page, out)
    }

    /// The code for any processor; what takes the time is inlined here.
    #[inline(always)]
    fn compress_plain(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8; ROOM]) -> Option<usize> {
        self.page.set(page);
        self.find_sequences();
        out[..FRAME_HEADER.len()].copy_from_slice(&FRAME_HEADER);
        let block = FRAME_HEADER.len() + BLOCK_HEADER;
        let end = self.literals.write(out, block);
        if end >= PAGE_SIZE {
            return None;
        }
        let end = self.sequences.write(out, end);
        if end >= PAGE_SIZE {
            return None;
        }
        let header = LAST_COMPRESSED_BLOCK | ((end - block) as u32) << 3;
        out[block - BLOCK_HEADER..block].copy_from_slice(&header.to_le_bytes()[..BLOCK_HEADER]);
        Some(end)
    }

    /// Takes the page apart.
    #[inline(always)]
    fn find_sequences(&mut self) {
        let Self { page, seen, literals, sequences } = self;
        seen.clear();
        literals.clear();
        sequences.clear();
        // Literals are pending from `start` on. The page's first bytes count as seen.
        let (mut start, mut at) = (0, 1);
        while at < END_OF_SEARCH {
            // With the last offset, a match takes the fewest bits: it comes first, and one or two bytes on will do.
            // Where there is a match can't be foretold: each look is a branch to get wrong.
            let (here, next) = (page.eight(at), page.eight(at + 1));
            let before = usize::from(seen.push(here, at)[0]);
            let again = at.saturating_sub(sequences.last_offset());
            let by = page.eight(again) ^ here;
            let (here_at, before, length) = if are_same::<MIN_REPEAT>(by >> 8) {
                (at + 1, again + 1, page.common(again + 1, at + 1, next))
            } else if are_same::<MIN_REPEAT>(by >> 16) {
                (at + 2, again + 2, page.common(again + 2, at + 2, page.eight(at + 2)))
            } else if Seen::is_match(page.eight(before) ^ here) {
                (at, before, page.common(before, at, here))
            } else {
                let before = usize::from(seen.push(next, at + 1)[0]);
                if !Seen::is_match(page.eight(before) ^ next) {
                    // The longer nothing was found, the larger the steps: noise is passed over quickly.
                    at += 2 + ((at - start) >> 4);
                    continue;
                }
                (at + 1, before, page.common(before, at + 1, next))
            };
            at = here_at + length;
            // What comes next does not wait for how far the match goes back.
            let in_front = page.common_in_front(before, here_at).min(here_at - start);
            literals.add(page, start, here_at - in_front);
            sequences.add(here_at - in_front - start, length + in_front, here_at - before);
            seen.push(page.eight(at - 1), at - 1);
            // Objects side by side: what belongs to the object is near, the rest is in the one before. Their offsets take
            // turns, and right behind a match the second last one takes the fewest bits.
            while at < END_OF_SEARCH {
                let here = page.eight(at);
                let again = at.saturating_sub(sequences.second_last_offset());
                let by = page.eight(again) ^ here;
                if !Seen::is_match(by) {
                    break;
                }
                seen.push(here, at);
                let length = page.common_behind(again, at, by);
                sequences.add(0, length, at - again);
                at += length;
            }
            start = at;
        }
        literals.add(page, start, PAGE_SIZE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the library makes of `page`'s frame, if it gets smaller.
    fn there_and_back(encoder: &mut Encoder, page: &[u8; PAGE_SIZE]) -> Option<Vec<u8>> {
        let mut out = [0xaa; ROOM];
        let len = encoder.compress(page, &mut out)?;
        Some(::zstd::bulk::decompress(&out[..len], PAGE_SIZE).expect("a whole frame"))
    }

    fn noise() -> impl FnMut() -> u8 {
        let mut state = 1u64;
        move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        }
    }

    fn page(byte: impl FnMut(usize) -> u8) -> [u8; PAGE_SIZE] {
        std::array::from_fn(byte)
    }

    #[test]
    fn every_kind_of_block_is_read_by_the_library() {
        let mut noise = noise();
        let mut encoder = Encoder::new();
        let pages = [
            // Without literals or nearly so; a repeated literal; literals as they are; one stream; four streams.
            page(|_| 7),
            page(|i| if i % 100 < 96 { 0 } else { 9 }),
            page(|i| if i < 20 { noise() } else { 0 }),
            page(|i| if i < 900 { noise() & 0x4f } else { 0 }),
            page(|i| if i < 3000 { noise() & 0x1f } else { 0 }),
            // Many sequences; few; one with a long match and many literals; long literals between matches.
            page(|i| (i * i / 8) as u8),
            page(|i| (i / 300) as u8),
            page(|i| if i < 2000 { noise() } else { 1 }),
            page(|i| if i % 512 < 480 { noise() & 0x3f } else { (i % 512) as u8 }),
            // A code whose lengths the format has no room for, hardly smaller, and one that needs the longest codes.
            page(|_| noise().min(192)),
            page(|i| if i < 3900 { noise() } else { 0 }),
            page(|i| 255 - (i as u32 + 1).leading_zeros() as u8),
        ];
        for page in pages {
            if let Some(back) = there_and_back(&mut encoder, &page) {
                assert!(back == page);
            }
        }
        assert_eq!(encoder.compress(&page(|_| noise()), &mut [0; ROOM]), None);
    }

    /// Inodes in a slab: lists that point to themselves, pointers to neighbours, times, zeros; the same offsets by turns.
    fn objects(size: usize, base: u64) -> [u8; PAGE_SIZE] {
        let times: [u64; 2] = [0x6b02_fa0e, 0x7ad_e88d];
        page(|i| {
            let (object, field) = (i / size * size, i % size / 8);
            let own = base + (object + field / 2 * 16) as u64;
            let word = match field % 14 {
                0 => 0xffff_ffff_b0c3_a4c0,
                1 | 9 => own - 0x310,
                2 => 0x57e2 + (object / size) as u64 * 4,
                3..=6 => times[field % 2],
                10 | 11 => own,
                _ => 0,
            };
            word.to_le_bytes()[i % 8]
        })
    }

    #[test]
    fn objects_side_by_side_are_no_larger_than_the_library_makes_them() {
        let mut encoder = Encoder::new();
        let mut library = ::zstd::bulk::Compressor::new(1).expect("a compressor");
        let (mut ours, mut its) = (0, 0);
        for number in 0..64 {
            let page = objects(192 + number % 8 * 128, 0xff38_3088_89fb_3000 + ((number as u64) << 12));
            ours += encoder.compress(&page, &mut [0; ROOM]).expect("a smaller page");
            its += library.compress(&page).expect("a page").len();
            assert!(there_and_back(&mut encoder, &page).expect("a smaller page") == page);
        }
        assert!(ours <= its, "{ours} bytes, {its} by the library");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Memory as kernels have it: structures of words that are often the same, or nearly.
        #[test]
        fn structures_are_read_by_the_library(
            seed in prop::collection::vec(any::<u8>(), 1..64), size in 1usize..600, changes in 0u8..120, bits in any::<u8>()
        ) {
            let mut noise = noise();
            let mut encoder = Encoder::new();
            for _ in 0..3 {
                let mut bytes = page(|i| seed[i % size % seed.len()]);
                for at in 0..PAGE_SIZE {
                    if noise() < changes {
                        bytes[at] = noise() & bits;
                    } else if at >= size {
                        bytes[at] = bytes[at - size];
                    }
                }
                if let Some(back) = there_and_back(&mut encoder, &bytes) {
                    prop_assert!(back == bytes);
                }
            }
        }
    }
}
