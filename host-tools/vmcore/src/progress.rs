//! Progress of long operations.

/// Receives the progress of an operation, which has one stage or more in sequence.
pub trait Progress: Sync {
    /// A stage starts. `what` describes it; `total` is its number of steps.
    fn start(&self, what: &str, total: u64);
    /// `steps` more steps of the stage are done.
    fn advance(&self, steps: u64);
    /// The stage is done.
    fn finish(&self);
}

/// Ignores all progress.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
}
