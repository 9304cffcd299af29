//! A Zstandard encoder for pages.
//!
//! The zstd library is made for files: for an input of one page, setup takes most of the time. This encoder writes the
//! same format, RFC 8878, with tables that are as small as a page. A page is one block with a Huffman code for the
//! literals and FSE tables for the sequences.
//!
//! The shortest match has 4 bytes, or 3 with the last offset. In the library's level 1, which makedumpfile uses, it has
//! 5 and 4, and the result is a little larger.

mod literals;
mod sequences;

use crate::page::{PAGE_SIZE, ROOM};
use crate::repeats::{LastSeen, starts_equal};
use literals::{Literals, Page};
use sequences::Sequences;

/// Shortest match that the encoder uses, in bytes.
const MIN_MATCH: u32 = 4;

/// Shortest match with the last offset, in bytes. Such an offset takes very few bits.
const MIN_REPEAT: u32 = 3;

/// End of the search for matches. The encoder writes the last bytes of a page as literals or as the end of a match.
const END_OF_SEARCH: usize = PAGE_SIZE - 9;

/// The start of a frame of one page: the magic number, the descriptor, and the content size in 2 bytes, minus 256.
const FRAME_HEADER: [u8; 7] = [0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x0f];
/// Size of a block header in bytes: the last-block bit, the block type and the block size.
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
    /// Creates an encoder.
    pub fn new() -> Self {
        Self {
            page: Page::new(),
            seen: LastSeen::new(),
            literals: Literals::new(),
            sequences: Sequences::new(),
        }
    }

    /// Compresses `page` to a frame at the start of `out`. Returns the frame's length; `None` if the
    /// frame is not smaller than the page.
    pub fn compress(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8; ROOM]) -> Option<usize> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("lzcnt")
        {
            // SAFETY: the function only requires the features that were detected here on this processor.
            return unsafe { self.compress_bmi(page, out) };
        }
        self.compress_plain(page, out)
    }

    /// [`compress_plain`](Self::compress_plain), compiled with instructions for bit shifts and bit counts.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "bmi1,bmi2,lzcnt")]
    fn compress_bmi(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8; ROOM]) -> Option<usize> {
        self.compress_plain(page, out)
    }

    /// The code for any processor. The hot functions are inlined, so that the target features apply to them.
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

    /// Splits the page into literals and sequences.
    #[inline(always)]
    fn find_sequences(&mut self) {
        let Self { page, seen, literals, sequences } = self;
        seen.clear();
        literals.clear();
        sequences.clear();
        // The literals from `start` are pending. The search starts at 1, since an empty slot means position 0.
        let (mut start, mut at) = (0, 1);
        while at < END_OF_SEARCH {
            // A match with the last offset takes the fewest bits. Try it first, 1 and 2 bytes after this position. Each
            // test is an unpredictable branch, so there are few of them.
            let (here, next) = (page.word_at(at), page.word_at(at + 1));
            let before = usize::from(seen.push(here, at)[0]);
            let repeat = at.saturating_sub(sequences.last_offset());
            let difference = page.word_at(repeat) ^ here;
            let (match_at, before, length) = if starts_equal::<MIN_REPEAT>(difference >> 8) {
                (at + 1, repeat + 1, page.match_length(repeat + 1, at + 1, next))
            } else if starts_equal::<MIN_REPEAT>(difference >> 16) {
                (at + 2, repeat + 2, page.match_length(repeat + 2, at + 2, page.word_at(at + 2)))
            } else if Seen::is_match(page.word_at(before) ^ here) {
                (at, before, page.match_length(before, at, here))
            } else {
                let before = usize::from(seen.push(next, at + 1)[0]);
                if !Seen::is_match(page.word_at(before) ^ next) {
                    // The step grows with the distance to the last match, to skip incompressible data quickly.
                    at += 2 + ((at - start) >> 4);
                    continue;
                }
                (at + 1, before, page.match_length(before, at + 1, next))
            };
            at = match_at + length;
            // Assigned after `at`: the following position does not wait for the backward extension.
            let extension = page.match_length_backward(before, match_at).min(match_at - start);
            literals.add(page, start, match_at - extension);
            sequences.add(match_at - extension - start, length + extension, match_at - before);
            seen.push(page.word_at(at - 1), at - 1);
            // In adjacent objects, fields match other fields of the same object or the object before. The two offsets
            // alternate. Directly after a match, the second last offset takes the fewest bits.
            while at < END_OF_SEARCH {
                let here = page.word_at(at);
                let repeat = at.saturating_sub(sequences.second_last_offset());
                let difference = page.word_at(repeat) ^ here;
                if !Seen::is_match(difference) {
                    break;
                }
                seen.push(here, at);
                let length = page.match_length_from(repeat, at, difference);
                sequences.add(0, length, at - repeat);
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

    /// Compresses `page`, and decompresses it with the library; `None` if the frame is not smaller than the page.
    fn round_trip(encoder: &mut Encoder, page: &[u8; PAGE_SIZE]) -> Option<Vec<u8>> {
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
            // Few or no literals; repeated literals; raw literals; one stream; four streams.
            page(|_| 7),
            page(|i| if i % 100 < 96 { 0 } else { 9 }),
            page(|i| if i < 20 { noise() } else { 0 }),
            page(|i| if i < 900 { noise() & 0x4f } else { 0 }),
            page(|i| if i < 3000 { noise() & 0x1f } else { 0 }),
            // Many sequences; few sequences; a long match after many literals; long literals between matches.
            page(|i| (i * i / 8) as u8),
            page(|i| (i / 300) as u8),
            page(|i| if i < 2000 { noise() } else { 1 }),
            page(|i| if i % 512 < 480 { noise() & 0x3f } else { (i % 512) as u8 }),
            // A Huffman code that the format cannot describe; a page that is hardly smaller; the longest codes.
            page(|_| noise().min(192)),
            page(|i| if i < 3900 { noise() } else { 0 }),
            page(|i| 255 - (i as u32 + 1).leading_zeros() as u8),
        ];
        for page in pages {
            if let Some(back) = round_trip(&mut encoder, &page) {
                assert!(back == page);
            }
        }
        assert_eq!(encoder.compress(&page(|_| noise()), &mut [0; ROOM]), None);
    }

    /// A slab of inodes: empty lists, pointers to adjacent objects, times, zeros. The offsets of the matches alternate.
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
    fn adjacent_objects_are_no_larger_than_from_the_library() {
        let mut encoder = Encoder::new();
        let mut library = ::zstd::bulk::Compressor::new(1).expect("a compressor");
        let (mut own_size, mut library_size) = (0, 0);
        for number in 0..64 {
            let page = objects(192 + number % 8 * 128, 0xff38_3088_89fb_3000 + ((number as u64) << 12));
            own_size += encoder.compress(&page, &mut [0; ROOM]).expect("a smaller page");
            library_size += library.compress(&page).expect("a page").len();
            assert!(round_trip(&mut encoder, &page).expect("a smaller page") == page);
        }
        assert!(own_size <= library_size, "{own_size} bytes, {library_size} by the library");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Memory like a kernel's: structures whose words are often equal, or nearly equal.
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
                if let Some(back) = round_trip(&mut encoder, &bytes) {
                    prop_assert!(back == bytes);
                }
            }
        }
    }
}
