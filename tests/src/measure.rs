//! What the programs that measure share.

/// Touches one word of each cache line, and does nothing else with it: as fast as one core can read memory.
pub fn touch(bytes: &[u8]) -> u64 {
    let (lines, _) = bytes.as_chunks::<64>();
    lines.iter().fold(0, |sum, line| {
        line.first_chunk().map_or(sum, |word| sum.wrapping_add(u64::from_le_bytes(*word)))
    })
}

/// The value in the middle; the larger one of two.
///
/// # Panics
/// There are no values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
