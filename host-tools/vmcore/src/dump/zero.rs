//! Whether a page is all zeros: looked at for every page of a dump, and so to be done at the speed of memory.

use scanner_core::PAGE_SIZE;

/// Bytes after which the test may stop: enough for vector instructions to pay, few enough to stop early in most pages.
const PIECE: usize = 256;

/// Whether `page` is all zeros.
pub fn is_zero(page: &[u8; PAGE_SIZE]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: All that the function demands is a processor with AVX2, and this is one.
        return unsafe { is_zero_avx2(page) };
    }
    is_zero_plain(page)
}

/// The same code, made for processors with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn is_zero_avx2(page: &[u8; PAGE_SIZE]) -> bool {
    is_zero_plain(page)
}

/// The test for any processor.
#[inline(always)]
fn is_zero_plain(page: &[u8; PAGE_SIZE]) -> bool {
    // Most pages show by their first bytes that they are not.
    let (first, _) = page.split_first_chunk().unwrap_or((&[0; 8], &[]));
    u64::from_ne_bytes(*first) == 0
        && page.as_chunks::<PIECE>().0.iter().all(|piece| piece.iter().fold(0, |bits, byte| bits | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_makes_a_page_not_zero() {
        let mut page = [0; PAGE_SIZE];
        assert!(is_zero(&page) && is_zero_plain(&page));
        for at in 0..PAGE_SIZE {
            page[at] = 1 << (at % 8);
            assert!(!is_zero(&page) && !is_zero_plain(&page));
            page[at] = 0;
        }
    }
}
