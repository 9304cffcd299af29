//! Software prefetch. The hardware prefetcher stops at each 4 KiB boundary, and in virtual machines it often does not
//! recognise the access pattern at all.

/// Prefetches the cache line at `at + AHEAD` into L2. Use it for long distances. The address need not be mapped.
#[inline(always)]
pub fn to_l2<const AHEAD: usize>(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: any address is allowed, and it changes neither memory nor registers.
    unsafe {
        core::arch::asm!("prefetcht1 [{} + {}]", in(reg) at, const AHEAD, options(nostack, preserves_flags, readonly));
    }
}

/// Prefetches the cache line at `at + AHEAD` into L1. Use it for a line that is needed soon.
#[inline(always)]
pub fn to_l1<const AHEAD: usize>(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `to_l2`.
    unsafe {
        core::arch::asm!("prefetcht0 [{} + {}]", in(reg) at, const AHEAD, options(nostack, preserves_flags, readonly));
    }
}
