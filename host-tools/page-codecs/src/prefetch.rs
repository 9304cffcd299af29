//! Asks the processor for memory before it is needed.

/// Asks for the cache line that is `AHEAD` bytes after `at`, wherever that is, into the second cache.
#[inline(always)]
pub fn to_l2<const AHEAD: usize>(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it takes any address, and touches neither memory nor registers that anyone sees.
    unsafe {
        core::arch::asm!("prefetcht1 [{} + {}]", in(reg) at, const AHEAD, options(nostack, preserves_flags, readonly));
    }
}
