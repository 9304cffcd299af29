//! `cdbitmap verify`: does a bitmap hold.

use super::answer::Answer;
use super::arguments::{ImageOptions, machine_of, parse_level, parse_rules};
use super::print::{print, print_json};
use clap::Args;
use scanner_core::{DumpLevel, RuleSet};
use std::path::PathBuf;
use vmcore::Result;
use vmcore_analysis::{Asked, Subject, VerifyOutcome, verify};

/// Checks a bitmap file or a dump.
#[derive(Args, Debug)]
pub struct Verify {
    /// A bitmap file, or a kdump-compressed dump (also flattened)
    bitmap: PathBuf,
    /// Compare every bit with what the rules say of this image of the same crash
    #[arg(long, value_name = "IMAGE")]
    image: Option<PathBuf>,
    #[command(flatten)]
    options: ImageOptions,
    /// The dump level, if the bitmap doesn't say (version 1), or another one
    #[arg(short = 'd', long = "dump-level", value_name = "LEVEL", allow_hyphen_values = true, requires = "image",
        value_parser = parse_level)]
    level: Option<DumpLevel>,
    /// The rule set, if the bitmap doesn't say, or another one
    #[arg(long, value_name = "RULES", requires = "image", value_parser = parse_rules)]
    rules: Option<RuleSet>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Runs the command.
    ///
    /// # Errors
    /// If the bitmap or the image can't be used.
    pub fn run(&self) -> Result<Answer> {
        let subject = Subject::open_filtered(&self.bitmap)?;
        let image = self.image.as_ref().map(|path| self.options.open(path)).transpose()?;
        let asked = Asked { level: self.level, rules: self.rules };
        let machine = machine_of(image.as_deref(), self.image.as_deref(), asked.rules_for(&subject))?;
        let report = verify(&subject, machine.as_ref(), asked).map_err(|e| e.at(&self.bitmap))?;
        if self.json {
            print_json(&report)?;
        } else {
            print(&report)?;
        }
        Ok(if report.verdict == VerifyOutcome::Holds { Answer::Yes } else { Answer::No })
    }
}
