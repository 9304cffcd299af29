//! The CRC-32C instruction of SSE4.2. It uses general-purpose registers only, so crash-time code may execute it. The
//! intrinsic cannot be used: it requires the SSE4.2 target feature, which is off where vector registers are disabled.

#[cfg(target_arch = "x86_64")]
use core::sync::atomic::{AtomicU8, Ordering};

/// Proof that the processor has the instruction.
#[derive(Clone, Copy, Debug)]
pub struct Instruction(());

#[cfg(target_arch = "x86_64")]
impl Instruction {
    /// Detects the instruction; `None` if the processor does not have it. CPUID is executed once: under a hypervisor it
    /// takes microseconds.
    pub fn detect() -> Option<Self> {
        const UNKNOWN: u8 = 0;
        const NO: u8 = 1;
        const YES: u8 = 2;
        static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);
        let answer = match ANSWER.load(Ordering::Relaxed) {
            UNKNOWN => {
                let has_sse4_2 = core::arch::x86_64::__cpuid(1).ecx & 1 << 20 != 0;
                let answer = if has_sse4_2 { YES } else { NO };
                ANSWER.store(answer, Ordering::Relaxed);
                answer
            }
            answer => answer,
        };
        (answer == YES).then_some(Self(()))
    }

    /// Updates the remainder with eight bytes; the first byte is in the lowest bits of `word`.
    #[inline(always)]
    pub fn take_word(self, mut remainder: u64, word: u64) -> u64 {
        // SAFETY: the instruction reads and writes these two registers only. `self` proves that the processor has it.
        unsafe {
            core::arch::asm!("crc32 {}, {}", inout(reg) remainder, in(reg) word, options(pure, nomem, nostack, preserves_flags));
        }
        remainder
    }

    /// Updates the remainder with one byte.
    #[inline(always)]
    pub fn take_byte(self, mut remainder: u32, byte: u8) -> u32 {
        // SAFETY: as in `take_word`.
        unsafe {
            core::arch::asm!("crc32 {:e}, {}", inout(reg) remainder, in(reg_byte) byte, options(pure, nomem, nostack, preserves_flags));
        }
        remainder
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Instruction {
    /// `None`: there is no such instruction.
    pub fn detect() -> Option<Self> {
        None
    }

    /// Never called: there is no `Instruction`.
    pub fn take_word(self, remainder: u64, _: u64) -> u64 {
        remainder
    }

    /// Never called: there is no `Instruction`.
    pub fn take_byte(self, remainder: u32, _: u8) -> u32 {
        remainder
    }
}
