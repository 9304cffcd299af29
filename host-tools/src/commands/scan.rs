//! `cdbitmap scan`: counts per class, times, sizes of dumps; the bitmap.

use super::format::Format;
use super::{ImageArgs, ProgressPace, parse_level, parse_rules, print_json};
use crate::Result;
use crate::bitmap_file::BitmapFile;
use crate::machine::Machine;
use crate::progress;
use crate::scan::scan;
use crate::scan_report::{ScanReport, Step};
use clap::Args;
use scanner_core::{DumpLevel, RuleSet};
use std::path::PathBuf;
use std::time::Instant;

/// Scans an image.
#[derive(Args, Debug)]
pub struct Scan {
    #[command(flatten)]
    image: ImageArgs,
    /// The classes of pages to leave out: the sum of 1 zero, 2 cache, 4 private cache, 8 user, 16 free
    #[arg(short = 'd', long = "dump-level", value_name = "LEVEL", default_value = "31", value_parser = parse_level)]
    level: DumpLevel,
    /// Which rules decide: makedumpfile (its own, bit for bit) or kernel (the kernel's predicates)
    #[arg(long, value_name = "RULES", default_value = "makedumpfile", value_parser = parse_rules)]
    rules: RuleSet,
    /// Write the bitmap to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The version of the bitmap file's format
    #[arg(long, value_name = "VERSION", default_value = "2")]
    format: Format,
    /// Replace the output file if it exists
    #[arg(short, long)]
    force: bool,
    /// Look into the kept pages too, and count those of all zero bytes
    #[arg(long)]
    zero: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Scan {
    /// Runs the command.
    ///
    /// # Errors
    /// If the image can't be scanned, or the bitmap not written.
    pub fn run(&self) -> Result<()> {
        let mut steps = Vec::new();
        let mut timed = |step, since: Instant| steps.push(Step::new(step, since.elapsed()));
        let start = Instant::now();
        let image = self.image.open()?;
        timed("Opening the image", start);

        let start = Instant::now();
        let machine = Machine::new(&*image, self.rules).map_err(|e| e.at(&self.image.image))?;
        let setup = start.elapsed();
        timed("Finding layout and sections", start);

        let progress = progress::for_stderr();
        let start = Instant::now();
        let mut pace = ProgressPace::start(&*progress, "Excluding unnecessary pages", machine.frames);
        let scanned = scan(&machine, self.level, &mut pace);
        pace.finish();
        timed("Excluding unnecessary pages", start);

        if let Some(path) = &self.output {
            let start = Instant::now();
            BitmapFile::of_scan(&machine, self.level, &scanned, self.format.into(), setup)?
                .write(path, self.force)?;
            timed("Writing the bitmap", start);
        }
        let mut report = ScanReport::new(&machine, self.level, &scanned, steps);
        if self.zero {
            let start = Instant::now();
            let mut pace = ProgressPace::start(&*progress, "Looking for zero pages", machine.frames);
            report.count_zero_pages(&machine, &scanned, &mut pace);
            pace.finish();
            report.steps.push(Step::new("Looking for zero pages", start.elapsed()));
        }
        if self.json {
            return print_json(&report);
        }
        print!("{report}");
        if let Some(path) = &self.output {
            println!("\nThe bitmap is in {}.", path.display());
        }
        Ok(())
    }
}
