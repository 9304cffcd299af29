//! The command line, with one file per command. The logic is in the library crates.

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
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Scan an image: counts per class, times, sizes of dumps; write the bitmap
    Scan(scan::Scan),
    /// Write the filtered dump, kdump-compressed
    Dump(dump::Dump),
    /// Print what a bitmap file, a vmcore or a dump contains
    Inspect(inspect::Inspect),
    /// Check a bitmap file or a dump, by itself and against an image
    Verify(verify::Verify),
    /// Compare two bitmaps, or two dumps
    Diff(diff::Diff),
    /// Explain single pages: their struct page, and the rule that decides about them
    Explain(explain::Explain),
    /// Copy the bitmap in a crashed machine's memory into a bitmap file
    Extract(extract::Extract),
    /// Convert a bitmap file to another version of the format, and list what is lost
    Convert(convert::Convert),
    /// Print the structures of the bitmap format, field by field
    Layout(layout::Layout),
    /// Draw a map of the memory by page class, as a picture file or on the terminal
    Map(map::Map),
    /// Load the purgatory stage with a capture kernel, or print what is loaded
    Stage(stage::Stage),
    /// Write a simulated machine as an ELF vmcore
    Synth(synth::Synth),
    /// Run all steps on a small real vmcore that is built into this program
    Demo(demo::Demo),
}

/// The exit code for a kind of error. The man page documents the exit codes.
pub fn exit_code(kind: ErrorKind) -> ExitCode {
    match kind {
        ErrorKind::Unusable => ExitCode::from(2),
        _ => ExitCode::from(1),
    }
}

/// Runs a command line whose words are separated by single spaces.
fn run_line(line: &str) -> Result<Answer> {
    CommandLine::try_parse_from(line.split(' '))
        .map_err(|error| Error::failure(format!("{line:?} is not a valid command line")).because(error))?
        .run()
}

impl CommandLine {
    /// Runs the command.
    ///
    /// # Errors
    /// Returns the error of the command. [`exit_code`] gives the exit code.
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
