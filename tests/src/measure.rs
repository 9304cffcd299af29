//! What the programs that measure share.

/// Touches one word of each cache line, and does nothing else with it: as fast as one core can read memory.
pub fn touch(bytes: &[u8]) -> u64 {
    let (lines, _) = bytes.as_chunks::<64>();
    lines.iter().fold(0, |sum, line| sum.wrapping_add(first_word(line)))
}

/// The first word of `bytes`; 0 if they are fewer than it has.
#[inline(always)]
pub fn first_word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// The value in the middle; the larger one of two.
///
/// # Panics
/// There are no values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
