//! One error type for the host tools: what went wrong, where, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The exit code that an [`Error`] leads to; documented in the man page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// The job failed, or a check did not hold (1).
    Failure = 1,
    /// The command line or an input can't be used (2).
    Unusable = 2,
}

/// What went wrong, in which file, and what to do about it.
#[derive(Debug)]
pub struct Error {
    exit: ExitCode,
    path: Option<PathBuf>,
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An input that can't be used: wrong format, damaged, contradictory.
    pub fn unusable(what: impl Into<String>) -> Self {
        Self { exit: ExitCode::Unusable, path: None, what: what.into(), hint: None, source: None }
    }

    /// A job that could not be finished, or a check that does not hold.
    pub fn failure(what: impl Into<String>) -> Self {
        Self { exit: ExitCode::Failure, ..Self::unusable(what) }
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
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The error without what to do about it, which stands on lines of its own.
    pub fn in_one_line(&self) -> String {
        self.to_string().lines().next().unwrap_or_default().to_owned()
    }

    /// The exit code that the error leads to.
    pub fn exit_code(&self) -> ExitCode {
        self.exit
    }

    /// The end of a program that can't go on: says why on standard error, and gives the exit code.
    pub fn end(&self, program: &str) -> std::process::ExitCode {
        eprintln!("{program}: {self}");
        std::process::ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Error {
    /// `PATH: what: cause`, and the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&self.what)?;
        let mut cause = self.source.as_deref().map(|e| e as &dyn std::error::Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_what_why_and_what_to_do() {
        let cause = std::io::Error::other("the cable is out");
        let error = Error::io(Path::new("core"), "reading the header failed", cause).hint("Put it in again.");
        assert_eq!(
            error.to_string(),
            "core: reading the header failed: the cable is out\n  Put it in again."
        );
    }
}
