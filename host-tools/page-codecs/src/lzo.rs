//! An LZO1X encoder for pages, as fast as the others.
//!
//! Decoders are to be had; the one encoder under a licence that fits searches exhaustively and takes a hundred
//! times as long as LZO1X-1, which makedumpfile uses. What a page needs of the format is little: no distance is
//! longer than a page, so that two kinds of matches do. The instructions are described in the kernel's
//! `Documentation/staging/lzo.rst`.

use crate::bytes::ByteWriter;
use crate::page::{PAGE_SIZE, ROOM};
use crate::repeats::{LastSeen, PIECE, PaddedPage};
use std::hint::select_unpredictable;

/// Bytes that have to be equal to count as a match. The format has shorter ones, but the time goes by matches.
const MIN_MATCH: u32 = 4;
/// Longest distance, and length, of the short kind of match.
const SHORT_DISTANCE: usize = 0x800;
const SHORT_LENGTH: usize = 8;
/// The long kind of match: its mark, and the longest length that fits beside it.
const LONG_MATCH: usize = 0x20;
const LONG_LENGTH: usize = 33;
/// Most literals that fit one instruction.
const FEW_LITERALS: usize = 18;
/// The last bytes of a page are not looked at.
const END_OF_SEARCH: usize = PAGE_SIZE - 10;
/// Ends a stream: a match of the longest kind at no distance.
const END: [u8; 3] = [0x11, 0, 0];

type Page = PaddedPage<8>;
type Seen = LastSeen<MIN_MATCH, 0x1000, 1>;

/// Compresses pages.
pub struct Encoder {
    page: Page,
    seen: Seen,
}

impl Encoder {
    /// An encoder.
    pub fn new() -> Self {
        Self { page: Page::new(), seen: LastSeen::new() }
    }

    /// Compresses `page` to the start of `out`. Returns the compressed length; `None` if it gave up because the page
    /// does not get smaller.
    pub fn compress(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8; ROOM]) -> Option<usize> {
        self.page.set(page);
        self.seen.clear();
        let page = &self.page;
        let mut out = Stream { out: ByteWriter::new(out), last_match: 0 };
        // Literals are pending from `start` on. The page's first bytes count as seen.
        let (mut start, mut at) = (0, 1);
        'page: while at < END_OF_SEARCH {
            // Two places in one go: whether there is a match can't be foretold, and so costs less often.
            let mut look = Look::at(page, &mut self.seen, at);
            if !look.is_match() {
                at += 1;
                look = Look::at(page, &mut self.seen, at);
                if !look.is_match() {
                    // The longer nothing was found, the larger the steps: noise is passed over quickly.
                    at += 1 + ((at - start) >> 4);
                    continue;
                }
            }
            // What was passed over may belong to the match.
            let mut passed = page.common_in_front(look.before, at).min(at - start);
            let literals = at - start - passed;
            if start == 0 {
                out = out.first_literals(page, literals);
            } else if literals <= FEW_LITERALS {
                out.literals(page, start, literals);
            } else {
                out = out.many_literals(page, start, literals);
            }
            // One match after the other, as long as there are no literals between them.
            loop {
                let length = page.common_behind(look.before, at, look.difference);
                if length + passed <= LONG_LENGTH {
                    out.copy(at - look.before, length + passed);
                } else {
                    out = out.long_copy(at - look.before, length + passed);
                }
                passed = 0;
                at += length;
                start = at;
                if out.out.len() >= PAGE_SIZE {
                    return None;
                }
                if at >= END_OF_SEARCH {
                    break 'page;
                }
                self.seen.push(page.eight(at - 1), at - 1);
                look = Look::at(page, &mut self.seen, at);
                if !look.is_match() {
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

/// A look at a place in a page.
struct Look {
    /// Where the bytes there may have been before.
    before: usize,
    /// By what the eight bytes there differ from those.
    difference: u64,
}

impl Look {
    #[inline(always)]
    fn at(page: &Page, seen: &mut Seen, at: usize) -> Self {
        let here = page.eight(at);
        let before = usize::from(seen.push(here, at)[0]);
        Self { before, difference: page.eight(before) ^ here }
    }

    #[inline(always)]
    fn is_match(&self) -> bool {
        Seen::is_match(self.difference)
    }
}

/// The stream that is being written. What is seldom done, and so is called, takes it and gives it back: it stays in
/// registers otherwise. Who calls chooses between the two: with the choice in here, a dump takes 2 % longer.
struct Stream<'a> {
    out: ByteWriter<'a>,
    /// The byte of the last match whose low two bits count up to three literals behind it.
    last_match: usize,
}

impl Stream<'_> {
    /// A length that did not fit its instruction: 255 for each zero byte, and the last byte.
    fn rest(&mut self, mut length: usize) {
        while length > 255 {
            self.out.put(0);
            length -= 255;
        }
        self.out.put(length as u8);
    }

    /// The literals in front of the first match, at least one.
    #[inline(never)]
    fn first_literals(mut self, page: &Page, length: usize) -> Self {
        if length <= 238 {
            self.out.put(17 + length as u8);
        } else {
            self.out.put(0);
            self.rest(length - FEW_LITERALS);
        }
        page.bytes()[..length].iter().for_each(|byte| self.out.put(*byte));
        self
    }

    /// The few literals at `start` behind a match, if there are any.
    #[inline(always)]
    fn literals(&mut self, page: &Page, start: usize, length: usize) {
        // Up to three go with the match. Both are written, and one of them counts: no branch to get wrong.
        let with_match = length <= 3;
        self.out.set_bits(self.last_match, if with_match { length as u8 } else { 0 });
        self.out.put_piece(&[(length as u8).wrapping_sub(3)], usize::from(!with_match));
        self.out.put_piece(page.piece(start), length);
    }

    /// The literals at `start` behind a match, too many for one instruction.
    #[inline(never)]
    fn many_literals(mut self, page: &Page, start: usize, length: usize) -> Self {
        self.out.put(0);
        self.rest(length - FEW_LITERALS);
        for at in (0..length).step_by(PIECE) {
            self.out.put_piece(page.piece(start + at), (length - at).min(PIECE));
        }
        self
    }

    /// Copies `length` bytes, which fit beside the mark, from `distance` back.
    #[inline(always)]
    fn copy(&mut self, distance: usize, length: usize) {
        let back = distance - 1;
        // Which of the two kinds it is can't be foretold: no branch to get wrong.
        let short = (length.wrapping_sub(1) << 5 | (back & 7) << 2 | (back >> 3) << 8) as u32;
        let long = (LONG_MATCH | (length - 2) | back << 10) as u32;
        let is_short = length <= SHORT_LENGTH && distance <= SHORT_DISTANCE;
        let instruction = select_unpredictable(is_short, short, long);
        self.out.put_piece(&instruction.to_le_bytes(), 3 - usize::from(is_short));
        self.last_match = self.out.len() - 2;
    }

    /// Copies more bytes.
    #[inline(never)]
    fn long_copy(mut self, distance: usize, length: usize) -> Self {
        self.out.put(LONG_MATCH as u8);
        self.rest(length - LONG_LENGTH);
        self.out.put_piece(&(((distance - 1) << 2) as u16).to_le_bytes(), 2);
        self.last_match = self.out.len() - 2;
        self
    }
}
