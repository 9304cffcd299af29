//! Output of commands on standard output and standard error.

use std::fmt::Display;
use std::io::{self, StdoutLock, Write};
use std::path::Path;
use vmcore::output::is_stdout;
use vmcore::{Error, Result};

/// Prints a report as JSON on standard output.
///
/// # Errors
/// Fails if standard output cannot be written.
pub fn print_json(report: &impl serde::Serialize) -> Result<()> {
    print(json(report)?)
}

/// Returns a report as JSON.
///
/// # Errors
/// Fails if the report has no representation in JSON.
pub fn json(report: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(report)
        .map(|text| text + "\n")
        .map_err(|error| Error::failure("the report cannot be written as JSON").because(error))
}

/// Prints a report about `output` on standard output, or on standard error if `output` is standard output.
///
/// # Errors
/// Fails if the report cannot be written.
pub fn print_about(output: Option<&Path>, report: impl Display) -> Result<()> {
    if output.is_some_and(is_stdout) {
        return write!(std::io::stderr(), "{report}")
            .map_err(|error| Error::failure("standard error cannot be written").because(error));
    }
    print(report)
}

/// Prints `text` on standard error. A failure to write it is ignored.
pub fn warn(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "cdbitmap: {text}");
}

/// Prints `text` on standard output.
///
/// # Errors
/// Fails if standard output cannot be written, for example a full disk or a closed pipe.
pub fn print(text: impl Display) -> Result<()> {
    print_by(|out| write!(out, "{text}"))
}

/// Calls `write` with standard output, and flushes it.
///
/// # Errors
/// See [`print()`].
pub fn print_by(write: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>) -> Result<()> {
    let mut out = io::stdout().lock();
    write(&mut out)
        .and_then(|()| out.flush())
        .map_err(|error| Error::failure("standard output cannot be written").because(error))
}
