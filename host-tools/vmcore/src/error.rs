//! One error type for the host tools: what failed, where, why, and what to do about it.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of error it is, for callers that tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An input cannot be used: wrong format, damaged, contradictory, or named wrongly.
    Unusable,
    /// A job could not be finished, or a check does not hold.
    Failure,
}

/// What failed, in which file, why, and what to do about it.
///
/// [`Display`](fmt::Display) says what failed and where; [`source`](StdError::source) gives the cause,
/// [`hint`](Self::hint) what to do. [`report`](Self::report) is all of it, as a command line prints it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    path: Option<PathBuf>,
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An input that cannot be used.
    pub fn unusable(what: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Unusable, path: None, what: what.into(), hint: None, source: None }
    }

    /// A job that could not be finished, or a check that does not hold.
    pub fn failure(what: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Failure, ..Self::unusable(what) }
    }

    /// An operation of the system that failed on `path`.
    pub fn io(path: &Path, what: &str, source: std::io::Error) -> Self {
        Self::failure(what).at(path).because(source)
    }

    /// Names the file that the error is about, unless one is named already.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.to_owned());
        self
    }

    /// Says what to do about it.
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

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file that the error is about.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What to do about it: a sentence for the user of `cdbitmap`, which may name options of the command line.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What failed and why, in one line: `PATH: what: cause`.
    pub fn in_one_line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        text
    }

    /// All of it: `PATH: what: cause`, and the hint on a line of its own.
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
    fn says_where_what_why_and_what_to_do() {
        let cause = std::io::Error::other("the cable is out");
        let error = Error::io(Path::new("core"), "reading the header failed", cause);
        let error = Error::failure("no dump").because(error).with_hint("Put it in again.");
        assert_eq!(error.to_string(), "no dump");
        let why = error.source().map(ToString::to_string);
        assert_eq!(why.as_deref(), Some("core: reading the header failed"));
        assert_eq!(
            error.report(),
            "no dump: core: reading the header failed: the cable is out\n  Put it in again."
        );
    }
}
