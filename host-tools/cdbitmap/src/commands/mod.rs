//! The command line: one file per verb. They hold no logic that a user of the library would want.

pub mod answer;
pub mod arguments;
pub mod convert;
pub mod demo;
pub mod diff;
pub mod dump;
pub mod explain;
pub mod extract;
pub mod format;
pub mod inspect;
pub mod layout;
pub mod map;
pub mod print;
pub mod scan;
pub mod stage;
pub mod synth;
pub mod verify;

pub use answer::Answer;
pub use print::warn;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use vmcore::{Error, ErrorKind, Result};

/// Crash dump bitmaps: produce, verify, explain and compare them, and write the filtered dump.
#[derive(Debug, Parser)]
#[command(name = "cdbitmap", version, propagate_version = true)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Scan an image: counts per class, times, sizes of dumps; write the bitmap
    Scan(scan::Scan),
    /// Write the filtered dump, kdump-compressed
    Dump(dump::Dump),
    /// Say everything about a bitmap file, a vmcore or a dump
    Inspect(inspect::Inspect),
    /// Check a bitmap file or a dump, by itself and against an image
    Verify(verify::Verify),
    /// Compare two bitmaps, or two dumps
    Diff(diff::Diff),
    /// Say everything about one page, and which rule decides about it
    Explain(explain::Explain),
    /// Copy the bitmap in a crashed machine's memory into a bitmap file
    Extract(extract::Extract),
    /// Convert a bitmap file to another version of the format, and say what is lost
    Convert(convert::Convert),
    /// Print the structures of the bitmap format, field by field
    Layout(layout::Layout),
    /// Draw a machine's memory by class: a picture, or one for the terminal
    Map(map::Map),
    /// Load the purgatory stage along with a capture kernel, and say what is loaded
    Stage(stage::Stage),
    /// Write a simulated machine as an ELF vmcore
    Synth(synth::Synth),
    /// The whole job on a small real vmcore that is inside this program
    Demo(demo::Demo),
}

/// The exit code that an error leads to; documented in the man page.
pub fn exit_code(kind: ErrorKind) -> ExitCode {
    match kind {
        ErrorKind::Unusable => ExitCode::from(2),
        _ => ExitCode::from(1),
    }
}

/// Runs a line of words, as a shell would.
fn run_line(line: &str) -> Result<Answer> {
    CommandLine::try_parse_from(line.split(' '))
        .map_err(|error| Error::failure(format!("{line:?} is not a command")).because(error))?
        .run()
}

impl CommandLine {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever goes wrong, with the exit code it leads to.
    pub fn run(&self) -> Result<Answer> {
        let done = |()| Answer::Yes;
        match &self.command {
            Command::Demo(args) => args.run(&run_line),
            Command::Scan(args) => args.run().map(done),
            Command::Dump(args) => args.run().map(done),
            Command::Inspect(args) => args.run().map(done),
            Command::Verify(args) => args.run(),
            Command::Diff(args) => args.run(),
            Command::Explain(args) => args.run().map(done),
            Command::Extract(args) => args.run().map(done),
            Command::Convert(args) => args.run().map(done),
            Command::Layout(args) => args.run().map(done),
            Command::Map(args) => args.run().map(done),
            Command::Stage(args) => args.run(),
            Command::Synth(args) => args.run().map(done),
        }
    }
}
