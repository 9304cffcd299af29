//! What a command answers by its exit code.

/// What a command has to say by its exit code, when nothing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; all holds; no difference (0).
    Yes,
    /// A check does not hold; they differ (1).
    No,
}
