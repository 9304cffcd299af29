//! The command line: one file per verb. They hold no logic that a user of the library would want.

use clap::{Args, Parser, Subcommand};
use page_filter::machine::Machine;
use page_filter::memory_bitmap::parse_address;
use scanner_core::scan::Checkpoint;
use scanner_core::{DumpLevel, Pfn, PhysAddr, RuleSet};
use std::fmt::Display;
use std::io::{self, StdoutLock, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vmcore::image::file::Access;
use vmcore::image::{MemoryImage, OpenOptions, open};
use vmcore::output::is_stdout;
use vmcore::progress::Progress;
use vmcore::{Error, ErrorKind, Result};

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
pub mod scan;
pub mod stage;
pub mod synth;
pub mod verify;

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

/// What a command has to say by its exit code, when nothing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; all holds; no difference (0).
    Yes,
    /// A check does not hold; they differ (1).
    No,
}

/// The exit code that an error leads to; documented in the man page.
pub fn exit_code(kind: ErrorKind) -> ExitCode {
    match kind {
        ErrorKind::Unusable => ExitCode::from(2),
        _ => ExitCode::from(1),
    }
}

impl CommandLine {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever goes wrong, with the exit code it leads to.
    pub fn run(&self) -> Result<Answer> {
        let done = |()| Answer::Yes;
        match &self.command {
            Command::Demo(args) => args.run(),
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

/// An image and what helps to understand it.
#[derive(Args, Clone, Debug)]
pub struct ImageArgs {
    /// An ELF vmcore, a kdump-compressed file (also flattened), or raw memory
    pub image: PathBuf,
    /// What helps to understand it.
    #[command(flatten)]
    pub options: ImageOptions,
}

/// What helps to understand an image.
#[derive(Args, Clone, Debug, Default)]
pub struct ImageOptions {
    /// Use this VMCOREINFO text instead of the image's own
    #[arg(long, value_name = "FILE", requires = "image")]
    pub vmcoreinfo: Option<PathBuf>,
    /// The map of a raw image: lines of START-END and maybe OFFSET, or /proc/iomem
    #[arg(long, value_name = "FILE", requires = "image")]
    pub map: Option<PathBuf>,
}

impl ImageArgs {
    /// Opens the image, and prints its warnings.
    ///
    /// # Errors
    /// See [`open()`].
    pub fn open(&self) -> Result<Box<dyn MemoryImage>> {
        self.options.open(&self.image)
    }

    /// The same, looked at as `access` says.
    ///
    /// # Errors
    /// See [`open()`].
    pub fn open_by(&self, access: Access) -> Result<Box<dyn MemoryImage>> {
        self.options.open_by(&self.image, access)
    }
}

impl ImageOptions {
    /// Opens `image`, and prints its warnings.
    ///
    /// # Errors
    /// See [`open()`].
    pub fn open(&self, image: &Path) -> Result<Box<dyn MemoryImage>> {
        self.open_by(image, Access::Whole)
    }

    fn open_by(&self, image: &Path, access: Access) -> Result<Box<dyn MemoryImage>> {
        let options = OpenOptions { vmcoreinfo: self.vmcoreinfo.clone(), map: self.map.clone(), access };
        let opened = open(image, &options)?;
        for warning in &opened.facts().warnings {
            warn(format_args!("{}: {warning}", image.display()));
        }
        Ok(opened)
    }
}

/// The machine of `image`, which is in `path`, if there is one.
///
/// # Errors
/// If the image can't be understood.
fn machine_of<'i>(
    image: Option<&'i dyn MemoryImage>,
    path: Option<&Path>,
    rules: RuleSet,
) -> Result<Option<Machine<'i>>> {
    let named = image.zip(path);
    named.map(|(image, path)| Machine::new(image, rules).map_err(|e| e.at(path))).transpose()
}

/// Parses a dump level.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_level(text: &str) -> Result<DumpLevel, String> {
    text.parse().ok().and_then(DumpLevel::from_number).ok_or_else(|| {
        "a dump level is a number from 0 to 31: the sum of 1 (zero pages), 2 (cache), 4 (private cache), \
         8 (user data), 16 (free)"
            .to_owned()
    })
}

/// Parses the name of a rule set.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_rules(text: &str) -> Result<RuleSet, String> {
    [RuleSet::Makedumpfile, RuleSet::Kernel]
        .into_iter()
        .find(|rules| rules.name() == text)
        .ok_or_else(|| "the rule sets are makedumpfile and kernel".to_owned())
}

/// Parses a physical address.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_physical(text: &str) -> Result<PhysAddr, String> {
    parse_address(text)
        .filter(|address| *address < Pfn::END.addr().as_u64())
        .map(PhysAddr::new)
        .ok_or_else(|| "a physical address is a number below 2^52, hexadecimal with 0x before it".to_owned())
}

/// Shows how far a scan has come.
pub struct ProgressCheckpoint<'p> {
    progress: &'p dyn Progress,
    reached: Pfn,
}

impl<'p> ProgressCheckpoint<'p> {
    /// Begins the stage `what` over `frames` frames.
    pub fn start(progress: &'p dyn Progress, what: &str, frames: u64) -> Self {
        progress.start(what, frames);
        Self { progress, reached: Pfn::new(0) }
    }

    /// Ends the stage.
    pub fn finish(self) {
        self.progress.finish();
    }
}

impl Checkpoint for ProgressCheckpoint<'_> {
    fn check(&mut self, next: Pfn) -> ControlFlow<()> {
        self.progress.advance(next.frames_since(self.reached));
        self.reached = next;
        ControlFlow::Continue(())
    }
}

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
