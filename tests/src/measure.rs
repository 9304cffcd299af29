//! Shared code of the benchmark programs.

/// Reads one word of each cache line and returns their sum. It runs at the memory read bandwidth of one core.
pub fn touch(bytes: &[u8]) -> u64 {
    let (lines, _) = bytes.as_chunks::<64>();
    lines.iter().fold(0, |sum, line| sum.wrapping_add(first_word(line)))
}

/// The first 64-bit word of `bytes` (little endian), or 0 if `bytes` is shorter.
#[inline(always)]
pub fn first_word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// The median; of an even number of values, the upper one of the middle two.
///
/// # Panics
/// Panics if `values` is empty.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
