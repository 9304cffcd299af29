//! Builds Huffman codes of limited length.

/// Frequencies below this are sorted with a counting sort.
const COUNTED: usize = 64;
/// Number of code lengths before the limit is applied. The frequencies of a page cause no code longer than 20 bits.
const DEPTHS: usize = 32;

/// A Huffman code with the canonical numbering of deflate.
pub struct Code<const SYMBOLS: usize> {
    /// Length of each symbol's code in bits; 0 if the symbol does not occur.
    pub lengths: [u8; SYMBOLS],
    /// The code of each symbol. The first bit of the code is the lowest bit.
    pub bits: [u16; SYMBOLS],
}

impl<const SYMBOLS: usize> Code<SYMBOLS> {
    /// The best code for these frequencies, with at most `limit` bits for a symbol; see [`lengths`].
    pub fn new(frequencies: &[u16; SYMBOLS], limit: usize) -> Self {
        let occurring = Occurring::of(frequencies);
        let (lengths, counts) = lengths(&occurring, limit);
        Self::number(lengths, &counts, occurring.symbols().iter().map(|(_, symbol)| usize::from(*symbol)))
    }

    /// The canonical code with these lengths.
    pub fn from_lengths(lengths: [u8; SYMBOLS]) -> Self {
        let mut counts = [0u16; 16];
        lengths.iter().for_each(|length| counts[usize::from(length & 15)] += 1);
        counts[0] = 0;
        Self::number(lengths, &counts, (0..SYMBOLS).filter(|symbol| lengths[*symbol] > 0))
    }

    /// Numbers the code with these lengths. `counts` is the number of codes of each length. `symbols` is the symbols
    /// that occur, in ascending order.
    #[inline(always)]
    fn number(lengths: [u8; SYMBOLS], counts: &[u16; 16], symbols: impl Iterator<Item = usize>) -> Self {
        let mut next = [0u16; 16];
        for length in 1..16 {
            next[length] = (next[length - 1] + counts[length - 1]) << 1;
        }
        let mut bits = [0; SYMBOLS];
        for symbol in symbols {
            let length = lengths[symbol % SYMBOLS];
            let next = &mut next[usize::from(length & 15)];
            bits[symbol % SYMBOLS] = next.reverse_bits() >> (16 - length);
            *next += 1;
        }
        Self { lengths, bits }
    }

    /// Number of bits of all codes in a text with these frequencies.
    pub fn cost(&self, frequencies: &[u16; SYMBOLS]) -> u32 {
        self.lengths.iter().zip(frequencies).map(|(l, f)| u32::from(*l) * u32::from(*f)).sum()
    }
}

/// The symbols that occur, in ascending order. Whether a symbol occurs is unpredictable, so iterating over this list
/// costs less than testing each symbol.
pub struct Occurring<const SYMBOLS: usize> {
    /// Frequency and symbol.
    symbols: [(u16, u16); SYMBOLS],
    len: usize,
}

impl<const SYMBOLS: usize> Occurring<SYMBOLS> {
    /// The symbols with a nonzero frequency.
    #[inline(always)]
    pub fn of(frequencies: &[u16; SYMBOLS]) -> Self {
        let mut symbols = [(0, 0); SYMBOLS];
        let mut len = 0;
        for (symbol, &frequency) in (0..).zip(frequencies) {
            symbols[len] = (frequency, symbol);
            len += usize::from(frequency > 0);
        }
        Self { symbols, len }
    }

    /// The frequency and the symbol of each.
    #[inline(always)]
    pub fn symbols(&self) -> &[(u16, u16)] {
        &self.symbols[..self.len]
    }
}

/// Length of each symbol's code in bits, and number of codes of each length except 0.
pub type Lengths<const SYMBOLS: usize> = ([u8; SYMBOLS], [u16; 16]);

/// The code lengths of a Huffman code for the symbols that occur. No code is longer than `limit` bits; `limit` is at
/// most 15. A single symbol gets one bit.
pub fn lengths<const SYMBOLS: usize>(occurring: &Occurring<SYMBOLS>, limit: usize) -> Lengths<SYMBOLS> {
    let (mut lengths, mut counts_by_length) = ([0; SYMBOLS], [0; 16]);
    let mut sorted = [(0, 0); SYMBOLS];
    let sorted = sort(occurring.symbols(), &mut sorted);
    match sorted {
        [] => {}
        [(_, symbol)] => {
            lengths[usize::from(*symbol)] = 1;
            counts_by_length[1] = 1;
        }
        _ => {
            let mut counts = count_lengths(sorted);
            limit_lengths(&mut counts, limit);
            // The rarest symbols get the longest codes.
            let mut rest = sorted;
            for length in (1..=limit).rev() {
                let (these, others) = rest.split_at(rest.len().min(counts[length] as usize));
                these.iter().for_each(|(_, symbol)| lengths[usize::from(*symbol) % SYMBOLS] = length as u8);
                rest = others;
            }
            counts_by_length.iter_mut().zip(counts).for_each(|(number, count)| *number = count as u16);
        }
    }
    (lengths, counts_by_length)
}

/// Sorts the symbols by frequency, in ascending order.
fn sort<'s, const SYMBOLS: usize>(
    occurring: &[(u16, u16)],
    sorted: &'s mut [(u16, u16); SYMBOLS],
) -> &'s [(u16, u16)] {
    // Counting sort for the rare symbols, which are most symbols of a page.
    let class = |frequency: u16| usize::from(frequency).min(COUNTED);
    let mut starts = [0u16; COUNTED + 1];
    occurring.iter().for_each(|(frequency, _)| starts[class(*frequency)] += 1);
    let frequent = starts[COUNTED];
    let mut before = 0;
    for start in &mut starts {
        before += std::mem::replace(start, before);
    }
    for symbol in occurring {
        let start = &mut starts[class(symbol.0)];
        sorted[usize::from(*start) % SYMBOLS] = *symbol;
        *start += 1;
    }
    let sorted = &mut sorted[..occurring.len()];
    sorted[occurring.len() - usize::from(frequent)..].sort_unstable();
    sorted
}

/// Number of codes of each length for at least two `sorted` symbols. This is the in-place algorithm of Moffat and
/// Katajainen: the tree replaces the frequencies.
fn count_lengths(sorted: &[(u16, u16)]) -> [u32; DEPTHS] {
    let mut room = [0u32; 288];
    let nodes = &mut room[..sorted.len()];
    nodes.iter_mut().zip(sorted).for_each(|(node, (frequency, _))| *node = u32::from(*frequency));
    let last = nodes.len() - 1;
    // Inner nodes are created in ascending order, in the places of leaves that have a parent already. A node with a
    // parent contains the parent's index.
    let (mut leaf, mut inner) = (0, 0);
    for next in 0..last {
        let mut sum = 0;
        for _ in 0..2 {
            if leaf > last || (inner < next && nodes[inner] < nodes[leaf]) {
                sum += std::mem::replace(&mut nodes[inner], next as u32);
                inner += 1;
            } else {
                sum += nodes[leaf];
                leaf += 1;
            }
        }
        nodes[next] = sum;
    }
    nodes[last - 1] = 0;
    for node in (0..last - 1).rev() {
        nodes[node] = nodes[nodes[node] as usize] + 1;
    }
    // At each depth, the nodes that are not inner nodes are leaves.
    let mut counts = [0; DEPTHS];
    let (mut available, mut inner) = (1, nodes[..last].iter().rev().peekable());
    for (depth, count) in (0..).zip(&mut counts) {
        let mut used = 0;
        while inner.next_if(|node| **node == depth).is_some() {
            used += 1;
        }
        *count = available - used;
        available = 2 * used;
    }
    counts
}

/// Shortens the codes longer than `limit`, and lengthens as few other codes as possible to keep the code valid.
fn limit_lengths(counts: &mut [u32; DEPTHS], limit: usize) {
    counts[limit] += counts[limit + 1..].iter().sum::<u32>();
    counts[limit + 1..].fill(0);
    let mut taken: u32 = (1..=limit).map(|length| counts[length] << (limit - length)).sum();
    while taken > 1 << limit {
        // Move the deepest shorter leaf down one level, and make a leaf of the deepest level its sibling.
        let Some(length) = (1..limit).rev().find(|length| counts[*length] > 0) else { return };
        counts[length] -= 1;
        counts[length + 1] += 2;
        counts[limit] -= 1;
        taken -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn example_of_rfc_1951() {
        let code = Code::from_lengths([3, 3, 3, 3, 3, 2, 4, 4]);
        let forward: Vec<u16> = code
            .bits
            .iter()
            .zip(code.lengths)
            .map(|(bits, length)| bits.reverse_bits() >> (16 - length))
            .collect();
        assert_eq!(forward, [2, 3, 4, 5, 6, 0, 14, 15]);
    }

    #[test]
    fn code_of_one_symbol_or_none() {
        assert_eq!(Code::new(&[0; 30], 15).lengths, [0; 30]);
        assert_eq!(Code::new(&[0, 0, 9], 15).lengths, [0, 0, 1]);
    }

    #[test]
    fn fibonacci_frequencies_reach_the_limit() {
        let mut frequencies = [1u16; 18];
        (2..18).for_each(|i| frequencies[i] = frequencies[i - 1] + frequencies[i - 2]);
        let lengths = Code::new(&frequencies, 15).lengths;
        assert_eq!((lengths[0], lengths[17]), (15, 1));
        assert_eq!(lengths.iter().map(|l| 1u32 << (15 - l)).sum::<u32>(), 1 << 15);
    }

    proptest! {
        #[test]
        fn code_is_complete_and_frequent_symbols_are_shorter(
            frequencies in prop::array::uniform32(prop_oneof![Just(0u16), 1..5u16, 1..500u16]), limit in 5usize..16
        ) {
            let code = Code::new(&frequencies, limit);
            let used: Vec<_> = (0..32).filter(|i| frequencies[*i] > 0).collect();
            prop_assert!((0..32).all(|i| (code.lengths[i] > 0) == (frequencies[i] > 0)));
            if used.len() > 1 {
                let taken: u32 = used.iter().map(|i| 1u32 << (limit - usize::from(code.lengths[*i]))).sum();
                prop_assert_eq!(taken, 1 << limit);
            }
            for (a, b) in used.iter().flat_map(|a| used.iter().map(move |b| (*a, *b))) {
                prop_assert!(frequencies[a] <= frequencies[b] || code.lengths[a] <= code.lengths[b]);
            }
        }
    }
}
