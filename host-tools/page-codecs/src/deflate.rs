//! A deflate encoder for pages.
//!
//! zlib and its faster replacements are made for files: for an input of one page, their tables cost more than they
//! save. This encoder has tables as small as a page. It compares each position with three earlier ones, and checks for
//! a longer match at the following position before it uses a match. Each page is one block with its own Huffman codes.
//!
//! The result is smaller than that of zlib's level 1, which makedumpfile uses, and takes less than half of the time.
//! The format is that of RFC 1950 and RFC 1951.

use crate::bits::BitWriter;
use crate::huffman::Code;
use crate::page::{PAGE_SIZE, ROOM};
use crate::repeats::{LastSeen, PaddedPage};

/// Shortest match of the format, in bytes.
const MIN_MATCH: usize = 3;
/// A match of this length saves bits only up to [`SHORT_DISTANCE`].
const SHORT_MATCH: usize = 3;
const SHORT_DISTANCE: usize = 1024;
/// Longest match of the format, in bytes.
const MAX_MATCH: usize = 258;
/// A match of this length or more is used without a search at the following position.
const LONG_ENOUGH: usize = 16;

/// Number of symbols of the literal and length code: bytes, the end of the block, and lengths.
const LITERALS: usize = 288;
const END: usize = 256;
const FIRST_LENGTH: usize = 257;
/// Number of symbols of the distance code.
const DISTANCES: usize = 32;
/// Longest code of these two, in bits.
const CODE_LIMIT: usize = 15;

/// The format stores a length or a distance as a symbol and extra bits. These are the first values of each symbol.
const LENGTH_BASES: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
const DISTANCE_BASES: [u16; 25] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
    4097,
];
/// The symbol of each length, and of each distance in a page, counted from the first such symbol.
static LENGTH_SYMBOL: [u8; MAX_MATCH + 1] = symbols_of_values(&LENGTH_BASES);
static DISTANCE_SYMBOL: [u8; PAGE_SIZE] = symbols_of_values(&DISTANCE_BASES);

/// Number of extra bits of a length symbol.
const fn length_extra_bits(symbol: usize) -> u32 {
    if symbol < 8 || symbol == 28 { 0 } else { symbol as u32 / 4 - 1 }
}

/// Number of extra bits of a distance symbol.
const fn distance_extra_bits(symbol: usize) -> u32 {
    if symbol < 4 { 0 } else { symbol as u32 / 2 - 1 }
}

/// The symbol of each value, given the first value of each symbol.
const fn symbols_of_values<const VALUES: usize>(first: &[u16]) -> [u8; VALUES] {
    let mut symbol = [0; VALUES];
    let (mut value, mut at) = (first[0] as usize, 0);
    while value < VALUES {
        while at + 1 < first.len() && first[at + 1] as usize <= value {
            at += 1;
        }
        symbol[value] = at as u8;
        value += 1;
    }
    symbol
}

/// A number of literals, and a match after them.
#[derive(Clone, Copy, Default)]
struct Sequence {
    literals: u16,
    length: u16,
    distance: u16,
}

/// The frequency of each symbol.
struct Frequencies {
    literals: [u16; LITERALS],
    distances: [u16; DISTANCES],
}

/// The two Huffman codes of a block.
struct Codes {
    literals: Code<LITERALS>,
    distances: Code<DISTANCES>,
}

impl Codes {
    /// The best codes for these frequencies.
    fn new(frequencies: &Frequencies) -> Self {
        Self {
            literals: Code::new(&frequencies.literals, CODE_LIMIT),
            distances: Code::new(&frequencies.distances, CODE_LIMIT),
        }
    }

    /// The fixed codes of the format, which a block does not need to describe.
    fn fixed() -> Self {
        let literals = std::array::from_fn(|symbol| match symbol {
            0..144 | 280.. => 8,
            144..256 => 9,
            256..280 => 7,
        });
        Self { literals: Code::from_lengths(literals), distances: Code::from_lengths([5; DISTANCES]) }
    }

    /// Size of a block with these frequencies in bits, without its header.
    fn cost(&self, frequencies: &Frequencies) -> u32 {
        let lengths = (0..).zip(&frequencies.literals[FIRST_LENGTH..FIRST_LENGTH + LENGTH_BASES.len()]);
        let distances = (0..).zip(&frequencies.distances);
        self.literals.cost(&frequencies.literals)
            + self.distances.cost(&frequencies.distances)
            + lengths.map(|(symbol, f)| length_extra_bits(symbol) * u32::from(*f)).sum::<u32>()
            + distances.map(|(symbol, f)| distance_extra_bits(symbol) * u32::from(*f)).sum::<u32>()
    }
}

/// Compresses pages.
pub struct Encoder {
    page: PaddedPage<16>,
    /// Positions of strings of 4 bytes, and of 3 bytes.
    seen: LastSeen<4, 0x1000, 2>,
    seen_short: LastSeen<3, 0x1000, 1>,
    sequences: Vec<Sequence>,
    fixed: Codes,
}

impl Encoder {
    /// Creates an encoder.
    pub fn new() -> Self {
        let sequences = Vec::with_capacity(PAGE_SIZE / MIN_MATCH);
        Self {
            page: PaddedPage::new(),
            seen: LastSeen::new(),
            seen_short: LastSeen::new(),
            sequences,
            fixed: Codes::fixed(),
        }
    }

    /// Compresses `page` to a zlib stream at the start of `out`. Returns its length; `None` if the stream is
    /// not smaller than the page.
    pub fn compress(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8; ROOM]) -> Option<usize> {
        self.page.set(page);
        self.seen.clear();
        self.seen_short.clear();
        let frequencies = self.find_sequences();
        let own = Codes::new(&frequencies);
        let header = BlockHeader::new(&own);
        let (own_cost, fixed_cost) = (header.cost() + own.cost(&frequencies), self.fixed.cost(&frequencies));
        // The zlib header has 2 bytes, and the block header 3 bits. The checksum of 4 bytes follows.
        let len = 2 + (3 + own_cost.min(fixed_cost)).div_ceil(8) as usize;
        if len + 4 >= PAGE_SIZE {
            return None;
        }
        // The zlib header: deflate with a window of 32 KiB. Then the only block, with dynamic or fixed codes.
        let mut bits = BitWriter::new(out, 0);
        bits.put(0x0178, 16);
        if own_cost < fixed_cost {
            bits.put(0b101, 3);
            header.write(&mut bits);
            self.write_block(&own, &mut bits);
        } else {
            bits.put(0b011, 3);
            self.write_block(&self.fixed, &mut bits);
        }
        bits.finish();
        out[len..len + 4].copy_from_slice(&libdeflater::adler32(page).to_be_bytes());
        Some(len + 4)
    }

    /// Splits the page into literals and matches. Returns the frequency of each symbol.
    fn find_sequences(&mut self) -> Frequencies {
        let Self { page, seen, seen_short, sequences, .. } = self;
        let mut frequencies = Frequencies { literals: [0; LITERALS], distances: [0; DISTANCES] };
        sequences.clear();
        // The literals from `start` are pending. The search starts at 1, since an empty slot means position 0.
        let (mut start, mut at) = (0, 1);
        while at < PAGE_SIZE - 9 {
            let here = page.word_at(at);
            let [last, earlier] = seen.push(here, at).map(usize::from);
            let [short] = seen_short.push(here, at).map(usize::from);
            let (mut before, mut length) = (last, page.match_length(last, at, here));
            let length_earlier = page.match_length(earlier, at, here);
            if length_earlier > length {
                (before, length) = (earlier, length_earlier);
            }
            if length <= SHORT_MATCH {
                (before, length) = (short, page.match_length(short, at, here));
                if length < MIN_MATCH || at - before > SHORT_DISTANCE {
                    at += 1;
                    continue;
                }
            }
            if length < LONG_ENOUGH {
                let next = page.word_at(at + 1);
                let [last, _] = seen.get(next).map(usize::from);
                let length_next = page.match_length(last, at + 1, next);
                if length_next > length {
                    at += 1;
                    seen.push(next, at);
                    seen_short.push(next, at);
                    (before, length) = (last, length_next);
                }
            }
            let (length, distance) = (length.min(MAX_MATCH), at - before);
            let literals = &page.bytes()[start..at];
            literals.iter().for_each(|byte| frequencies.literals[usize::from(*byte)] += 1);
            frequencies.literals[FIRST_LENGTH + usize::from(LENGTH_SYMBOL[length])] += 1;
            frequencies.distances[usize::from(DISTANCE_SYMBOL[distance % PAGE_SIZE])] += 1;
            sequences.push(Sequence {
                literals: literals.len() as u16,
                length: length as u16,
                distance: distance as u16,
            });
            at += length;
            start = at;
        }
        page.bytes()[start..].iter().for_each(|byte| frequencies.literals[usize::from(*byte)] += 1);
        frequencies.literals[END] = 1;
        frequencies
    }

    /// Writes the sequences and the end of the block.
    fn write_block(&self, codes: &Codes, bits: &mut BitWriter<'_>) {
        let code = |symbol: usize| (codes.literals.bits[symbol], codes.literals.lengths[symbol]);
        let literal_codes: [_; 256] = std::array::from_fn(code);
        let put_literals = |bits: &mut BitWriter<'_>, literals: &[u8]| {
            // A code has at most 15 bits: three codes fit in the writer with the 7 bits that a flush leaves.
            for three in literals.chunks(3) {
                for byte in three {
                    let (code, length) = literal_codes[usize::from(*byte)];
                    bits.add(u64::from(code), u32::from(length));
                }
                bits.flush();
            }
        };
        let mut rest = self.page.bytes();
        for sequence in &self.sequences {
            let (literals, following) = rest.split_at(usize::from(sequence.literals));
            put_literals(bits, literals);
            rest = &following[usize::from(sequence.length)..];

            let symbol = usize::from(LENGTH_SYMBOL[usize::from(sequence.length)]);
            let (code, length) = code(FIRST_LENGTH + symbol);
            bits.add(u64::from(code), u32::from(length));
            bits.add(u64::from(sequence.length - LENGTH_BASES[symbol]), length_extra_bits(symbol));
            let symbol = usize::from(DISTANCE_SYMBOL[usize::from(sequence.distance) % PAGE_SIZE]);
            let (code, length) = (codes.distances.bits[symbol], codes.distances.lengths[symbol]);
            bits.add(u64::from(code), u32::from(length));
            bits.add(u64::from(sequence.distance - DISTANCE_BASES[symbol]), distance_extra_bits(symbol));
            bits.flush();
        }
        put_literals(bits, rest);
        let (code, length) = code(END);
        bits.put(u64::from(code), u32::from(length));
    }
}

/// Number of symbols of the code length code: code lengths up to 15, and three kinds of runs.
const LENGTH_SYMBOLS: usize = 19;
/// Runs: the previous length 3 to 6 times; length 0 (no code) 3 to 10 times; length 0 11 to 138 times.
const REPEAT: u8 = 16;
const SHORT_ZERO_RUN: u8 = 17;
const LONG_ZERO_RUN: u8 = 18;
/// Number of extra bits of each symbol, which contain the length of a run.
const EXTRA_BITS: [u32; LENGTH_SYMBOLS] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 7];
/// The order in which the format stores the lengths of this code. The last ones are often 0 and not stored.
const ORDER: [usize; LENGTH_SYMBOLS] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The header of a block with dynamic codes, which describes the codes.
struct BlockHeader {
    /// Number of literal and length symbols whose code length is stored.
    literals: usize,
    /// Number of distance symbols whose code length is stored.
    distances: usize,
    /// Symbols of the code length code, each with the value of its extra bits.
    symbols: [(u8, u8); LITERALS + DISTANCES],
    /// Number of used `symbols`.
    used: usize,
    frequencies: [u16; LENGTH_SYMBOLS],
    code: Code<LENGTH_SYMBOLS>,
    /// Number of lengths of `code` that are stored, in the order of [`ORDER`].
    code_lengths: usize,
}

impl BlockHeader {
    fn new(codes: &Codes) -> Self {
        let used_len =
            |lengths: &[u8]| lengths.iter().rposition(|length| *length > 0).map_or(0, |last| last + 1);
        let (literals, distances) =
            (used_len(&codes.literals.lengths), used_len(&codes.distances.lengths).max(1));
        let mut lengths = [0; LITERALS + DISTANCES];
        lengths[..literals].copy_from_slice(&codes.literals.lengths[..literals]);
        lengths[literals..literals + distances].copy_from_slice(&codes.distances.lengths[..distances]);

        let mut header = Self {
            literals,
            distances,
            symbols: [(0, 0); LITERALS + DISTANCES],
            used: 0,
            frequencies: [0; LENGTH_SYMBOLS],
            code: Code::from_lengths([0; LENGTH_SYMBOLS]),
            code_lengths: 0,
        };
        for run in lengths[..literals + distances].chunk_by(|a, b| a == b) {
            header.add_run(run[0], run.len());
        }
        header.code = Code::new(&header.frequencies, 7);
        let lengths = ORDER.map(|symbol| header.code.lengths[symbol]);
        header.code_lengths = used_len(&lengths).max(4);
        header
    }

    /// Adds a run of `times` equal code lengths.
    fn add_run(&mut self, length: u8, mut times: usize) {
        if length == 0 {
            while times >= 11 {
                let run = times.min(138);
                self.add(LONG_ZERO_RUN, run - 11);
                times -= run;
            }
            if times >= 3 {
                self.add(SHORT_ZERO_RUN, times - 3);
                times = 0;
            }
        } else if times >= 4 {
            self.add(length, 0);
            times -= 1;
            while times >= 3 {
                let run = times.min(6);
                self.add(REPEAT, run - 3);
                times -= run;
            }
        }
        (0..times).for_each(|_| self.add(length, 0));
    }

    fn add(&mut self, symbol: u8, run: usize) {
        self.symbols[self.used] = (symbol, run as u8);
        self.used += 1;
        self.frequencies[usize::from(symbol)] += 1;
    }

    /// Size of the header in bits, without the first 3.
    fn cost(&self) -> u32 {
        let runs: u32 = self.frequencies.iter().zip(EXTRA_BITS).map(|(f, bits)| u32::from(*f) * bits).sum();
        14 + 3 * self.code_lengths as u32 + self.code.cost(&self.frequencies) + runs
    }

    fn write(&self, bits: &mut BitWriter<'_>) {
        bits.put(self.literals as u64 - 257, 5);
        bits.put(self.distances as u64 - 1, 5);
        bits.put(self.code_lengths as u64 - 4, 4);
        for symbol in &ORDER[..self.code_lengths] {
            bits.put(u64::from(self.code.lengths[*symbol]), 3);
        }
        for (symbol, run) in &self.symbols[..self.used] {
            let symbol = usize::from(*symbol);
            bits.add(u64::from(self.code.bits[symbol]), u32::from(self.code.lengths[symbol]));
            bits.put(u64::from(*run), EXTRA_BITS[symbol]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_match_the_format() {
        assert_eq!([3, 10, 11, 12, 13, 257, 258].map(|l| LENGTH_SYMBOL[l]), [0, 7, 8, 8, 9, 27, 28]);
        assert_eq!([1, 4, 5, 6, 7, 4095].map(|d| DISTANCE_SYMBOL[d]), [0, 3, 4, 4, 5, 23]);
        for (symbol, pair) in LENGTH_BASES.windows(2).enumerate().take(27) {
            assert_eq!(pair[1] - pair[0], 1 << length_extra_bits(symbol));
        }
        for (symbol, pair) in DISTANCE_BASES.windows(2).enumerate() {
            assert_eq!(pair[1] - pair[0], 1 << distance_extra_bits(symbol));
        }
    }

    /// A page from a function of the position.
    fn page(byte: impl FnMut(usize) -> u8) -> [u8; PAGE_SIZE] {
        std::array::from_fn(byte)
    }

    #[test]
    fn library_inflates_every_kind_of_block() {
        let mut noise = 1u64;
        let mut noise = || {
            noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (noise >> 56) as u8
        };
        let mut encoder = Encoder::new();
        let pages = [
            // Only one run; one distance; many codes; a page that is hardly smaller; frequencies that need long codes.
            page(|_| 7),
            page(|i| (i / 300) as u8),
            page(|i| (i * i / 8) as u8),
            page(|i| if i < 3400 { noise() } else { 0 }),
            page(|i| 255 - (i as u32 + 1).leading_zeros() as u8),
            page(|i| if i % 16 < 5 { noise() } else { 0x80 + (i % 16) as u8 }),
        ];
        for page in pages {
            let mut out = [0xaa; ROOM];
            let len = encoder.compress(&page, &mut out).unwrap();
            let mut back = [0; PAGE_SIZE];
            let size = libdeflater::Decompressor::new().zlib_decompress(&out[..len], &mut back);
            assert_eq!((size, back == page), (Ok(PAGE_SIZE), true));
        }
        assert_eq!(encoder.compress(&page(|_| noise()), &mut [0; ROOM]), None);
    }
}
