//! A deflate encoder for pages.
//!
//! zlib, and libraries that do its work faster, are made for files: a page is over before their tables have paid. This
//! one has tables as small as a page, compares each place with three earlier ones, looks at the next byte before it
//! takes what it has found, and makes one block with a code of its own for each page. That is smaller than zlib's level
//! 1, which makedumpfile uses, in less than half of its time. The format is that of RFC 1950 and 1951.

use crate::bits::BitWriter;
use crate::huffman::Code;
use crate::page::{PAGE_SIZE, ROOM};
use crate::repeats::{LastSeen, PaddedPage};

/// Shortest match of the format.
const MIN_MATCH: usize = 3;
/// Matches that are this short pay only at a short distance.
const SHORT_MATCH: usize = 3;
const SHORT_DISTANCE: usize = 1024;
/// Longest match of the format.
const MAX_MATCH: usize = 258;
/// A match of so many bytes is taken at once, without a look at the next byte's.
const LONG_ENOUGH: usize = 16;

/// Symbols of the first code: bytes, the end of the block, and lengths.
const LITERALS: usize = 288;
const END: usize = 256;
const FIRST_LENGTH: usize = 257;
/// Symbols of the second code: distances.
const DISTANCES: usize = 32;
/// Longest code of these two.
const CODE_LIMIT: usize = 15;

/// Lengths and distances are in classes: a symbol for the class, and some bits for which of it. These are the first
/// values.
const LENGTH_CLASSES: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
const DISTANCE_CLASSES: [u16; 25] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
    4097,
];
/// The class of each length, and of each distance in a page.
static LENGTH_CLASS: [u8; MAX_MATCH + 1] = classes(&LENGTH_CLASSES);
static DISTANCE_CLASS: [u8; PAGE_SIZE] = classes(&DISTANCE_CLASSES);

/// Bits that tell the values of a length's class apart.
const fn length_bits(class: usize) -> u32 {
    if class < 8 || class == 28 { 0 } else { class as u32 / 4 - 1 }
}

/// The same for a distance's class.
const fn distance_bits(class: usize) -> u32 {
    if class < 4 { 0 } else { class as u32 / 2 - 1 }
}

/// The class of each value, given the first value of each class.
const fn classes<const VALUES: usize>(first: &[u16]) -> [u8; VALUES] {
    let mut class = [0; VALUES];
    let (mut value, mut at) = (first[0] as usize, 0);
    while value < VALUES {
        while at + 1 < first.len() && first[at + 1] as usize <= value {
            at += 1;
        }
        class[value] = at as u8;
        value += 1;
    }
    class
}

/// Literals, and a match behind them.
#[derive(Clone, Copy, Default)]
struct Sequence {
    literals: u16,
    length: u16,
    distance: u16,
}

/// How often each symbol occurs.
struct Frequencies {
    literals: [u16; LITERALS],
    distances: [u16; DISTANCES],
}

/// The two codes of a block.
struct Codes {
    literals: Code<LITERALS>,
    distances: Code<DISTANCES>,
}

impl Codes {
    /// The best ones.
    fn new(frequencies: &Frequencies) -> Self {
        Self {
            literals: Code::new(&frequencies.literals, CODE_LIMIT),
            distances: Code::new(&frequencies.distances, CODE_LIMIT),
        }
    }

    /// Those that the format knows, and that take no room.
    fn fixed() -> Self {
        let literals = std::array::from_fn(|symbol| match symbol {
            0..144 | 280.. => 8,
            144..256 => 9,
            256..280 => 7,
        });
        Self { literals: Code::from_lengths(literals), distances: Code::from_lengths([5; DISTANCES]) }
    }

    /// Bits of a block with these frequencies, without its header.
    fn cost(&self, frequencies: &Frequencies) -> u32 {
        let lengths = (0..).zip(&frequencies.literals[FIRST_LENGTH..FIRST_LENGTH + LENGTH_CLASSES.len()]);
        let distances = (0..).zip(&frequencies.distances);
        self.literals.cost(&frequencies.literals)
            + self.distances.cost(&frequencies.distances)
            + lengths.map(|(class, f)| length_bits(class) * u32::from(*f)).sum::<u32>()
            + distances.map(|(class, f)| distance_bits(class) * u32::from(*f)).sum::<u32>()
    }
}

/// Compresses pages.
pub struct Encoder {
    page: PaddedPage<16>,
    /// Where four bytes were seen, and three.
    seen: LastSeen<4, 0x1000, 2>,
    seen_short: LastSeen<3, 0x1000, 1>,
    sequences: Vec<Sequence>,
    fixed: Codes,
}

impl Encoder {
    /// An encoder.
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

    /// Compresses `page` to a zlib stream at the start of `out`. Returns its length; `None` if the page does not get
    /// smaller.
    pub fn compress(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8; ROOM]) -> Option<usize> {
        self.page.set(page);
        self.seen.clear();
        self.seen_short.clear();
        let frequencies = self.find_sequences();
        let own = Codes::new(&frequencies);
        let header = BlockHeader::new(&own);
        let (own_cost, fixed_cost) = (header.cost() + own.cost(&frequencies), self.fixed.cost(&frequencies));
        // Two bytes and three bits in front, and a checksum behind.
        let len = 2 + (3 + own_cost.min(fixed_cost)).div_ceil(8) as usize;
        if len + 4 >= PAGE_SIZE {
            return None;
        }
        // Deflate with a window of 32 KiB; the first and last block, with codes of its own or the fixed ones.
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

    /// Takes the page apart. Returns how often each symbol is needed.
    fn find_sequences(&mut self) -> Frequencies {
        let Self { page, seen, seen_short, sequences, .. } = self;
        let mut frequencies = Frequencies { literals: [0; LITERALS], distances: [0; DISTANCES] };
        sequences.clear();
        // Literals are pending from `start` on. The page's first bytes count as seen.
        let (mut start, mut at) = (0, 1);
        while at < PAGE_SIZE - 9 {
            let here = page.eight(at);
            let [last, earlier] = seen.push(here, at).map(usize::from);
            let [short] = seen_short.push(here, at).map(usize::from);
            let (mut before, mut length) = (last, page.common(last, at, here));
            let length_earlier = page.common(earlier, at, here);
            if length_earlier > length {
                (before, length) = (earlier, length_earlier);
            }
            if length <= SHORT_MATCH {
                (before, length) = (short, page.common(short, at, here));
                if length < MIN_MATCH || at - before > SHORT_DISTANCE {
                    at += 1;
                    continue;
                }
            }
            if length < LONG_ENOUGH {
                let next = page.eight(at + 1);
                let [last, _] = seen.get(next).map(usize::from);
                let length_next = page.common(last, at + 1, next);
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
            frequencies.literals[FIRST_LENGTH + usize::from(LENGTH_CLASS[length])] += 1;
            frequencies.distances[usize::from(DISTANCE_CLASS[distance % PAGE_SIZE])] += 1;
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

    /// Writes what was found, and the end of the block.
    fn write_block(&self, codes: &Codes, bits: &mut BitWriter<'_>) {
        let code = |symbol: usize| (codes.literals.bits[symbol], codes.literals.lengths[symbol]);
        let literal_codes: [_; 256] = std::array::from_fn(code);
        let put_literals = |bits: &mut BitWriter<'_>, literals: &[u8]| {
            // Codes have 15 bits at most: three of them fit beside what is left of a byte.
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
            let (literals, behind) = rest.split_at(usize::from(sequence.literals));
            put_literals(bits, literals);
            rest = &behind[usize::from(sequence.length)..];

            let class = usize::from(LENGTH_CLASS[usize::from(sequence.length)]);
            let (code, length) = code(FIRST_LENGTH + class);
            bits.add(u64::from(code), u32::from(length));
            bits.add(u64::from(sequence.length - LENGTH_CLASSES[class]), length_bits(class));
            let class = usize::from(DISTANCE_CLASS[usize::from(sequence.distance) % PAGE_SIZE]);
            let (code, length) = (codes.distances.bits[class], codes.distances.lengths[class]);
            bits.add(u64::from(code), u32::from(length));
            bits.add(u64::from(sequence.distance - DISTANCE_CLASSES[class]), distance_bits(class));
            bits.flush();
        }
        put_literals(bits, rest);
        let (code, length) = code(END);
        bits.put(u64::from(code), u32::from(length));
    }
}

/// Symbols of the code in which the lengths of codes are written: lengths up to 15, and three kinds of runs.
const LENGTH_SYMBOLS: usize = 19;
/// The last length again, 3 to 6 times; and 3 to 10, or 11 to 138 times no code.
const AGAIN: u8 = 16;
const FEW_WITHOUT: u8 = 17;
const MANY_WITHOUT: u8 = 18;
/// Bits that say how long each kind of run is.
const RUN_BITS: [u32; LENGTH_SYMBOLS] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 7];
/// The order in which the lengths of this code are written, so that the last ones are often not needed.
const ORDER: [usize; LENGTH_SYMBOLS] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// What says, in front of a block, which codes it has.
struct BlockHeader {
    literals: usize,
    distances: usize,
    /// Symbols, each with the number that its run bits hold.
    symbols: [(u8, u8); LITERALS + DISTANCES],
    used: usize,
    frequencies: [u16; LENGTH_SYMBOLS],
    code: Code<LENGTH_SYMBOLS>,
    /// How many lengths of it, in their order, are written.
    code_lengths: usize,
}

impl BlockHeader {
    fn new(codes: &Codes) -> Self {
        let upto_last =
            |lengths: &[u8]| lengths.iter().rposition(|length| *length > 0).map_or(0, |last| last + 1);
        let (literals, distances) =
            (upto_last(&codes.literals.lengths), upto_last(&codes.distances.lengths).max(1));
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
        header.code_lengths = upto_last(&lengths).max(4);
        header
    }

    /// Adds the same code length so many times.
    fn add_run(&mut self, length: u8, mut times: usize) {
        if length == 0 {
            while times >= 11 {
                let run = times.min(138);
                self.add(MANY_WITHOUT, run - 11);
                times -= run;
            }
            if times >= 3 {
                self.add(FEW_WITHOUT, times - 3);
                times = 0;
            }
        } else if times >= 4 {
            self.add(length, 0);
            times -= 1;
            while times >= 3 {
                let run = times.min(6);
                self.add(AGAIN, run - 3);
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

    /// Bits that it takes.
    fn cost(&self) -> u32 {
        let runs: u32 = self.frequencies.iter().zip(RUN_BITS).map(|(f, bits)| u32::from(*f) * bits).sum();
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
            bits.put(u64::from(*run), RUN_BITS[symbol]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_format() {
        assert_eq!([3, 10, 11, 12, 13, 257, 258].map(|l| LENGTH_CLASS[l]), [0, 7, 8, 8, 9, 27, 28]);
        assert_eq!([1, 4, 5, 6, 7, 4095].map(|d| DISTANCE_CLASS[d]), [0, 3, 4, 4, 5, 23]);
        for (class, pair) in LENGTH_CLASSES.windows(2).enumerate().take(27) {
            assert_eq!(pair[1] - pair[0], 1 << length_bits(class));
        }
        for (class, pair) in DISTANCE_CLASSES.windows(2).enumerate() {
            assert_eq!(pair[1] - pair[0], 1 << distance_bits(class));
        }
    }

    /// A page that is made byte by byte.
    fn page(byte: impl FnMut(usize) -> u8) -> [u8; PAGE_SIZE] {
        std::array::from_fn(byte)
    }

    #[test]
    fn every_kind_of_block_inflates() {
        let mut noise = 1u64;
        let mut noise = || {
            noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (noise >> 56) as u8
        };
        let mut encoder = Encoder::new();
        let pages = [
            // No match at all but runs; one distance; many codes; hardly smaller; and frequencies that need long codes.
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
