//! The filter interface of a dump.

use crate::Result;
use scanner_core::PfnRange;

/// Decides which page frames a dump keeps.
///
/// The dump calls the filter for one window of frames after the other, in ascending order. So the memory that a dump
/// needs does not grow with the machine.
pub trait FrameFilter {
    /// Clears the bits in `keep` of the excluded frames of `window`.
    ///
    /// Bit 0 of `keep[0]` is frame `window.start`, a multiple of 64. Each window starts where the previous one ended.
    ///
    /// # Errors
    /// If the filter cannot decide. The dump then fails.
    fn filter(&mut self, window: PfnRange, keep: &mut [u64]) -> Result<()>;
}
