//! An LZO1X encoder for pages, as fast as the others.
//!
//! Decoders are to be had; the one encoder under a licence that fits searches exhaustively and takes a hundred
//! times as long as LZO1X-1, which makedumpfile uses. What a page needs of the format is little: no distance is
//! longer than a page, so that two kinds of matches do. The instructions are described in the kernel's
//! `Documentation/staging/lzo.rst`.

use scanner_core::PAGE_SIZE;

/// Bits of the hash of four bytes.
const HASH_BITS: u32 = 12;
/// Bytes that have to be equal to count as a match.
const MIN_MATCH: usize = 4;
/// Longest distance, and length, of the short kind of match.
const SHORT_DISTANCE: usize = 0x800;
const SHORT_LENGTH: usize = 8;
/// The long kind of match: its mark, and the longest length that fits beside it.
const LONG_MATCH: u8 = 0x20;
const LONG_LENGTH: usize = 33;
/// Ends a stream: a match of the longest kind at no distance.
const END: [u8; 3] = [0x11, 0, 0];

/// Where four bytes of each hash were seen last.
pub struct Encoder {
    seen: Box<[u16; 1 << HASH_BITS]>,
}

impl Encoder {
    /// An encoder.
    pub fn new() -> Self {
        Self { seen: Box::new([0; 1 << HASH_BITS]) }
    }

    /// Compresses `page` to the start of `out`, which needs room for a page and a 64th more. Returns the
    /// compressed length.
    pub fn compress(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8]) -> usize {
        self.seen.fill(0);
        let mut out = Stream { out, len: 0, last_match: None };
        // Literals are pending from `start` on; position 0 is taken for "never seen", so the search begins at 1.
        let (mut start, mut at) = (0, 1);
        while at + MIN_MATCH <= PAGE_SIZE {
            let here = four(page, at);
            let slot = &mut self.seen[(here.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize];
            let before = usize::from(std::mem::replace(slot, at as u16));
            if before == 0 || four(page, before) != here {
                // The longer nothing was found, the larger the steps: noise is passed over quickly.
                at += 1 + ((at - start) >> 5);
                continue;
            }
            let length = MIN_MATCH + common(&page[before + MIN_MATCH..], &page[at + MIN_MATCH..]);
            out.literals(&page[start..at]);
            out.copy(at - before, length);
            at += length;
            start = at;
        }
        out.literals(&page[start..]);
        out.put(&END);
        out.len
    }
}

/// The stream that is being written.
struct Stream<'a> {
    out: &'a mut [u8],
    len: usize,
    /// The byte of the last match whose low two bits count up to three literals behind it.
    last_match: Option<usize>,
}

impl Stream<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// A length that did not fit its instruction: 255 for each zero byte, and the last byte.
    fn rest(&mut self, mut length: usize) {
        while length > 255 {
            self.put(&[0]);
            length -= 255;
        }
        self.put(&[length as u8]);
    }

    fn literals(&mut self, bytes: &[u8]) {
        match (bytes.len(), self.last_match) {
            (0, _) => {}
            (length @ 1..=3, Some(last)) => self.out[last] |= length as u8,
            (length @ 1..=238, None) => self.put(&[17 + length as u8]),
            (length @ ..=18, _) => self.put(&[length as u8 - 3]),
            (length, _) => {
                self.put(&[0]);
                self.rest(length - 18);
            }
        }
        self.put(bytes);
    }

    /// Copies `length` bytes from `distance` back.
    fn copy(&mut self, distance: usize, length: usize) {
        let back = distance - 1;
        if length <= SHORT_LENGTH && distance <= SHORT_DISTANCE {
            self.put(&[((length - 1) << 5 | (back & 7) << 2) as u8, (back >> 3) as u8]);
        } else {
            if length <= LONG_LENGTH {
                self.put(&[LONG_MATCH | (length - 2) as u8]);
            } else {
                self.put(&[LONG_MATCH]);
                self.rest(length - LONG_LENGTH);
            }
            self.put(&((back << 2) as u16).to_le_bytes());
        }
        self.last_match = Some(self.len - 2);
    }
}

/// The four bytes at `at`.
fn four(page: &[u8; PAGE_SIZE], at: usize) -> u32 {
    page[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// How many bytes of the beginnings are the same.
fn common(earlier: &[u8], later: &[u8]) -> usize {
    let (earlier, later) = (&earlier[..later.len().min(earlier.len())], later);
    let mut same = 0;
    for (a, b) in earlier.as_chunks::<8>().0.iter().zip(later.as_chunks::<8>().0) {
        let difference = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if difference != 0 {
            return same + (difference.trailing_zeros() / 8) as usize;
        }
        same += 8;
    }
    same + earlier[same..].iter().zip(&later[same..]).take_while(|(a, b)| a == b).count()
}
