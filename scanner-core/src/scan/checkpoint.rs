//! Checkpoints: calls during a scan that let the caller stop it, touch watchdogs and show progress.

use crate::addr::Pfn;
use core::ops::ControlFlow;

/// Frames between two checkpoints. A run of equal blocks counts as one step, so the distance can be larger.
pub const CHECKPOINT_FRAMES: u64 = 4096;

/// Is called during a scan. Lets the caller stop the scan, touch watchdogs and show progress.
pub trait Checkpoint {
    /// Called every [`CHECKPOINT_FRAMES`] frames with the next frame. `Break` interrupts the scan there.
    fn check(&mut self, next: Pfn) -> ControlFlow<()>;
}

/// Never interrupts the scan.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunToCompletion;

impl Checkpoint for RunToCompletion {
    fn check(&mut self, _: Pfn) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// How a call of [`Scan::run`](super::Scan::run) ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every frame below the limit is decided.
    Completed,
    /// The checkpoint stopped the scan. The next call resumes it.
    Interrupted,
}
