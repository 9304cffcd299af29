//! Writes the sequences section of a block. A sequence is a number of literals, then a match with its offset.

use crate::bits::BitWriter;
use crate::fse::{self, Table};
use crate::page::{PAGE_SIZE, ROOM};

/// Shortest match of the format, in bytes. The format stores lengths minus this.
const FIRST_LENGTH: usize = 3;
/// Capacity for the sequences of a page. It is more than a page can have, and a power of two, for cheap remainders.
const CAPACITY: usize = (PAGE_SIZE / FIRST_LENGTH).next_power_of_two();

/// The format stores a number as a code and extra bits. These tables have the codes of the literals lengths up to 63
/// and of the match lengths up to 127. Above them, the numbers with the same highest bit have the same code.
static LITERALS_CODES: [Code; 64] =
    codes(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4]);
static LENGTH_CODES: [Code; 128] = codes(&[
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1,
    1, 2, 2, 3, 3, 4, 4, 5,
]);

/// The code of a number.
#[derive(Clone, Copy)]
struct Code {
    symbol: u8,
    /// Number of extra bits: the low bits of the number, which distinguish the numbers of a code.
    bits: u8,
}

impl Code {
    /// The code of all numbers with the same highest bit as `number`. Its symbol is `first` plus the index of that bit.
    #[inline(always)]
    fn power_of_two(number: usize, first: u8) -> Self {
        let bits = (number | 1).ilog2() as u8;
        Self { symbol: first + bits, bits }
    }
}

/// The code of each number, given the number of extra bits of each code.
const fn codes<const NUMBERS: usize>(bits: &[u8]) -> [Code; NUMBERS] {
    let mut codes = [Code { symbol: 0, bits: 0 }; NUMBERS];
    let (mut number, mut symbol) = (0, 0);
    while symbol < bits.len() {
        let end = number + (1 << bits[symbol]);
        while number < end {
            codes[number] = Code { symbol: symbol as u8, bits: bits[symbol] };
            number += 1;
        }
        symbol += 1;
    }
    codes
}

/// The predefined distributions of the format, which a block does not need to describe.
const LITERALS_PREDEFINED: fse::Probabilities = fse::Probabilities::new(&[
    4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1,
    -1, -1,
]);
const OFFSET_PREDEFINED: fse::Probabilities = fse::Probabilities::new(&[
    1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
]);
const LENGTH_PREDEFINED: fse::Probabilities = fse::Probabilities::new(&[
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
]);

/// A sequence: the codes of its literals length, its offset and its match length, and the extra bits of all three.
#[derive(Clone, Copy, Default)]
struct Sequence {
    codes: [u8; 3],
    /// Number of bits in `extra`.
    extra_bits: u8,
    extra: u64,
}

/// Indices of the three numbers in an array.
const LITERALS: usize = 0;
const OFFSET: usize = 1;
const LENGTH: usize = 2;

/// The sequences of a page.
pub struct Sequences {
    found: Box<[Sequence; CAPACITY]>,
    len: usize,
    /// Frequency of each code.
    frequencies: [fse::Frequencies; 3],
    /// The last three offsets, all different: the format's repeated offsets.
    recent: [usize; 3],
    /// The predefined tables, and the tables of this page.
    predefined: [Table; 3],
    own: [Table; 3],
}

impl Sequences {
    /// Creates an empty list.
    pub fn new() -> Self {
        let predefined = [(&LITERALS_PREDEFINED, 6), (&OFFSET_PREDEFINED, 5), (&LENGTH_PREDEFINED, 6)];
        let predefined = predefined.map(|(probabilities, log)| {
            let mut table = Table::new();
            table.set(probabilities, log);
            table
        });
        Self {
            found: Box::new([Sequence::default(); CAPACITY]),
            len: 0,
            frequencies: [fse::Frequencies::NONE; 3],
            recent: FIRST_OFFSETS,
            predefined,
            own: [Table::new(), Table::new(), Table::new()],
        }
    }

    /// Removes all sequences.
    pub fn clear(&mut self) {
        self.len = 0;
        self.frequencies = [fse::Frequencies::NONE; 3];
        self.recent = FIRST_OFFSETS;
    }

    /// The last offset. A match with this offset takes the fewest bits.
    #[inline(always)]
    pub fn last_offset(&self) -> usize {
        self.recent[0]
    }

    /// The second last offset. Directly after a match, a match with this offset takes the fewest bits.
    #[inline(always)]
    pub fn second_last_offset(&self) -> usize {
        self.recent[1]
    }

    /// Adds a sequence: `literals` literals, then a match of `length` bytes, at least 3, with the bytes `distance`
    /// earlier.
    #[inline(always)]
    pub fn add(&mut self, literals: usize, length: usize, distance: usize) {
        let length = length - FIRST_LENGTH;
        let [first, second, third] = self.recent;
        // Values 1 to 3 mean the recent offsets. Without literals, the last offset is useless: it would have continued
        // the match before. Then 1 and 2 mean the second and the third offset, and 3 the first minus 1, which the
        // encoder does not use.
        let shift = usize::from(literals == 0);
        let mut offset = distance + 3;
        offset = if distance == third { 3 - shift } else { offset };
        offset = if distance == second { 2 - shift } else { offset };
        offset = if distance == first && shift == 0 { 1 } else { offset };
        self.recent = [
            distance,
            if distance == first { second } else { first },
            if distance == first || distance == second { third } else { second },
        ];
        let literals_code =
            LITERALS_CODES.get(literals).map_or_else(|| Code::power_of_two(literals, 19), |code| *code);
        let length_code =
            LENGTH_CODES.get(length).map_or_else(|| Code::power_of_two(length, 36), |code| *code);
        let offset_code = Code::power_of_two(offset, 0);
        let codes = [literals_code.symbol, offset_code.symbol, length_code.symbol];
        for (frequencies, code) in self.frequencies.iter_mut().zip(codes) {
            frequencies.add(code);
        }
        let (mut extra, mut extra_bits) = (0, 0);
        for (number, code) in [(literals, literals_code), (length, length_code), (offset, offset_code)] {
            extra |= (number as u64 & ((1 << (code.bits % 64)) - 1)) << extra_bits;
            extra_bits += code.bits;
        }
        self.found[self.len % CAPACITY] = Sequence { codes, extra_bits, extra };
        self.len += 1;
    }

    /// Writes the sequences section to `out[at..]`. Returns its end.
    #[inline(always)]
    pub fn write(&mut self, out: &mut [u8; ROOM], at: usize) -> usize {
        let Self { found, len, frequencies, predefined, own, .. } = self;
        let sequences = &found[..*len % CAPACITY];
        let count = sequences.len();
        let mut bits = BitWriter::new(out, at);
        if count < 128 {
            bits.put(count as u64, 8);
        } else {
            bits.put((count >> 8 | 0x80) as u64, 8);
            bits.put((count & 0xff) as u64, 8);
        }
        let Some((last, others)) = sequences.split_last() else { return bits.finish() };
        let modes = frequencies.each_ref().map(|frequencies| Mode::of(frequencies, count));
        let mode_numbers = modes.iter().map(|mode| match mode {
            Mode::Predefined => 0,
            Mode::Rle(_) => 1,
            Mode::Compressed(..) => 2,
        });
        bits.put(mode_numbers.fold(0, |numbers, number| (numbers | number) << 2), 8);
        let mut tables = [&predefined[0], &predefined[1], &predefined[2]];
        for ((mode, own), table) in modes.into_iter().zip(own).zip(&mut tables) {
            match mode {
                Mode::Predefined => continue,
                Mode::Rle(symbol) => {
                    bits.put(symbol as u64, 8);
                    own.set_single(symbol);
                }
                Mode::Compressed(probabilities, log) => {
                    fse::write_probabilities(&probabilities, log, &mut bits);
                    bits.align();
                    own.set(&probabilities, log);
                }
            }
            *table = own;
        }
        let [literals, offsets, lengths] = tables;
        let mut states = [
            literals.start(last.codes[LITERALS]),
            offsets.start(last.codes[OFFSET]),
            lengths.start(last.codes[LENGTH]),
        ];
        bits.add(last.extra, u32::from(last.extra_bits));
        bits.flush();
        for sequence in others.iter().rev() {
            states[OFFSET] = offsets.add(states[OFFSET], sequence.codes[OFFSET], &mut bits);
            states[LENGTH] = lengths.add(states[LENGTH], sequence.codes[LENGTH], &mut bits);
            states[LITERALS] = literals.add(states[LITERALS], sequence.codes[LITERALS], &mut bits);
            bits.add(sequence.extra, u32::from(sequence.extra_bits));
            bits.flush();
        }
        lengths.end(states[LENGTH], &mut bits);
        offsets.end(states[OFFSET], &mut bits);
        literals.end(states[LITERALS], &mut bits);
        bits.finish_backward()
    }
}

/// The recent offsets at the start of a frame.
const FIRST_OFFSETS: [usize; 3] = [1, 4, 8];

/// The compression mode of one of the three numbers: how the block describes its table.
enum Mode {
    /// Predefined_Mode.
    Predefined,
    /// RLE_Mode, with the only code.
    Rle(usize),
    /// FSE_Compressed_Mode, with the probabilities and the accuracy log.
    Compressed(fse::Probabilities, u32),
}

/// Smallest number of sequences for which a table of their own is worth its description.
const MIN_FOR_TABLES: usize = 48;

impl Mode {
    /// The best mode for `count` sequences with these frequencies.
    fn of(frequencies: &fse::Frequencies, count: usize) -> Self {
        if let Some(only) = frequencies.only() {
            return Mode::Rle(only);
        }
        if count < MIN_FOR_TABLES {
            return Mode::Predefined;
        }
        let log = fse::accuracy_log(frequencies.symbols(), count);
        Mode::Compressed(fse::normalize(frequencies, count as u32, log), log)
    }
}
