//! The sequences of a block: so many literals, then so many bytes that were there so far back.

use crate::bits::BitWriter;
use crate::fse::{self, Table};
use crate::page::{PAGE_SIZE, ROOM};

/// Shortest match of the format, from which lengths count.
const FIRST_LENGTH: usize = 3;
/// Room for the sequences of a page: more than there can be, since a remainder by a power of two costs next to nothing.
const MOST: usize = (PAGE_SIZE / FIRST_LENGTH).next_power_of_two();

/// Numbers are in classes: a symbol for the class, and some bits for which of it. Small ones are a class each; these are
/// the classes up to 63 and 127. From there on, each class is a power of two.
static LITERALS_CLASS: [Class; 64] =
    classes(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4]);
static LENGTH_CLASS: [Class; 128] = classes(&[
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1,
    1, 2, 2, 3, 3, 4, 4, 5,
]);

/// A class of numbers.
#[derive(Clone, Copy)]
struct Class {
    symbol: u8,
    /// Bits that tell its numbers apart: the lowest ones of the number.
    bits: u8,
}

impl Class {
    /// The class of `number` whose numbers are those with the same highest bit. It has the symbol `first` and those bits
    /// more.
    #[inline(always)]
    fn power_of_two(number: usize, first: u8) -> Self {
        let bits = (number | 1).ilog2() as u8;
        Self { symbol: first + bits, bits }
    }
}

/// The class of each number, given how many bits tell those of each class apart.
const fn classes<const NUMBERS: usize>(bits: &[u8]) -> [Class; NUMBERS] {
    let mut classes = [Class { symbol: 0, bits: 0 }; NUMBERS];
    let (mut number, mut symbol) = (0, 0);
    while symbol < bits.len() {
        let end = number + (1 << bits[symbol]);
        while number < end {
            classes[number] = Class { symbol: symbol as u8, bits: bits[symbol] };
            number += 1;
        }
        symbol += 1;
    }
    classes
}

/// The shares of the tables that need not be written.
const LITERALS_SHARES: fse::Shares = fse::Shares::new(&[
    4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1,
    -1, -1,
]);
const OFFSET_SHARES: fse::Shares = fse::Shares::new(&[
    1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
]);
const LENGTH_SHARES: fse::Shares = fse::Shares::new(&[
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
]);

/// Literals, and a match behind them: three numbers by their classes, and the bits that tell the values of those apart.
#[derive(Clone, Copy, Default)]
struct Sequence {
    classes: [u8; 3],
    extra_bits: u8,
    extra: u64,
}

/// The places of the three numbers.
const LITERALS: usize = 0;
const OFFSET: usize = 1;
const LENGTH: usize = 2;

/// The sequences of a page.
pub struct Sequences {
    found: Box<[Sequence; MOST]>,
    len: usize,
    /// How often each class occurs.
    frequencies: [fse::Frequencies; 3],
    /// The last three different offsets.
    recent: [usize; 3],
    /// The tables that need not be written, and those of the page.
    known: [Table; 3],
    own: [Table; 3],
}

impl Sequences {
    /// None yet.
    pub fn new() -> Self {
        let known = [(&LITERALS_SHARES, 6), (&OFFSET_SHARES, 5), (&LENGTH_SHARES, 6)].map(|(shares, log)| {
            let mut table = Table::new();
            table.set(shares, log);
            table
        });
        Self {
            found: Box::new([Sequence::default(); MOST]),
            len: 0,
            frequencies: [fse::Frequencies::NONE; 3],
            recent: FIRST_OFFSETS,
            known,
            own: [Table::new(), Table::new(), Table::new()],
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.len = 0;
        self.frequencies = [fse::Frequencies::NONE; 3];
        self.recent = FIRST_OFFSETS;
    }

    /// The last offset: a match with it takes the fewest bits.
    #[inline(always)]
    pub fn last_offset(&self) -> usize {
        self.recent[0]
    }

    /// The offset before that: right behind a match it takes the fewest bits.
    #[inline(always)]
    pub fn second_last_offset(&self) -> usize {
        self.recent[1]
    }

    /// Adds so many literals, and behind them a match of `length` bytes, three at least, that were there `distance` bytes
    /// before.
    #[inline(always)]
    pub fn add(&mut self, literals: usize, length: usize, distance: usize) {
        let length = length - FIRST_LENGTH;
        let [first, second, third] = self.recent;
        // 1 to 3 stand for recent offsets. Right behind a match the last one would have been part of that match: there
        // the numbers are one off, and 3 stands for something that is not worth a look.
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
        let literals_class =
            LITERALS_CLASS.get(literals).map_or_else(|| Class::power_of_two(literals, 19), |class| *class);
        let length_class =
            LENGTH_CLASS.get(length).map_or_else(|| Class::power_of_two(length, 36), |class| *class);
        let offset_class = Class::power_of_two(offset, 0);
        let classes = [literals_class.symbol, offset_class.symbol, length_class.symbol];
        for (frequencies, class) in self.frequencies.iter_mut().zip(classes) {
            frequencies.add(class);
        }
        let (mut extra, mut extra_bits) = (0, 0);
        for (number, class) in [(literals, literals_class), (length, length_class), (offset, offset_class)] {
            extra |= (number as u64 & ((1 << (class.bits % 64)) - 1)) << extra_bits;
            extra_bits += class.bits;
        }
        self.found[self.len % MOST] = Sequence { classes, extra_bits, extra };
        self.len += 1;
    }

    /// Writes the sequences to `out[at..]`. Returns where they end.
    #[inline(always)]
    pub fn write(&mut self, out: &mut [u8; ROOM], at: usize) -> usize {
        let Self { found, len, frequencies, known, own, .. } = self;
        let sequences = &found[..*len % MOST];
        let count = sequences.len();
        let mut bits = BitWriter::new(out, at);
        if count < 128 {
            bits.put(count as u64, 8);
        } else {
            bits.put((count >> 8 | 0x80) as u64, 8);
            bits.put((count & 0xff) as u64, 8);
        }
        let Some((last, others)) = sequences.split_last() else { return bits.finish() };
        let kinds = frequencies.each_ref().map(|frequencies| Kind::of(frequencies, count));
        let modes = kinds.iter().map(|kind| match kind {
            Kind::Known => 0,
            Kind::One(_) => 1,
            Kind::Own(..) => 2,
        });
        bits.put(modes.fold(0, |modes, mode| (modes | mode) << 2), 8);
        let mut tables = [&known[0], &known[1], &known[2]];
        for ((kind, own), table) in kinds.into_iter().zip(own).zip(&mut tables) {
            match kind {
                Kind::Known => continue,
                Kind::One(symbol) => {
                    bits.put(symbol as u64, 8);
                    own.set_to_one(symbol);
                }
                Kind::Own(shares, log) => {
                    fse::write_shares(&shares, log, &mut bits);
                    bits.align();
                    own.set(&shares, log);
                }
            }
            *table = own;
        }
        let [literals, offsets, lengths] = tables;
        let mut states = [
            literals.start(last.classes[LITERALS]),
            offsets.start(last.classes[OFFSET]),
            lengths.start(last.classes[LENGTH]),
        ];
        bits.add(last.extra, u32::from(last.extra_bits));
        bits.flush();
        for sequence in others.iter().rev() {
            states[OFFSET] = offsets.add(states[OFFSET], sequence.classes[OFFSET], &mut bits);
            states[LENGTH] = lengths.add(states[LENGTH], sequence.classes[LENGTH], &mut bits);
            states[LITERALS] = literals.add(states[LITERALS], sequence.classes[LITERALS], &mut bits);
            bits.add(sequence.extra, u32::from(sequence.extra_bits));
            bits.flush();
        }
        lengths.end(states[LENGTH], &mut bits);
        offsets.end(states[OFFSET], &mut bits);
        literals.end(states[LITERALS], &mut bits);
        bits.end_backwards()
    }
}

/// What the recent offsets are at first.
const FIRST_OFFSETS: [usize; 3] = [1, 4, 8];

/// How the table of one of the three numbers is told.
enum Kind {
    Known,
    One(usize),
    Own(fse::Shares, u32),
}

/// So many sequences pay for tables of their own.
const WORTH_TABLES: usize = 48;

impl Kind {
    /// The best kind for `count` sequences whose classes occur so often.
    fn of(frequencies: &fse::Frequencies, count: usize) -> Self {
        if let Some(only) = frequencies.only() {
            return Kind::One(only);
        }
        if count < WORTH_TABLES {
            return Kind::Known;
        }
        let log = fse::log_for(frequencies.symbols(), count);
        Kind::Own(fse::shares(frequencies, count as u32, log), log)
    }
}
