//! `cdbitmap extract`: the bitmap in a crashed machine's memory, as a file.

use super::arguments::{ImageArgs, parse_physical};
use super::print::{json, print_about};
use clap::Args;
use page_filter::machine::Machine;
use page_filter::memory_bitmap::{SearchHints, find};
use scanner_core::{PhysAddr, RuleSet};
use std::path::PathBuf;
use vmcore::Result;
use vmcore::image::file::Access;
use vmcore::output::OutputFile;

/// Copies the bitmap that the first kernel left in memory into a bitmap file.
#[derive(Args, Debug)]
pub struct Extract {
    #[command(flatten)]
    image: ImageArgs,
    /// The bitmap file to write; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Where in physical memory the bitmap is, if nothing else says so
    #[arg(long, value_name = "ADDRESS", value_parser = parse_physical)]
    bitmap_address: Option<PhysAddr>,
    /// Replace the output file if it exists
    #[arg(short, long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Extract {
    /// Runs the command.
    ///
    /// # Errors
    /// If there is no valid bitmap, or it can't be written.
    pub fn run(&self) -> Result<()> {
        let path = &self.image.image;
        let image = self.image.open_by(Access::Pieces)?;
        // Only a virtual address needs to know the kernel.
        let machine = Machine::new(&*image, RuleSet::Makedumpfile).ok();
        let space = machine.as_ref().map(|machine| &machine.layout.space);
        let hints = SearchHints::for_image(path, self.bitmap_address);
        let found = find(&*image, space, &hints).map_err(|error| error.at(path))?;
        let report = found.describe().map_err(|error| error.at(path))?;
        let out = OutputFile::create_beside(&self.output, self.force, &[path])?;
        found.reader.copy_to(out)?;
        let text = if self.json { json(&report)? } else { format!("{report}\n") };
        print_about(Some(&self.output), text)
    }
}
