//! The FSE codes (finite state entropy) of Zstandard, RFC 8878, section 4.1. A symbol can take a fraction of a bit.
//!
//! A table has a power of two of states. The number of states of a symbol is about proportional to its frequency. The
//! encoder processes the symbols from the last to the first. For each symbol, it writes the low bits of its state, and
//! changes to a state of the symbol. The decoder is in that new state, and derives the other bits from it.

use crate::bits::BitWriter;

/// Largest number of symbols of a code.
pub const SYMBOLS: usize = 64;
/// Largest number of states of a table, and its base-2 logarithm.
const STATES: usize = 1 << MAX_LOG;
const MAX_LOG: u32 = 7;
/// Number of bytes in one copy of a fixed size.
const PIECE: usize = 16;
/// Smallest accuracy log (base-2 logarithm of the number of states) that the format can store.
pub const MIN_LOG: u32 = 5;

/// An encoding table.
pub struct Table {
    log: u32,
    /// The states in the order of their symbols. The number of a state is its index in the decoder's table plus the
    /// table's size.
    states: [u8; STATES],
    /// The symbols. Only those that occur are valid.
    symbols: [Symbol; SYMBOLS],
}

/// The states of one symbol.
#[derive(Clone, Copy, Default)]
struct Symbol {
    /// The sum of this and a state's number has the number of bits to write in its upper 16 bits.
    bits: u32,
    /// The sum of this and the remaining high bits of the state's number is the index of the next state in `states`.
    place: i16,
    /// Index of the symbol's first state in `states`.
    first: u16,
}

/// The frequency of each symbol.
#[derive(Clone, Copy)]
pub struct Frequencies {
    counts: [u16; SYMBOLS],
    used: SymbolSet,
}

impl Frequencies {
    /// No symbol occurs.
    pub const NONE: Self = Self { counts: [0; SYMBOLS], used: SymbolSet(0) };

    /// The frequencies `counts`, at most 64.
    pub fn of(counts: &[u16]) -> Self {
        let mut frequencies = Self::NONE;
        for (symbol, count) in counts.iter().enumerate().take(SYMBOLS) {
            frequencies.counts[symbol] = *count;
            frequencies.used.0 |= u64::from(*count > 0) << symbol;
        }
        frequencies
    }

    /// Adds 1 to the frequency of `symbol`.
    #[inline(always)]
    pub fn add(&mut self, symbol: u8) {
        self.counts[usize::from(symbol) % SYMBOLS] += 1;
        self.used.0 |= 1 << (symbol % 64);
    }

    /// Number of symbols that occur.
    pub fn symbols(&self) -> usize {
        self.used.0.count_ones() as usize
    }

    /// The symbol that occurs, if there is exactly one.
    pub fn only(&self) -> Option<usize> {
        (self.symbols() == 1).then(|| self.used.0.trailing_zeros() as usize)
    }
}

/// A set of symbols, as a mask. Membership is unpredictable, so iterating over the members costs less than testing each
/// symbol.
#[derive(Clone, Copy)]
struct SymbolSet(u64);

impl Iterator for SymbolSet {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let symbol = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (symbol < SYMBOLS).then_some(symbol)
    }
}

/// The probability of each symbol: its number of states. -1 is the format's "less than 1" probability: the symbol has
/// one state, at the end of the table.
pub struct Probabilities {
    of: [i8; SYMBOLS],
    used: SymbolSet,
}

impl Probabilities {
    /// Sets the probabilities of the first symbols. Those of the others are 0.
    pub const fn new(probabilities: &[i8]) -> Self {
        let mut made = Self { of: [0; SYMBOLS], used: SymbolSet(0) };
        let mut symbol = 0;
        while symbol < probabilities.len() {
            made.of[symbol] = probabilities[symbol];
            made.used.0 |= ((probabilities[symbol] != 0) as u64) << symbol;
            symbol += 1;
        }
        made
    }
}

impl Table {
    /// Creates an empty table. Call [`set`](Self::set) before any other method.
    pub fn new() -> Self {
        Self { log: 0, states: [0; STATES], symbols: [Symbol::default(); SYMBOLS] }
    }

    /// Makes this the table of `1 << log` states with these probabilities.
    pub fn set(&mut self, probabilities: &Probabilities, log: u32) {
        let size = 1usize << log;
        // List each symbol once for each of its states. Symbols of probability -1 are at the end of the table instead.
        let mut listed = [0u8; STATES + PIECE];
        let (mut place, mut end, mut len) = (0u16, size, 0);
        let mut places = [0u8; SYMBOLS];
        for number in probabilities.used {
            let probability = u16::from(probabilities.of[number].unsigned_abs());
            if probabilities.of[number] < 0 {
                end -= 1;
            } else {
                for at in (len..len + usize::from(probability)).step_by(PIECE) {
                    listed[at % STATES..][..PIECE].copy_from_slice(&[number as u8; PIECE]);
                }
                len += usize::from(probability);
            }
            let most_bits = log - (probability.saturating_sub(1) | 1).ilog2();
            self.symbols[number] = Symbol {
                bits: (most_bits << 16).wrapping_sub(u32::from(probability) << most_bits),
                place: place.wrapping_sub(probability) as i16,
                first: place,
            };
            places[number] = place as u8;
            place += probability;
        }
        // Spread the listed symbols over the rest of the table, with the step of the format.
        let mut symbol_of = [0u8; STATES];
        let step = size / 2 + size / 8 + 3;
        let (mut at, mut next) = (0, 0);
        for _ in 0..size {
            symbol_of[at % STATES] = listed[next % STATES];
            next += usize::from(at < end);
            at = (at + step) % size;
        }
        let rare = probabilities.used.filter(|number| probabilities.of[*number] < 0);
        for (number, state) in rare.zip((end..size).rev()) {
            symbol_of[state % STATES] = number as u8;
        }
        for (state, symbol) in symbol_of[..size].iter().enumerate() {
            let place = &mut places[usize::from(*symbol) % SYMBOLS];
            self.states[usize::from(*place) % STATES] = (size + state) as u8;
            *place += 1;
        }
        self.log = log;
    }

    /// Makes this the table of a code with a single symbol, which takes no bits.
    pub fn set_single(&mut self, symbol: usize) {
        let mut of = [0; SYMBOLS];
        of[symbol % SYMBOLS] = 1;
        self.set(&Probabilities { of, used: SymbolSet(1 << (symbol % SYMBOLS)) }, 0);
    }

    /// The initial state, which encodes the last symbol. Returns a state for which the decoder must read bits, so that
    /// it detects the end of the stream.
    #[inline(always)]
    pub fn start(&self, symbol: u8) -> u32 {
        u32::from(self.states[usize::from(self.symbols[usize::from(symbol) % SYMBOLS].first) % STATES])
    }

    /// Encodes `symbol`, which the decoder reads before `state`. Adds at most 7 bits. Returns the new state.
    #[inline(always)]
    pub fn add(&self, state: u32, symbol: u8, bits: &mut BitWriter<'_>) -> u32 {
        let symbol = &self.symbols[usize::from(symbol) % SYMBOLS];
        let count = state.wrapping_add(symbol.bits) >> 16;
        bits.add(u64::from(state & !(!0 << count)), count);
        let place = (state >> count) as usize;
        u32::from(self.states[place.wrapping_add(symbol.place as usize) % STATES])
    }

    /// Adds the final state, with which the decoder starts.
    #[inline(always)]
    pub fn end(&self, state: u32, bits: &mut BitWriter<'_>) {
        bits.add(u64::from(state) & ((1 << self.log) - 1), self.log);
    }
}

/// Normalizes frequencies to probabilities with the sum `1 << log`. At least two symbols must occur, and `total` is the
/// sum of the frequencies. Each symbol that occurs gets at least one state.
pub fn normalize(frequencies: &Frequencies, total: u32, log: u32) -> Probabilities {
    let mut probabilities = Probabilities { of: [0; SYMBOLS], used: frequencies.used };
    let size = 1i32 << log;
    let scale = (1u32 << (16 + log)) / total.max(1);
    let (mut left, mut largest) = (size, 0);
    for symbol in frequencies.used {
        let probability = (u32::from(frequencies.counts[symbol]) * scale + 0x8000) >> 16;
        let probability = probability.clamp(1, size as u32 - 1) as i8;
        probabilities.of[symbol] = probability;
        left -= i32::from(probability);
        largest = if probability > probabilities.of[largest] { symbol } else { largest };
    }
    // The most probable symbol gets the rounding error. If the error is too large, other symbols get a part of it.
    let largest_probability = i32::from(probabilities.of[largest]);
    if largest_probability + left > largest_probability / 2 {
        probabilities.of[largest] = (largest_probability + left) as i8;
        return probabilities;
    }
    while left < 0 {
        let Some(probability) = probabilities.of.iter_mut().max() else { break };
        *probability -= 1;
        left += 1;
    }
    probabilities
}

/// A suitable accuracy log for `symbols` different symbols that occur `total` times in all. A larger table is more
/// exact, but its description is longer.
pub fn accuracy_log(symbols: usize, total: usize) -> u32 {
    let exact = total.max(2).ilog2() - 1;
    let needed = symbols.max(1).ilog2() + 1;
    exact.max(needed).clamp(MIN_LOG, MAX_LOG)
}

/// Writes the description of a table with these probabilities and `1 << log` states.
pub fn write_probabilities(probabilities: &Probabilities, log: u32, bits: &mut BitWriter<'_>) {
    bits.put(u64::from(log - MIN_LOG), 4);
    // A number (the probability plus 1) is at most `left`. The format stores the lowest numbers with one bit less.
    let (mut left, mut threshold, mut width) = ((1 << log) + 1, 1 << log, log + 1);
    let mut symbol = 0;
    while left > 1 {
        let probability = i32::from(probabilities.of[symbol]);
        symbol += 1;
        let shorter = 2 * threshold - 1 - left;
        left -= probability.abs();
        let number = probability + 1;
        let number = if number >= threshold { number + shorter } else { number };
        bits.put(number as u64, width - u32::from(number < shorter));
        while left < threshold && left > 1 {
            threshold >>= 1;
            width -= 1;
        }
        if probability == 0 {
            // The number of zeros that follow: 3 as often as possible, then the rest.
            let mut zeros = (probabilities.used.0 >> symbol).trailing_zeros() as usize;
            symbol += zeros;
            while zeros >= 3 {
                bits.put(3, 2);
                zeros -= 3;
            }
            bits.put(zeros as u64, 2);
        }
    }
}
