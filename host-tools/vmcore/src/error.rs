//! The error type of the host tools: what failed, in which file, the cause, and a hint.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`], for callers that handle the kinds differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An input cannot be used: it has another format, is damaged, contradicts itself, or has the wrong name.
    Unusable,
    /// An operation failed, or a check failed.
    Failure,
}

/// An error of the host tools: what failed, in which file, the cause, and a hint.
///
/// [`Display`](fmt::Display) writes the file and what failed. [`source`](StdError::source) returns the cause and
/// [`hint`](Self::hint) what the user can do. [`report`](Self::report) combines them for the command line.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    path: Option<PathBuf>,
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error about an input that cannot be used.
    pub fn unusable(what: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Unusable, path: None, what: what.into(), hint: None, source: None }
    }

    /// An error about an operation or a check that failed.
    pub fn failure(what: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Failure, ..Self::unusable(what) }
    }

    /// An error about a system call that failed on `path`.
    pub fn io(path: &Path, what: &str, source: std::io::Error) -> Self {
        Self::failure(what).at(path).because(source)
    }

    /// Sets the file that the error is about, unless the error already has one.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.to_owned());
        self
    }

    /// Sets the hint: what the user can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file that the error is about.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What the user can do: sentences for a user of `cdbitmap`, which may name command-line options.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The error and its causes in one line: `PATH: what: cause`.
    pub fn in_one_line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        text
    }

    /// The error, its causes and the hint: `PATH: what: cause`, then the hint on a separate line.
    pub fn report(&self) -> String {
        let mut text = self.in_one_line();
        if let Some(hint) = &self.hint {
            text += &format!("\n  {hint}");
        }
        text
    }
}

impl fmt::Display for Error {
    /// `PATH: what`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&self.what)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_path_the_causes_and_the_hint() {
        let cause = std::io::Error::other("device removed");
        let error = Error::io(Path::new("core"), "reading the header failed", cause);
        let error = Error::failure("no dump").because(error).with_hint("Insert the device again.");
        assert_eq!(error.to_string(), "no dump");
        let cause = error.source().map(ToString::to_string);
        assert_eq!(cause.as_deref(), Some("core: reading the header failed"));
        assert_eq!(
            error.report(),
            "no dump: core: reading the header failed: device removed\n  Insert the device again."
        );
    }
}
