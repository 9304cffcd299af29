//! The literals of a block: in a Huffman code of their own, or as they are.

use crate::bits::BitWriter;
use crate::fse::{self, Table};
use crate::huffman;
use crate::page::{PAGE_SIZE, ROOM};
use crate::repeats::{PIECE, PaddedPage};

pub type Page = PaddedPage<16>;

/// Fewer literals are written as they are.
const FEWEST_CODED: usize = 32;
/// Longest code for literals.
const CODE_LIMIT: usize = 11;
/// Most weights that can be written as they are.
const MOST_DIRECT: usize = 128;
/// Most literals that can be in one stream.
const ONE_STREAM: usize = 1023;

/// The literals of a page.
pub struct Literals {
    bytes: Box<[u8; PAGE_SIZE + PIECE]>,
    len: usize,
    code: LiteralCode,
}

impl Literals {
    /// None yet.
    pub fn new() -> Self {
        Self { bytes: Box::new([0; PAGE_SIZE + PIECE]), len: 0, code: LiteralCode::new() }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds the bytes of `page` from `start` to `end`.
    #[inline(always)]
    pub fn add(&mut self, page: &Page, start: usize, end: usize) {
        // Whether there are any can't be foretold: a first piece is copied in any case.
        let mut at = start;
        loop {
            let to = self.len + (at - start);
            self.bytes[to % PAGE_SIZE..][..PIECE].copy_from_slice(page.piece(at));
            at += PIECE;
            if at >= end {
                break;
            }
        }
        self.len += end - start;
    }

    /// Writes the literals to `out[at..]`. Returns where they end.
    #[inline(always)]
    pub fn write(&mut self, out: &mut [u8; ROOM], at: usize) -> usize {
        let literals = &self.bytes[..self.len.min(PAGE_SIZE)];
        let size = literals.len();
        if size >= FEWEST_CODED
            && let Some(end) = write_coded(literals, &mut self.code, out, at)
        {
            return end;
        }
        // As they are.
        let header = if size < 32 { (size << 3, 1) } else { (1 << 2 | size << 4, 2) };
        out[at..at + 2].copy_from_slice(&(header.0 as u16).to_le_bytes());
        let start = at + header.1;
        out[start..start + size].copy_from_slice(literals);
        start + size
    }
}

/// Writes `literals` in a code of their own to `out[at..]`. Returns where they end; `None` if they don't get smaller.
#[inline(always)]
fn write_coded(literals: &[u8], code: &mut LiteralCode, out: &mut [u8; ROOM], at: usize) -> Option<usize> {
    let frequencies = frequencies(literals);
    let size = literals.len();
    // Numbers with a sign, since any processor has the largest of eight of those.
    let most = frequencies.iter().fold(0, |most: i16, count| most.max(*count as i16)) as u16;
    if usize::from(most) == size {
        // One byte over and over.
        let header = if size < 32 { (1 | size << 3, 1) } else { (1 | 1 << 2 | size << 4, 2) };
        out[at..at + 2].copy_from_slice(&(header.0 as u16).to_le_bytes());
        out[at + header.1] = literals[0];
        return Some(at + header.1 + 1);
    }
    if usize::from(most) <= (size >> 7) + 4 {
        return None;
    }
    code.set(&frequencies);
    let one_stream = size <= ONE_STREAM;
    let header_len = if one_stream { 3 } else { 4 };
    let code_end = code.write(out, at + header_len)?;
    let end = if one_stream {
        code.write_stream(literals, out, code_end)
    } else {
        let quarter = size.div_ceil(4);
        let mut end = code_end + 6;
        for (index, part) in literals.chunks(quarter).enumerate() {
            let start = end;
            end = code.write_stream(part, out, start);
            if index < 3 {
                out[code_end + 2 * index..][..2].copy_from_slice(&((end - start) as u16).to_le_bytes());
            }
        }
        end
    };
    let coded = end - at - header_len;
    if coded + header_len >= size + 2 {
        return None;
    }
    let header = if one_stream { 2 | size << 4 | coded << 14 } else { 2 | 2 << 2 | size << 4 | coded << 18 };
    out[at..at + header_len].copy_from_slice(&(header as u32).to_le_bytes()[..header_len]);
    Some(end)
}

/// How often each byte occurs in `bytes`.
fn frequencies(bytes: &[u8]) -> [u16; 256] {
    // Four counts, since one that was just written is not yet there to be read.
    let mut counts = [[0u16; 256]; 4];
    let (fours, rest) = bytes.as_chunks::<4>();
    for four in fours {
        for (counts, byte) in counts.iter_mut().zip(four) {
            counts[usize::from(*byte)] += 1;
        }
    }
    rest.iter().for_each(|byte| counts[0][usize::from(*byte)] += 1);
    std::array::from_fn(|byte| counts[0][byte] + counts[1][byte] + counts[2][byte] + counts[3][byte])
}

/// A Huffman code for bytes. The longest codes have the lowest numbers.
struct LiteralCode {
    /// Of each byte the code, and its length.
    codes: [(u16, u8); 256],
    /// Of each byte up to the last one that has a code, how short the code is, and how many bytes have that weight: the
    /// shortest codes have the largest weights, and weight 0 is that there is none.
    weights: [u8; 256],
    counts: [u16; CODE_LIMIT + 2],
    /// The last byte that has a code.
    last: usize,
    table: Table,
}

impl LiteralCode {
    /// A code that is to be [`set`](Self::set).
    fn new() -> Self {
        Self {
            codes: [(0, 0); 256],
            weights: [0; 256],
            counts: [0; CODE_LIMIT + 2],
            last: 0,
            table: Table::new(),
        }
    }

    /// Makes it the best one for bytes, two different ones at least, that occur so often.
    fn set(&mut self, frequencies: &[u16; 256]) {
        let occurring = huffman::Occurring::of(frequencies);
        let (lengths, counts) = huffman::lengths(&occurring, CODE_LIMIT);
        let occurring = occurring.symbols();
        self.last = occurring.last().map_or(0, |(_, byte)| usize::from(*byte));
        let longest = counts.iter().rposition(|count| *count > 0).unwrap_or(1);
        let mut next = [0u16; 16];
        for length in (1..longest).rev() {
            next[length] = (next[length + 1] + counts[length + 1]) / 2;
        }
        self.weights = [0; 256];
        for (_, byte) in occurring {
            let byte = usize::from(*byte) % 256;
            let length = lengths[byte];
            let next = &mut next[usize::from(length) % 16];
            self.codes[byte] = (*next, length);
            *next += 1;
            self.weights[byte] = longest as u8 + 1 - length;
        }
        let without = (self.last + 1 - occurring.len()) as u16;
        self.counts = [0; CODE_LIMIT + 2];
        self.counts[0] = without;
        let by_weight = counts[1..=longest].iter().rev();
        self.counts[1..].iter_mut().zip(by_weight).for_each(|(count, codes)| *count = *codes);
        // The last one follows from the others.
        self.counts[usize::from(self.weights[self.last])] -= 1;
    }

    /// Writes the code to `out[at..]`. Returns where it ends; `None` if it is one of the few that the format has no room
    /// for.
    #[inline(always)]
    fn write(&mut self, out: &mut [u8; ROOM], at: usize) -> Option<usize> {
        let Self { weights, counts, last, table, .. } = self;
        let weights = &weights[..*last];
        let four_bits_each = if *last <= MOST_DIRECT { last.div_ceil(2) } else { usize::MAX };
        let used = counts.iter().filter(|count| **count > 0).count();
        let most = counts.iter().max().copied().unwrap_or(0);
        if used > 1 && most > 1 {
            let log = fse::MIN_LOG + u32::from(*last > 64);
            let shares = fse::shares(&fse::Frequencies::of(counts), weights.len() as u32, log);
            let mut bits = BitWriter::new(out, at + 1);
            fse::write_shares(&shares, log, &mut bits);
            bits.align();
            table.set(&shares, log);
            // Two states take turns.
            let (pairs, odd) = weights.as_chunks::<2>();
            let mut pairs = pairs.iter().rev();
            let mut states = [0; 2];
            if let [first] = odd {
                states[0] = table.start(*first);
                let [last, second] = pairs.next().unwrap_or(&[0; 2]);
                states[1] = table.start(*second);
                states[0] = table.add(states[0], *last, &mut bits);
            } else {
                states = pairs.next().unwrap_or(&[0; 2]).map(|weight| table.start(weight));
            }
            for [first, second] in pairs {
                states[1] = table.add(states[1], *second, &mut bits);
                states[0] = table.add(states[0], *first, &mut bits);
                bits.flush();
            }
            table.end(states[1], &mut bits);
            table.end(states[0], &mut bits);
            let end = bits.end_backwards();
            let len = end - at - 1;
            if len < 128 && len < four_bits_each {
                out[at] = len as u8;
                return Some(end);
            }
        }
        if *last > MOST_DIRECT {
            return None;
        }
        out[at] = (127 + *last) as u8;
        for (byte, pair) in out[at + 1..].iter_mut().zip(weights.chunks(2)) {
            *byte = pair[0] << 4 | pair.get(1).copied().unwrap_or(0);
        }
        Some(at + 1 + four_bits_each)
    }

    /// Writes `literals` to `out[at..]`, from the last to the first. Returns where they end.
    #[inline(always)]
    fn write_stream(&self, literals: &[u8], out: &mut [u8; ROOM], at: usize) -> usize {
        let mut bits = BitWriter::new(out, at);
        let (first, fours) = literals.as_rchunks::<4>();
        // Codes have 11 bits at most: four of them fit beside what is left of a byte.
        for four in fours.iter().rev() {
            self.add(four, &mut bits);
        }
        self.add(first, &mut bits);
        bits.end_backwards()
    }

    /// Adds up to four `literals`, from the last to the first.
    #[inline(always)]
    fn add(&self, literals: &[u8], bits: &mut BitWriter<'_>) {
        for byte in literals.iter().rev() {
            let (code, length) = self.codes[usize::from(*byte)];
            bits.add(u64::from(code), u32::from(length));
        }
        bits.flush();
    }
}
