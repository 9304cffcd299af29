//! Codes that give a symbol fractions of a bit, as Zstandard has them (finite state entropy, RFC 8878, section 4.1).
//!
//! A table has a power of two of states, and each symbol some of them, about in proportion to how often it occurs. The
//! encoder goes from one state to the next, from the last symbol to the first, and writes those low bits of its state
//! that the decoder can't know from the state that it will be in.

use crate::bits::BitWriter;

/// Most symbols of a code.
pub const SYMBOLS: usize = 64;
/// Most states of a table, and their logarithm.
const STATES: usize = 1 << MAX_LOG;
const MAX_LOG: u32 = 7;
/// Symbols are listed so many at once.
const PIECE: usize = 16;
/// The smallest logarithm that the format can write.
pub const MIN_LOG: u32 = 5;

/// A table.
pub struct Table {
    log: u32,
    /// The states, those of the first symbol first. Numbers of states have the bit above the table's size set.
    states: [u8; STATES],
    /// Of those symbols that occur.
    symbols: [Symbol; SYMBOLS],
}

/// The states of one symbol.
#[derive(Clone, Copy, Default)]
struct Symbol {
    /// Added to a state's number, this has in its upper half how many bits are to be written.
    bits: u32,
    /// Added to what is left of the state's number, this is the place of the next state.
    place: i16,
    first: u16,
}

/// How often each symbol occurs.
#[derive(Clone, Copy)]
pub struct Frequencies {
    counts: [u16; SYMBOLS],
    used: Used,
}

impl Frequencies {
    /// No symbol yet.
    pub const NONE: Self = Self { counts: [0; SYMBOLS], used: Used(0) };

    /// Of symbols that occur so often, 64 at most.
    pub fn of(counts: &[u16]) -> Self {
        let mut frequencies = Self::NONE;
        for (symbol, count) in counts.iter().enumerate().take(SYMBOLS) {
            frequencies.counts[symbol] = *count;
            frequencies.used.0 |= u64::from(*count > 0) << symbol;
        }
        frequencies
    }

    /// One more of `symbol`.
    #[inline(always)]
    pub fn add(&mut self, symbol: u8) {
        self.counts[usize::from(symbol) % SYMBOLS] += 1;
        self.used.0 |= 1 << (symbol % 64);
    }

    /// Symbols that occur.
    pub fn symbols(&self) -> usize {
        self.used.0.count_ones() as usize
    }

    /// The only symbol that occurs.
    pub fn only(&self) -> Option<usize> {
        (self.symbols() == 1).then(|| self.used.0.trailing_zeros() as usize)
    }
}

/// A set of symbols. Whether one is in it can't be foretold: going over those that are costs less than looking at all.
#[derive(Clone, Copy)]
struct Used(u64);

impl Iterator for Used {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let symbol = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (symbol < SYMBOLS).then_some(symbol)
    }
}

/// How many states each symbol has; -1 says that it is so rare that it has hardly one, which makes it the last one.
pub struct Shares {
    of: [i8; SYMBOLS],
    used: Used,
}

impl Shares {
    /// Of so many states each.
    pub const fn new(shares: &[i8]) -> Self {
        let mut made = Self { of: [0; SYMBOLS], used: Used(0) };
        let mut symbol = 0;
        while symbol < shares.len() {
            made.of[symbol] = shares[symbol];
            made.used.0 |= ((shares[symbol] != 0) as u64) << symbol;
            symbol += 1;
        }
        made
    }
}

impl Table {
    /// A table that is to be [`set`](Self::set).
    pub fn new() -> Self {
        Self { log: 0, states: [0; STATES], symbols: [Symbol::default(); SYMBOLS] }
    }

    /// Makes it the table of `1 << log` states in which the symbols have these `shares`.
    pub fn set(&mut self, shares: &Shares, log: u32) {
        let size = 1usize << log;
        // The symbols, each as often as its share says, but for the rare ones, which are at the end of the table.
        let mut listed = [0u8; STATES + PIECE];
        let (mut place, mut end, mut len) = (0u16, size, 0);
        let mut places = [0u8; SYMBOLS];
        for number in shares.used {
            let share = u16::from(shares.of[number].unsigned_abs());
            if shares.of[number] < 0 {
                end -= 1;
            } else {
                for at in (len..len + usize::from(share)).step_by(PIECE) {
                    listed[at % STATES..][..PIECE].copy_from_slice(&[number as u8; PIECE]);
                }
                len += usize::from(share);
            }
            let most_bits = log - (share.saturating_sub(1) | 1).ilog2();
            self.symbols[number] = Symbol {
                bits: (most_bits << 16).wrapping_sub(u32::from(share) << most_bits),
                place: place.wrapping_sub(share) as i16,
                first: place,
            };
            places[number] = place as u8;
            place += share;
        }
        // They are scattered over the rest in steps.
        let mut symbol_of = [0u8; STATES];
        let step = size / 2 + size / 8 + 3;
        let (mut at, mut next) = (0, 0);
        for _ in 0..size {
            symbol_of[at % STATES] = listed[next % STATES];
            next += usize::from(at < end);
            at = (at + step) % size;
        }
        let rare = shares.used.filter(|number| shares.of[*number] < 0);
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

    /// Makes it the table of a code that has only one symbol, which takes no bits.
    pub fn set_to_one(&mut self, symbol: usize) {
        let mut of = [0; SYMBOLS];
        of[symbol % SYMBOLS] = 1;
        self.set(&Shares { of, used: Used(1 << (symbol % SYMBOLS)) }, 0);
    }

    /// The state to start with, for the last symbol: one whose bits the decoder has to ask for, so that it finds the
    /// end.
    #[inline(always)]
    pub fn start(&self, symbol: u8) -> u32 {
        u32::from(self.states[usize::from(self.symbols[usize::from(symbol) % SYMBOLS].first) % STATES])
    }

    /// Adds the bits that lead from the state of `symbol` to `state`, seven at most. Returns the former.
    #[inline(always)]
    pub fn add(&self, state: u32, symbol: u8, bits: &mut BitWriter<'_>) -> u32 {
        let symbol = &self.symbols[usize::from(symbol) % SYMBOLS];
        let count = state.wrapping_add(symbol.bits) >> 16;
        bits.add(u64::from(state & !(!0 << count)), count);
        let place = (state >> count) as usize;
        u32::from(self.states[place.wrapping_add(symbol.place as usize) % STATES])
    }

    /// Adds the last state, which the decoder starts with.
    #[inline(always)]
    pub fn end(&self, state: u32, bits: &mut BitWriter<'_>) {
        bits.add(u64::from(state) & ((1 << self.log) - 1), self.log);
    }
}

/// Shares of `1 << log` states for symbols of which two at least occur, `total` times together; each that occurs has
/// one.
pub fn shares(frequencies: &Frequencies, total: u32, log: u32) -> Shares {
    let mut shares = Shares { of: [0; SYMBOLS], used: frequencies.used };
    let size = 1i32 << log;
    let scale = (1u32 << (16 + log)) / total.max(1);
    let (mut left, mut largest) = (size, 0);
    for symbol in frequencies.used {
        let share = (u32::from(frequencies.counts[symbol]) * scale + 0x8000) >> 16;
        let share = share.clamp(1, size as u32 - 1) as i8;
        shares.of[symbol] = share;
        left -= i32::from(share);
        largest = if share > shares.of[largest] { symbol } else { largest };
    }
    // What rounding left over or took too much is the largest one's. If that can't bear it, others help.
    let largest_share = i32::from(shares.of[largest]);
    if largest_share + left > largest_share / 2 {
        shares.of[largest] = (largest_share + left) as i8;
        return shares;
    }
    while left < 0 {
        let Some(share) = shares.of.iter_mut().max() else { break };
        *share -= 1;
        left += 1;
    }
    shares
}

/// A good size for a table of `symbols` symbols that occur `total` times together: the more they are, the more it pays to
/// be exact.
pub fn log_for(symbols: usize, total: usize) -> u32 {
    let exact = total.max(2).ilog2() - 1;
    let needed = symbols.max(1).ilog2() + 1;
    exact.max(needed).clamp(MIN_LOG, MAX_LOG)
}

/// Writes `shares`, of `1 << log` states.
pub fn write_shares(shares: &Shares, log: u32, bits: &mut BitWriter<'_>) {
    bits.put(u64::from(log - MIN_LOG), 4);
    // A share can be anything up to what is left: those numbers for which it need not be are one bit shorter.
    let (mut left, mut threshold, mut width) = ((1 << log) + 1, 1 << log, log + 1);
    let mut symbol = 0;
    while left > 1 {
        let share = i32::from(shares.of[symbol]);
        symbol += 1;
        let shorter = 2 * threshold - 1 - left;
        left -= share.abs();
        let number = share + 1;
        let number = if number >= threshold { number + shorter } else { number };
        bits.put(number as u64, width - u32::from(number < shorter));
        while left < threshold && left > 1 {
            threshold >>= 1;
            width -= 1;
        }
        if share == 0 {
            // How many more zeros follow: threes, and the rest.
            let mut zeros = (shares.used.0 >> symbol).trailing_zeros() as usize;
            symbol += zeros;
            while zeros >= 3 {
                bits.put(3, 2);
                zeros -= 3;
            }
            bits.put(zeros as u64, 2);
        }
    }
}
