//! `cdbitmap map`: a picture of memory by class.

use super::arguments::{ImageArgs, parse_level, parse_rules};
use super::print::print;
use crate::progress;
use crate::progress::ProgressCheckpoint;
use clap::Args;
use page_filter::machine::Machine;
use scanner_core::{DumpLevel, RuleSet};
use std::path::{Path, PathBuf};
use vmcore::output::OutputFile;
use vmcore::{Error, Result};
use vmcore_analysis::map::{COLUMNS, ClassRuns, Look, MAX_LINES, MemoryMap, RunsReport, to_png, to_svg};

/// Draws a machine's memory by class.
#[derive(Args, Debug)]
pub struct Map {
    #[command(flatten)]
    image: ImageArgs,
    /// The classes of pages to tell apart: the sum of 2 cache, 4 private cache, 8 user, 16 free; 1 says nothing here
    #[arg(short = 'd', long = "dump-level", value_name = "LEVEL", default_value = "31", allow_hyphen_values = true,
        value_parser = parse_level)]
    level: DumpLevel,
    /// Which rules decide: makedumpfile (its own, bit for bit) or kernel (the kernel's predicates)
    #[arg(long, value_name = "RULES", default_value = "makedumpfile", value_parser = parse_rules)]
    rules: RuleSet,
    /// Write the picture to this file, by its ending as PNG or SVG; without it a small one goes to the terminal
    #[arg(short, long, value_name = "FILE.png|FILE.svg", conflicts_with = "json")]
    output: Option<PathBuf>,
    /// Replace the output file if it exists
    #[arg(short, long)]
    force: bool,
    /// Print the runs of page frames of one class as JSON
    #[arg(long)]
    json: bool,
}

/// The kinds of files.
#[derive(Clone, Copy)]
enum Kind {
    Png,
    Svg,
}

impl Map {
    /// Runs the command.
    ///
    /// # Errors
    /// If the image can't be scanned, or the picture not written.
    pub fn run(&self) -> Result<()> {
        let output = match &self.output {
            Some(path) => Some((path, kind_of(path)?)),
            None => None,
        };
        let image = self.image.open()?;
        let machine = Machine::new(&*image, self.rules).map_err(|e| e.at(&self.image.image))?;
        let output = match output {
            Some((path, kind)) => {
                Some((OutputFile::create_beside(path, self.force, &[&self.image.image])?, kind))
            }
            None => None,
        };
        let progress = progress::for_stderr();
        let mut pace = ProgressCheckpoint::start(&*progress, "Excluding unnecessary pages", machine.frames);
        if self.json {
            let report =
                RunsReport::new(&machine, self.level, ClassRuns::new(&machine, self.level, &mut pace));
            report.write(&mut std::io::stdout().lock())?;
            pace.finish();
            return Ok(());
        }
        let shape = if output.is_some() { (COLUMNS, MAX_LINES) } else { MemoryMap::terminal_shape() };
        let map = MemoryMap::of(&machine, self.level, shape, &mut pace);
        pace.finish();
        let Some((mut file, kind)) = output else { return print(map.to_terminal(Look::for_stdout())) };
        let drawing = map.draw();
        let bytes = match kind {
            Kind::Png => to_png(&drawing)?,
            Kind::Svg => to_svg(&drawing).into_bytes(),
        };
        let path = file.path().to_owned();
        file.append(&bytes)?;
        file.finish()?;
        print(format_args!("The picture is in {}.\n", path.display()))
    }
}

fn kind_of(path: &Path) -> Result<Kind> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some(ending) if ending.eq_ignore_ascii_case("png") => Ok(Kind::Png),
        Some(ending) if ending.eq_ignore_ascii_case("svg") => Ok(Kind::Svg),
        _ => Err(Error::unusable("the kind of picture is not known")
            .at(path)
            .with_hint("Name it FILE.png or FILE.svg.")),
    }
}
