//! CRC-32C (Castagnoli), the checksum of format version 2.
//!
//! The panic path seals 32 MiB of bitmap per TiB of memory. Processors with SSE4.2 have an instruction for CRC-32C that
//! uses general-purpose registers only, so crash-time code may execute it. It starts on eight bytes each cycle and has
//! a latency of three cycles, so the checksums of three parts of the memory are computed in parallel.
//!
//! Other processors use one table of 256 entries (1 KiB), which takes 250 ms per TiB. Sixteen tables would be faster,
//! but need 16 KiB, the limit for all crash-time code.

use crate::arch::crc32::Instruction;
use crate::arch::prefetch;
use core::fmt;
use crc::{CRC_32_ISCSI, Crc, Table};

/// A static, so that the linked object has the table once.
static CRC32C: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// The polynomial without its highest term, bit-reflected: the lowest bit is the coefficient of x^31.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// Size of each of the three parts, in 64-bit words. It is large enough that the cost of combining the parts does not
/// matter. Two sets of three parts are slightly less than 64 KiB, the size of one sealing step. It is not a power of
/// two: the parts would then compete for the same cache sets and memory banks.
const PART: usize = 1360;
/// Prefetch distance into L2, in bytes: one set of three parts.
const PREFETCH_L2: usize = 3 * PART * 8;
/// Prefetch distance from L2 into L1, in bytes.
const PREFETCH_L1: usize = 1024;
const _: () = assert!(PART.is_multiple_of(8), "a part consists of whole cache lines");
/// Multiplier that advances a remainder by one part.
const SHIFT_BY_PART: u32 = power_of_x(PART as u64 * 64);
/// Multiplier that advances a remainder by two parts.
const SHIFT_BY_TWO_PARTS: u32 = power_of_x(PART as u64 * 128);

/// The CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(bytes);
    crc.finish()
}

/// An incremental CRC-32C.
#[derive(Clone)]
pub struct Crc32c {
    /// The current remainder, before the final inversion.
    remainder: u32,
    instruction: Option<Instruction>,
}

impl Crc32c {
    /// The checksum of an empty input.
    pub fn new() -> Self {
        Self { remainder: u32::MAX, instruction: Instruction::detect() }
    }

    /// As [`new`](Self::new), but uses the table even if the processor has the instruction.
    #[cfg(test)]
    fn by_table() -> Self {
        Self { instruction: None, ..Self::new() }
    }

    /// Adds `bytes` to the input.
    pub fn update(&mut self, bytes: &[u8]) {
        self.remainder = if let Some(instruction) = self.instruction {
            by_instruction(instruction, self.remainder, bytes)
        } else {
            // The crate `crc` takes the initial value in the bit order of the unreflected polynomial.
            let mut digest = CRC32C.digest_with_initial(self.remainder.reverse_bits());
            digest.update(bytes);
            !digest.finalize()
        };
    }

    /// The checksum of the input.
    pub fn finish(self) -> u32 {
        !self.remainder
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crc32c({:#010x})", self.clone().finish())
    }
}

/// Updates `remainder` with `bytes`, by the processor's instruction.
fn by_instruction(instruction: Instruction, remainder: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut sets = words.chunks_exact(3 * PART);
    let mut remainder = u64::from(remainder);
    for set in &mut sets {
        let (first, rest) = set.split_at_checked(PART).unwrap_or((set, &[]));
        let (second, third) = rest.split_at_checked(PART).unwrap_or((rest, &[]));
        let (mut second_remainder, mut third_remainder) = (0, 0);
        for ((first, second), third) in lines(first).zip(lines(second)).zip(lines(third)) {
            for part in [first, second, third] {
                prefetch::to_l2::<PREFETCH_L2>(part.as_ptr().cast());
                prefetch::to_l1::<PREFETCH_L1>(part.as_ptr().cast());
            }
            for ((first, second), third) in first.iter().zip(second).zip(third) {
                remainder = instruction.take_word(remainder, u64::from_le_bytes(*first));
                second_remainder = instruction.take_word(second_remainder, u64::from_le_bytes(*second));
                third_remainder = instruction.take_word(third_remainder, u64::from_le_bytes(*third));
            }
        }
        let shifted =
            multiply(remainder as u32, SHIFT_BY_TWO_PARTS) ^ multiply(second_remainder as u32, SHIFT_BY_PART);
        remainder = u64::from(shifted) ^ third_remainder;
    }
    for word in sets.remainder() {
        remainder = instruction.take_word(remainder, u64::from_le_bytes(*word));
    }
    rest.iter().fold(remainder as u32, |remainder, byte| instruction.take_byte(remainder, *byte))
}

/// The cache lines of a part.
fn lines(part: &[[u8; 8]]) -> impl Iterator<Item = &[[u8; 8]; 8]> {
    part.as_chunks().0.iter()
}

/// `value` times x, modulo the polynomial.
const fn times_x(value: u32) -> u32 {
    value >> 1 ^ if value & 1 != 0 { POLYNOMIAL } else { 0 }
}

/// The product of `a` and `b`, modulo the polynomial.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1_u32 << 31;
    while bit != 0 {
        product ^= if a & bit != 0 { b } else { 0 };
        b = times_x(b);
        bit >>= 1;
    }
    product
}

/// x to the power of `n`, modulo the polynomial: the multiplier that advances a remainder by `n` bits.
const fn power_of_x(mut n: u64) -> u32 {
    let (mut power, mut square) = (1_u32 << 31, 1_u32 << 30);
    while n != 0 {
        if n & 1 != 0 {
            power = multiply(power, square);
        }
        square = multiply(square, square);
        n >>= 1;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// RFC 3720 (iSCSI), B.4: 32 bytes of zeros, of ones, and ascending; and the catalogue's check value.
    #[test]
    fn known_values() {
        let ascending: [u8; 32] = core::array::from_fn(|i| i as u8);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn pieces_give_the_checksum_of_the_whole() {
        for mut pieces in [Crc32c::new(), Crc32c::by_table()] {
            pieces.update(b"1234");
            pieces.update(b"");
            pieces.update(b"56789");
            assert_eq!(pieces.finish(), crc32c(b"123456789"));
        }
    }

    #[test]
    fn the_instruction_and_the_table_agree_on_any_length() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let set = 3 * PART * 8;
        for len in [0, 1, 7, 8, 9, 63, set - 1, set, set + 1, 2 * set + 13, 3 * set, bytes.len()] {
            let mut by_table = Crc32c::by_table();
            by_table.update(&bytes[..len]);
            assert_eq!(crc32c(&bytes[..len]), by_table.finish(), "{len} bytes");
        }
    }
}
