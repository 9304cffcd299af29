//! Prefetches memory into the processor's caches.

/// Prefetches the cache line `AHEAD` bytes after `at` into the L2 cache. Any address is permitted. Does nothing on
/// processors other than x86_64.
#[inline(always)]
pub fn to_l2<const AHEAD: usize>(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: PREFETCHT1 is a hint. It never faults, whatever the address, and changes no memory, register or flag, as
    // the options state.
    unsafe {
        core::arch::asm!("prefetcht1 [{} + {}]", in(reg) at, const AHEAD, options(nostack, preserves_flags, readonly));
    }
}
