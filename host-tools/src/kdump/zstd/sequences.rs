//! The sequences of a block: so many literals, then so many bytes that were there so far back.

use super::super::bits::BitWriter;
use super::super::codec::Compressor;
use super::super::fse::{self, Table};
use scanner_core::PAGE_SIZE;

/// Shortest match of the format, from which lengths count.
const FIRST_LENGTH: usize = 3;
/// Most sequences of a page.
const MOST: usize = PAGE_SIZE / FIRST_LENGTH;

/// Numbers are in classes: a symbol for the class, and some bits for which of it. Small ones are a class each; these are
/// the classes up to 63 and 127. From there on, each class is a power of two.
static LITERALS_CLASS: [u8; 64] =
    classes(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 8, 8, 16]);
static LENGTH_CLASS: [u8; 128] = classes(&[
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
    2, 4, 4, 8, 8, 16, 16, 32,
]);
/// Bits that tell the values of a class apart.
const LITERALS_BITS: [u8; 64] = extra_bits(&[(16, 1), (20, 2), (22, 3), (24, 4), (25, 6)]);
const LENGTH_BITS: [u8; 64] = extra_bits(&[(32, 1), (36, 2), (38, 3), (40, 4), (42, 5), (43, 7)]);

/// The shares of the tables that need not be written.
const LITERALS_SHARES: fse::Shares = padded(&[
    4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1,
    -1, -1,
]);
const OFFSET_SHARES: fse::Shares =
    padded(&[1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1]);
const LENGTH_SHARES: fse::Shares = padded(&[
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
]);

const fn padded(shares: &[i8]) -> fse::Shares {
    let mut padded = [0; fse::SYMBOLS];
    let mut at = 0;
    while at < shares.len() {
        padded[at] = shares[at];
        at += 1;
    }
    padded
}

/// The class of each value, given how many values each class has.
const fn classes<const VALUES: usize>(sizes: &[u8]) -> [u8; VALUES] {
    let mut class = [0; VALUES];
    let (mut value, mut at) = (0, 0);
    while at < sizes.len() {
        let mut left = sizes[at];
        while left > 0 {
            class[value] = at as u8;
            value += 1;
            left -= 1;
        }
        at += 1;
    }
    class
}

/// The extra bits of each class: none up to the first of `steps`, then as those say, then one more with each class.
const fn extra_bits(steps: &[(u8, u8)]) -> [u8; 64] {
    let mut bits = [0; 64];
    let (mut class, mut step) = (0, 0);
    while class < 64 {
        while step + 1 < steps.len() && class >= steps[step + 1].0 {
            step += 1;
        }
        let (from, first) = steps[step];
        if class >= from {
            bits[class as usize] = if step + 1 == steps.len() { first + class - from } else { first };
        }
        class += 1;
    }
    bits
}

/// Literals, and a match behind them: three numbers by their classes, and the bits that tell the values of those apart.
#[derive(Clone, Copy, Default)]
struct Sequence {
    classes: [u8; 3],
    extra_bits: u8,
    extra: u64,
}

/// How many classes each of the numbers has in a page.
const CLASSES: [usize; 3] = [32, 13, 48];
/// Their places.
const LITERALS: usize = 0;
const OFFSET: usize = 1;
const LENGTH: usize = 2;

/// The sequences of a page.
pub struct Sequences {
    found: Box<[Sequence; MOST]>,
    len: usize,
    /// How often each class occurs.
    frequencies: [[u16; fse::SYMBOLS]; 3],
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
            frequencies: [[0; fse::SYMBOLS]; 3],
            recent: FIRST_OFFSETS,
            known,
            own: [Table::new(), Table::new(), Table::new()],
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.len = 0;
        self.frequencies = [[0; fse::SYMBOLS]; 3];
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
        let classes = [
            LITERALS_CLASS.get(literals).map_or_else(|| 19 + literals.ilog2() as u8, |class| *class),
            offset.ilog2() as u8,
            LENGTH_CLASS.get(length).map_or_else(|| 36 + length.ilog2() as u8, |class| *class),
        ];
        for (frequencies, class) in self.frequencies.iter_mut().zip(classes) {
            frequencies[usize::from(class) % fse::SYMBOLS] += 1;
        }
        let extra = |value: usize, bits: u8| value as u64 & ((1 << (bits % 64)) - 1);
        let counts = [
            LITERALS_BITS[usize::from(classes[LITERALS]) % 64],
            LENGTH_BITS[usize::from(classes[LENGTH]) % 64],
            classes[OFFSET],
        ];
        let extra = extra(literals, counts[0])
            | extra(length, counts[1]) << counts[0]
            | extra(offset, counts[2]) << (counts[0] + counts[1]);
        self.found[self.len % MOST] = Sequence { classes, extra_bits: counts.iter().sum(), extra };
        self.len += 1;
    }

    /// Writes the sequences to `out[at..]`. Returns where they end.
    #[inline(always)]
    pub fn write(&mut self, out: &mut [u8; Compressor::ROOM], at: usize) -> usize {
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
        let kinds: [_; 3] =
            std::array::from_fn(|which| Kind::of(&frequencies[which][..CLASSES[which]], count));
        let modes = kinds.iter().map(|kind| match kind {
            Kind::Known => 0,
            Kind::One(_) => 1,
            Kind::Own(..) => 2,
        });
        bits.put(modes.fold(0, |modes, mode| (modes | mode) << 2), 8);
        let mut tables = [&known[0], &known[1], &known[2]];
        for (((kind, classes), own), table) in kinds.into_iter().zip(CLASSES).zip(own).zip(&mut tables) {
            match kind {
                Kind::Known => continue,
                Kind::One(symbol) => {
                    bits.put(symbol as u64, 8);
                    own.set_to_one(symbol);
                }
                Kind::Own(shares, log) => {
                    fse::write_shares(&shares, log, &mut bits);
                    bits.align();
                    own.set(&shares[..classes], log);
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
    fn of(frequencies: &[u16], count: usize) -> Self {
        let (mut used, mut most, mut last) = (0, 0, 0);
        for (symbol, frequency) in frequencies.iter().enumerate() {
            used += usize::from(*frequency > 0);
            most = most.max(*frequency);
            last = if *frequency > 0 { symbol } else { last };
        }
        if used == 1 {
            return Kind::One(last);
        }
        if count < WORTH_TABLES {
            return Kind::Known;
        }
        let log = fse::log_for(used, count);
        Kind::Own(fse::shares(frequencies, count as u32, log), log)
    }
}
