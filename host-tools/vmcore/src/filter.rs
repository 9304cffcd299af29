//! What decides which frames a dump keeps.

use crate::Result;
use scanner_core::PfnRange;

/// Decides which frames a dump keeps, window by window in ascending order, so that no part of a dump needs memory
/// in proportion to the machine.
pub trait FrameFilter {
    /// Clears in `keep` the bits of the frames of `window` that the dump leaves out. Bit 0 of `keep[0]` is
    /// `window.start`, which is a multiple of 64. Called with windows that follow each other without a gap.
    ///
    /// # Errors
    /// If the decision can't be made; the dump then fails.
    fn filter(&mut self, window: PfnRange, keep: &mut [u64]) -> Result<()>;
}
