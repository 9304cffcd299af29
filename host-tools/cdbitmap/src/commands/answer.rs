//! The result that a command reports by its exit code.

/// The result of a command that did not fail, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Success: the work is done, all checks hold, or there is no difference (exit code 0).
    Yes,
    /// A check does not hold, or there are differences (exit code 1).
    No,
}
