//! Formats numbers as ranges.

use std::fmt;

/// Displays ascending numbers as ranges: `0-1, 4-15`.
pub struct Ranges<'n>(pub &'n [u8]);

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.0.chunk_by(|a, b| a + 1 == *b);
        let texts: Vec<String> = ranges
            .map(|range| match range {
                [only] => only.to_string(),
                [first, .., last] => format!("{first}-{last}"),
                [] => String::new(),
            })
            .collect();
        f.write_str(if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_numbers_form_ranges() {
        assert_eq!(Ranges(&[0, 1, 4, 5, 6, 9]).to_string(), "0-1, 4-6, 9");
        assert_eq!(Ranges(&[]).to_string(), "none");
    }
}
