//! Asking the processor for memory before it is needed. Its own guesses end with each page of 4 KiB, and on virtual
//! machines often fail altogether.

/// Asks for the cache line that is `AHEAD` bytes behind `at`, wherever that is, into the second cache: from far ahead.
#[inline(always)]
pub fn far<const AHEAD: usize>(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it takes any address, and touches neither memory nor registers that anyone sees.
    unsafe {
        core::arch::asm!("prefetcht1 [{} + {}]", in(reg) at, const AHEAD, options(nostack, preserves_flags, readonly));
    }
}

/// The same, into the first cache: a line that is needed soon.
#[inline(always)]
pub fn near<const AHEAD: usize>(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("prefetcht0 [{} + {}]", in(reg) at, const AHEAD, options(nostack, preserves_flags, readonly));
    }
}
