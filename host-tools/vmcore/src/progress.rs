//! How far a long job has come.

/// Told by a job how far it has come. A job has stages, one after the other.
pub trait Progress: Sync {
    /// A stage begins: `what` it does, and how many steps it will take.
    fn start(&self, what: &str, total: u64);
    /// `steps` more are done.
    fn advance(&self, steps: u64);
    /// The stage is done.
    fn finish(&self);
}

/// Says nothing.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
}
