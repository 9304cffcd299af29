//! `cdbitmap inspect`: everything that a file says about itself.

use super::arguments::ImageArgs;
use super::print::{print, print_by, print_json};
use clap::Args;
use page_filter::bitmap_file::{self, BitmapReader};
use std::io::Write;
use vmcore::{Error, Result};
use vmcore_analysis::inspect::ImageReport;

/// Inspects a bitmap file, a vmcore or a dump.
#[derive(Args, Debug)]
pub struct Inspect {
    #[command(flatten)]
    file: ImageArgs,
    /// Print the image's VMCOREINFO text and nothing else
    #[arg(long)]
    vmcoreinfo_text: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    /// Runs the command.
    ///
    /// # Errors
    /// If the file is none of these, or damaged.
    pub fn run(&self) -> Result<()> {
        let path = &self.file.image;
        // Raw memory may start with anything: whoever gives a map says what the file is.
        if self.file.options.map.is_none() && bitmap_file::is_bitmap_file(path)? {
            if self.vmcoreinfo_text {
                return Err(Error::unusable("is a bitmap file, which has no VMCOREINFO")
                    .at(path)
                    .with_hint("Give the vmcore that it belongs to."));
            }
            let report = BitmapReader::open(path)?.describe().map_err(|e| e.at(path))?;
            return if self.json { print_json(&report) } else { print(report) };
        }
        let image = self.file.open()?;
        if self.vmcoreinfo_text {
            let text = image.facts().vmcoreinfo.as_deref();
            let text = text.ok_or_else(|| Error::unusable("the image has no VMCOREINFO").at(path))?;
            return print_by(|out| out.write_all(text));
        }
        let report = ImageReport::new(&*image).map_err(|e| e.at(path))?;
        if self.json {
            return print_json(&report);
        }
        print(report)
    }
}
