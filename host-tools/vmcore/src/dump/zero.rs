//! Detects zero pages. The check runs for every page of a dump, so its speed should be limited only by memory.

use scanner_core::PAGE_SIZE;

/// Bytes of each step of the check, which stops after the first step with a set bit. Vector instructions need large
/// steps; an early stop needs small ones.
const PIECE: usize = 256;

/// Whether `page` is all zeros.
pub fn is_zero(page: &[u8; PAGE_SIZE]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: The function is unsafe to call only because it needs AVX2, which the line above detected on this CPU.
        return unsafe { is_zero_avx2(page) };
    }
    is_zero_plain(page)
}

/// [`is_zero_plain`], compiled for CPUs with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn is_zero_avx2(page: &[u8; PAGE_SIZE]) -> bool {
    is_zero_plain(page)
}

/// The check for any CPU. It is inlined, so that `is_zero_avx2` compiles it with AVX2.
#[inline(always)]
fn is_zero_plain(page: &[u8; PAGE_SIZE]) -> bool {
    // Most pages that are not zero have a set bit in their first 8 bytes.
    let (first, _) = page.split_first_chunk().unwrap_or((&[0; 8], &[]));
    u64::from_ne_bytes(*first) == 0
        && page.as_chunks::<PIECE>().0.iter().all(|piece| piece.iter().fold(0, |bits, byte| bits | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_with_one_bit_set_is_not_zero() {
        let mut page = [0; PAGE_SIZE];
        assert!(is_zero(&page) && is_zero_plain(&page));
        for at in 0..PAGE_SIZE {
            page[at] = 1 << (at % 8);
            assert!(!is_zero(&page) && !is_zero_plain(&page));
            page[at] = 0;
        }
    }
}
