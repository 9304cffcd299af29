//! What commands print, and where.

use std::fmt::Display;
use std::io::{self, StdoutLock, Write};
use std::path::Path;
use vmcore::output::is_stdout;
use vmcore::{Error, Result};

/// Prints a report as JSON on standard output.
///
/// # Errors
/// If it can't be written.
pub fn print_json(report: &impl serde::Serialize) -> Result<()> {
    print(json(report)?)
}

/// A report as JSON.
///
/// # Errors
/// If it can't be written so.
pub fn json(report: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(report)
        .map(|text| text + "\n")
        .map_err(|error| Error::failure("the report can't be written as JSON").because(error))
}

/// Prints a report about `output`: on standard output, or on standard error if the output itself has gone there.
///
/// # Errors
/// If it can't be written.
pub fn print_about(output: Option<&Path>, report: impl Display) -> Result<()> {
    if output.is_some_and(is_stdout) {
        return write!(std::io::stderr(), "{report}")
            .map_err(|error| Error::failure("standard error can't be written").because(error));
    }
    print(report)
}

/// Says `text` on standard error. If that can't be written, the job goes on all the same.
pub fn warn(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "cdbitmap: {text}");
}

/// Prints `text` on standard output.
///
/// # Errors
/// If it can't be written: a full disk, a pipe that nobody reads.
pub fn print(text: impl Display) -> Result<()> {
    print_by(|out| write!(out, "{text}"))
}

/// Prints what `write` writes on standard output.
///
/// # Errors
/// See [`print()`].
pub fn print_by(write: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>) -> Result<()> {
    let mut out = io::stdout().lock();
    write(&mut out)
        .and_then(|()| out.flush())
        .map_err(|error| Error::failure("standard output can't be written").because(error))
}
