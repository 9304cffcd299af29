//! Pseudo-random numbers that depend only on seed, topic and item, so that each part of a machine is generated
//! independently.

/// A stream of numbers (SplitMix64, public domain, S. Vigna).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of item `item` of `topic`.
    pub fn new(seed: u64, topic: u64, item: u64) -> Self {
        let mut mixed = Self(seed ^ topic.rotate_left(48));
        let mut rng = Self(mixed.next() ^ item);
        rng.next();
        rng
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number less than `end`, which must not be 0. The modulo bias is irrelevant here.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
