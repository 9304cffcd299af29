//! CRC-32C (Castagnoli), the checksum of format version 2.
//!
//! The panic path has 32 MiB of bitmap to seal for each TiB of memory. Processors with SSE4.2 have an instruction for
//! it that works on ordinary registers, so that it can be used where vector registers must not be touched. It takes
//! eight bytes each cycle, but has its result after three: so three parts of the memory go side by side.
//!
//! Other processors take one table of 256 entries, 1 KiB, and 250 ms for each TiB. Sixteen tables would be faster, but
//! are 16 KiB, as much as the whole crash path may have.

use crate::prefetch;
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};
use crc::{CRC_32_ISCSI, Crc, Table};

/// A static, so that there is one table in the linked object.
static CRC32C: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// The polynomial without its highest term, the coefficient of x^31 at the lowest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// 64-bit words of each of the three parts that go side by side: enough for what it takes to put them together not to
/// matter. Two sets make 64 KiB but for a little, which is what is sealed at once. It is no power of two: at such distances
/// the parts would be in each other's way, in the caches and in memory.
const PART: usize = 1360;
/// How far ahead memory is asked for, in bytes: that is the next three parts.
const AHEAD: usize = 3 * PART * 8;
/// From there into the first cache, so that nothing has to wait for it.
const NEAR: usize = 1024;
const _: () = assert!(PART.is_multiple_of(8), "a part has whole cache lines");
/// What moves a checksum behind the bytes of a part.
const BEHIND_PART: u32 = power_of_x(PART as u64 * 64);
/// What moves one behind two parts.
const BEHIND_TWO_PARTS: u32 = power_of_x(PART as u64 * 128);

/// The CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(bytes);
    crc.finish()
}

/// A CRC-32C of bytes that come piece by piece.
#[derive(Clone)]
pub struct Crc32c {
    /// The remainder so far, without the last inversion.
    remainder: u32,
    instruction: bool,
}

impl Crc32c {
    /// The checksum of no bytes yet.
    pub fn new() -> Self {
        Self { remainder: u32::MAX, instruction: has_instruction() }
    }

    /// One that does without the processor's instruction.
    #[cfg(test)]
    fn by_table() -> Self {
        Self { instruction: false, ..Self::new() }
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.remainder = if self.instruction {
            by_instruction(self.remainder, bytes)
        } else {
            // What a digest starts with comes with its bits in the other order, as the polynomial is written.
            let mut digest = CRC32C.digest_with_initial(self.remainder.reverse_bits());
            digest.update(bytes);
            !digest.finalize()
        };
    }

    /// The checksum of all bytes so far.
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

/// Whether the processor has the instruction. Asked once: under a hypervisor each question takes microseconds.
fn has_instruction() -> bool {
    const NOT_ASKED: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;
    static ANSWER: AtomicU8 = AtomicU8::new(NOT_ASKED);
    match ANSWER.load(Ordering::Relaxed) {
        NOT_ASKED => {
            let yes = ask_for_instruction();
            ANSWER.store(if yes { YES } else { NO }, Ordering::Relaxed);
            yes
        }
        answer => answer == YES,
    }
}

#[cfg(target_arch = "x86_64")]
fn ask_for_instruction() -> bool {
    core::arch::x86_64::__cpuid(1).ecx & 1 << 20 != 0
}

#[cfg(not(target_arch = "x86_64"))]
fn ask_for_instruction() -> bool {
    false
}

/// Takes `bytes` into `remainder` by the processor's instruction, which it must have.
fn by_instruction(remainder: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut sets = words.chunks_exact(3 * PART);
    let mut remainder = u64::from(remainder);
    for set in &mut sets {
        let (first, behind) = set.split_at_checked(PART).unwrap_or((set, &[]));
        let (second, third) = behind.split_at_checked(PART).unwrap_or((behind, &[]));
        let (mut second_remainder, mut third_remainder) = (0, 0);
        for ((first, second), third) in lines(first).zip(lines(second)).zip(lines(third)) {
            for part in [first, second, third] {
                prefetch::far::<AHEAD>(part.as_ptr().cast());
                prefetch::near::<NEAR>(part.as_ptr().cast());
            }
            for ((first, second), third) in first.iter().zip(second).zip(third) {
                remainder = take_word(remainder, u64::from_le_bytes(*first));
                second_remainder = take_word(second_remainder, u64::from_le_bytes(*second));
                third_remainder = take_word(third_remainder, u64::from_le_bytes(*third));
            }
        }
        let moved =
            multiply(remainder as u32, BEHIND_TWO_PARTS) ^ multiply(second_remainder as u32, BEHIND_PART);
        remainder = u64::from(moved) ^ third_remainder;
    }
    for word in sets.remainder() {
        remainder = take_word(remainder, u64::from_le_bytes(*word));
    }
    rest.iter().fold(remainder as u32, |remainder, byte| take_byte(remainder, *byte))
}

/// The words of a part, by cache lines.
fn lines(part: &[[u8; 8]]) -> impl Iterator<Item = &[[u8; 8]; 8]> {
    part.as_chunks().0.iter()
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn take_word(mut remainder: u64, word: u64) -> u64 {
    // SAFETY: the instruction works on these two registers alone. That the processor has it was asked. The intrinsic
    // can't be used: compilers without vector registers don't offer what comes with SSE4.2.
    unsafe {
        core::arch::asm!("crc32 {}, {}", inout(reg) remainder, in(reg) word, options(pure, nomem, nostack, preserves_flags));
    }
    remainder
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn take_byte(mut remainder: u32, byte: u8) -> u32 {
    // SAFETY: as for a word.
    unsafe {
        core::arch::asm!("crc32 {:e}, {}", inout(reg) remainder, in(reg_byte) byte, options(pure, nomem, nostack, preserves_flags));
    }
    remainder
}

#[cfg(not(target_arch = "x86_64"))]
fn take_word(remainder: u64, word: u64) -> u64 {
    word.to_le_bytes().into_iter().fold(remainder as u32, take_byte).into()
}

#[cfg(not(target_arch = "x86_64"))]
fn take_byte(remainder: u32, byte: u8) -> u32 {
    (0..8).fold(remainder ^ u32::from(byte), |value, _| times_x(value))
}

/// A polynomial times x, modulo that of the checksum.
const fn times_x(value: u32) -> u32 {
    value >> 1 ^ if value & 1 != 0 { POLYNOMIAL } else { 0 }
}

/// The product of two polynomials, modulo that of the checksum.
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

/// x to the power of `n`, modulo the polynomial: it moves a remainder behind `n` bits.
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
