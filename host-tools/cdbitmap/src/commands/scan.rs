//! `cdbitmap scan`: counts per class, times, sizes of dumps; the bitmap.

use super::arguments::{ImageArgs, parse_level, parse_rules};
use super::format::Format;
use super::print::{json, print, print_about};
use crate::progress;
use crate::progress::ProgressCheckpoint;
use clap::Args;
use page_filter::bitmap_file::BitmapFile;
use page_filter::machine::Machine;
use page_filter::scan::scan_in_threads;
use scanner_core::{DumpLevel, RuleSet};
use std::path::PathBuf;
use std::time::Instant;
use vmcore::Result;
use vmcore::frames::FrameBitmap;
use vmcore::output::{OutputFile, is_stdout};
use vmcore_analysis::scan_report::{ScanReport, Step};

/// Scans an image.
#[derive(Args, Debug)]
pub struct Scan {
    #[command(flatten)]
    image: ImageArgs,
    /// The classes of pages to leave out: the sum of 1 zero, 2 cache, 4 private cache, 8 user, 16 free
    #[arg(short = 'd', long = "dump-level", value_name = "LEVEL", default_value = "31", allow_hyphen_values = true,
        value_parser = parse_level)]
    level: DumpLevel,
    /// Which rules decide: makedumpfile (its own, bit for bit) or kernel (the kernel's predicates)
    #[arg(long, value_name = "RULES", default_value = "makedumpfile", value_parser = parse_rules)]
    rules: RuleSet,
    /// Scan with this many threads
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=256))]
    num_threads: u16,
    /// Write the bitmap to this file; - is standard output
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

        // An output that can't be written is better known before the scan than after it.
        let create = |path| OutputFile::create_beside(path, self.force, &[&self.image.image]);
        let out = self.output.as_deref().map(create).transpose()?;
        // That of the scan, a copy for the file, and one for the report.
        FrameBitmap::require_room(machine.frames, 3)?;
        let progress = progress::for_stderr();
        let start = Instant::now();
        let mut pace = ProgressCheckpoint::start(&*progress, "Excluding unnecessary pages", machine.frames);
        let scanned = scan_in_threads(&machine, self.level, usize::from(self.num_threads), &mut pace);
        pace.finish();
        timed("Excluding unnecessary pages", start);

        if let Some(out) = out {
            let start = Instant::now();
            BitmapFile::of_scan(&machine, self.level, &scanned, self.format.into(), setup)?.write_to(out)?;
            timed("Writing the bitmap", start);
        }
        let mut report = ScanReport::new(&machine, self.level, &scanned, steps);
        if self.zero {
            let start = Instant::now();
            let mut pace = ProgressCheckpoint::start(&*progress, "Looking for zero pages", machine.frames);
            report.count_zero_pages(&machine, &scanned, &mut pace);
            pace.finish();
            report.steps.push(Step::new("Looking for zero pages", start.elapsed()));
        }
        let output = self.output.as_deref();
        if self.json {
            return print_about(output, json(&report)?);
        }
        print_about(output, &report)?;
        match output {
            Some(path) if !is_stdout(path) => print(format_args!("\nThe bitmap is in {}.\n", path.display())),
            _ => Ok(()),
        }
    }
}
