//! `cdbitmap diff`: how two bitmaps, or two dumps, differ.

use super::answer::Answer;
use super::arguments::{ImageOptions, machine_of, parse_level, parse_rules};
use super::print::{print, print_json};
use clap::Args;
use scanner_core::{DumpLevel, RuleSet};
use std::path::{Path, PathBuf};
use vmcore::Result;
use vmcore_analysis::{Subject, diff};

/// Compares two bitmaps.
#[derive(Args, Debug)]
pub struct Diff {
    /// A bitmap file or a kdump-compressed dump; with --contents also a vmcore
    a: PathBuf,
    /// Another one
    b: PathBuf,
    /// Say of differing pages what the rules say of them in this image of the same crash
    #[arg(long, value_name = "IMAGE")]
    image: Option<PathBuf>,
    #[command(flatten)]
    options: ImageOptions,
    /// The dump level for that
    #[arg(short = 'd', long = "dump-level", value_name = "LEVEL", allow_hyphen_values = true, default_value = "31", value_parser = parse_level)]
    level: DumpLevel,
    /// The rule set for that
    #[arg(long, value_name = "RULES", default_value = "makedumpfile", value_parser = parse_rules)]
    rules: RuleSet,
    /// Compare the contents of the pages that both have, too
    #[arg(long)]
    contents: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Diff {
    /// Runs the command.
    ///
    /// # Errors
    /// If a file can't be used.
    pub fn run(&self) -> Result<Answer> {
        let open = |path: &Path| {
            if self.contents { Subject::open(path) } else { Subject::open_filtered(path) }
        };
        let (a, b) = (open(&self.a)?, open(&self.b)?);
        let image = self.image.as_ref().map(|path| self.options.open(path)).transpose()?;
        let machine = machine_of(image.as_deref(), self.image.as_deref(), self.rules)?;
        let report = diff(&a, &b, machine.as_ref().map(|machine| (machine, self.level)), self.contents)?;
        if self.json {
            print_json(&report)?;
        } else {
            print(&report)?;
        }
        Ok(if report.same() { Answer::Yes } else { Answer::No })
    }
}
