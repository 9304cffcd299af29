//! An LZO1X encoder for pages.
//!
//! The only library encoder with a compatible licence searches exhaustively, and takes a hundred times as long as
//! LZO1X-1, which makedumpfile uses. A page needs a small part of the format: no distance is longer than a page, so two
//! kinds of matches are enough. The kernel's `Documentation/staging/lzo.rst` describes the instructions.

use crate::bytes::ByteWriter;
use crate::page::{PAGE_SIZE, ROOM};
use crate::repeats::{LastSeen, PIECE, PaddedPage};
use std::hint::select_unpredictable;

/// Shortest match that the encoder uses, in bytes. The format has shorter ones, but the time depends on the number of
/// matches.
const MIN_MATCH: u32 = 4;
/// Longest distance and longest length of a short match.
const SHORT_DISTANCE: usize = 0x800;
const SHORT_LENGTH: usize = 8;
/// A long match: the bits that mark its first byte, and the longest length that the first byte can contain.
const LONG_MATCH: usize = 0x20;
const LONG_LENGTH: usize = 33;
/// Largest number of literals whose length fits in one byte of an instruction.
const FEW_LITERALS: usize = 18;
/// End of the search for matches. The encoder writes the last bytes of a page as literals or as the end of a match.
const END_OF_SEARCH: usize = PAGE_SIZE - 10;
/// The end of a stream: a match instruction for long distances, with the distance 0.
const END: [u8; 3] = [0x11, 0, 0];

type Page = PaddedPage<8>;
type Seen = LastSeen<MIN_MATCH, 0x1000, 1>;

/// Compresses pages.
pub struct Encoder {
    page: Page,
    seen: Seen,
}

impl Encoder {
    /// Creates an encoder.
    pub fn new() -> Self {
        Self { page: Page::new(), seen: LastSeen::new() }
    }

    /// Compresses `page` to the start of `out`. Returns the compressed length; `None` if the result is not smaller
    /// than the page.
    pub fn compress(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8; ROOM]) -> Option<usize> {
        self.page.set(page);
        self.seen.clear();
        let page = &self.page;
        let mut out = Stream { out: ByteWriter::new(out), last_match: 0 };
        // The literals from `start` are pending. The search starts at 1, since an empty slot means position 0.
        let (mut start, mut at) = (0, 1);
        'page: while at < END_OF_SEARCH {
            // Two positions per iteration: a match is unpredictable, and this has fewer mispredicted branches.
            let mut candidate = Candidate::at(page, &mut self.seen, at);
            if !candidate.is_match() {
                at += 1;
                candidate = Candidate::at(page, &mut self.seen, at);
                if !candidate.is_match() {
                    // The step grows with the distance to the last match, to skip incompressible data quickly.
                    at += 1 + ((at - start) >> 4);
                    continue;
                }
            }
            // The match can extend backward into the pending literals.
            let mut extension = page.match_length_backward(candidate.before, at).min(at - start);
            let literals = at - start - extension;
            if start == 0 {
                out = out.first_literals(page, literals);
            } else if literals <= FEW_LITERALS {
                out.literals(page, start, literals);
            } else {
                out = out.many_literals(page, start, literals);
            }
            // Write matches as long as there are no literals between them.
            loop {
                let length = page.match_length_from(candidate.before, at, candidate.difference);
                if length + extension <= LONG_LENGTH {
                    out.write_match(at - candidate.before, length + extension);
                } else {
                    out = out.write_long_match(at - candidate.before, length + extension);
                }
                extension = 0;
                at += length;
                start = at;
                if out.out.len() >= PAGE_SIZE {
                    return None;
                }
                if at >= END_OF_SEARCH {
                    break 'page;
                }
                self.seen.push(page.word_at(at - 1), at - 1);
                candidate = Candidate::at(page, &mut self.seen, at);
                if !candidate.is_match() {
                    at += 1;
                    continue 'page;
                }
            }
        }
        if start == 0 {
            return None;
        }
        if PAGE_SIZE - start <= FEW_LITERALS {
            out.literals(page, start, PAGE_SIZE - start);
        } else {
            out = out.many_literals(page, start, PAGE_SIZE - start);
        }
        let Stream { mut out, .. } = out;
        out.put_piece(&END, END.len());
        (out.len() < PAGE_SIZE).then_some(out.len())
    }
}

/// A candidate for a match at a position of a page.
struct Candidate {
    /// Candidate position of an earlier occurrence.
    before: usize,
    /// Exclusive or of the 8 bytes at both positions.
    difference: u64,
}

impl Candidate {
    #[inline(always)]
    fn at(page: &Page, seen: &mut Seen, at: usize) -> Self {
        let here = page.word_at(at);
        let before = usize::from(seen.push(here, at)[0]);
        Self { before, difference: page.word_at(before) ^ here }
    }

    #[inline(always)]
    fn is_match(&self) -> bool {
        Seen::is_match(self.difference)
    }
}

/// The output stream. The functions for rare cases are not inlined. They take the stream by value and return it, so
/// that it stays in registers elsewhere. The caller chooses between the inlined and the rare function: with the
/// choice in these functions, a dump takes 2 % longer.
struct Stream<'a> {
    out: ByteWriter<'a>,
    /// Offset of the byte of the last match whose low two bits are the number of literals after it, up to 3.
    last_match: usize,
}

impl Stream<'_> {
    /// Writes the rest of a length that did not fit in its instruction: a zero byte for each 255, then the last byte.
    fn write_length_rest(&mut self, mut length: usize) {
        while length > 255 {
            self.out.put(0);
            length -= 255;
        }
        self.out.put(length as u8);
    }

    /// Writes the literals before the first match, at least one.
    #[inline(never)]
    fn first_literals(mut self, page: &Page, length: usize) -> Self {
        if length <= 238 {
            self.out.put(17 + length as u8);
        } else {
            self.out.put(0);
            self.write_length_rest(length - FEW_LITERALS);
        }
        page.bytes()[..length].iter().for_each(|byte| self.out.put(*byte));
        self
    }

    /// Writes the literals at `start` after a match: none, or a number that fits in one byte of an instruction.
    #[inline(always)]
    fn literals(&mut self, page: &Page, start: usize, length: usize) {
        // The match instruction contains a number up to 3. Write both forms and count one, to avoid a branch.
        let with_match = length <= 3;
        self.out.set_bits(self.last_match, if with_match { length as u8 } else { 0 });
        self.out.put_piece(&[(length as u8).wrapping_sub(3)], usize::from(!with_match));
        self.out.put_piece(page.piece(start), length);
    }

    /// Writes the literals at `start` after a match, more than [`FEW_LITERALS`].
    #[inline(never)]
    fn many_literals(mut self, page: &Page, start: usize, length: usize) -> Self {
        self.out.put(0);
        self.write_length_rest(length - FEW_LITERALS);
        for at in (0..length).step_by(PIECE) {
            self.out.put_piece(page.piece(start + at), (length - at).min(PIECE));
        }
        self
    }

    /// Writes a match of `length` bytes, at most [`LONG_LENGTH`], at `distance`.
    #[inline(always)]
    fn write_match(&mut self, distance: usize, length: usize) {
        let back = distance - 1;
        // The kind of match is unpredictable: compute both instructions to avoid a branch.
        let short = (length.wrapping_sub(1) << 5 | (back & 7) << 2 | (back >> 3) << 8) as u32;
        let long = (LONG_MATCH | (length - 2) | back << 10) as u32;
        let is_short = length <= SHORT_LENGTH && distance <= SHORT_DISTANCE;
        let instruction = select_unpredictable(is_short, short, long);
        self.out.put_piece(&instruction.to_le_bytes(), 3 - usize::from(is_short));
        self.last_match = self.out.len() - 2;
    }

    /// Writes a match longer than [`LONG_LENGTH`].
    #[inline(never)]
    fn write_long_match(mut self, distance: usize, length: usize) -> Self {
        self.out.put(LONG_MATCH as u8);
        self.write_length_rest(length - LONG_LENGTH);
        self.out.put_piece(&(((distance - 1) << 2) as u16).to_le_bytes(), 2);
        self.last_match = self.out.len() - 2;
        self
    }
}
