//! `cdbitmap convert`: converts a bitmap file to another version of the format.

use super::format::Format;
use clap::Args;
use page_filter::bitmap_file::BitmapFile;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use vmcore::output::OutputFile;
use vmcore::{Error, Result};

/// Converts a bitmap file.
#[derive(Clone, Debug, Args)]
pub struct Convert {
    /// The bitmap file to read
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The bitmap file to write; - is standard output
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// The version of the format to write
    #[arg(long)]
    pub format: Format,
    /// Replace OUT if it exists
    #[arg(short, long)]
    pub force: bool,
}

impl Convert {
    /// Converts the file, and prints on standard error what is lost and what the old version does not record.
    ///
    /// # Errors
    /// Fails if the input is not a valid bitmap file, if the new version cannot represent it, or if the output cannot
    /// be written.
    pub fn run(&self) -> Result<()> {
        let conversion = BitmapFile::read(&self.input)?
            .convert(self.format.into())
            .map_err(|error| error.at(&self.input))?;
        conversion.file.write_to(OutputFile::create_beside(&self.output, self.force, &[&self.input])?)?;
        let mut note = String::new();
        for (what, phrases) in [("lost", &conversion.lost), ("not recorded", &conversion.unknown)] {
            for phrase in phrases {
                let _ = writeln!(note, "{what}: {phrase}");
            }
        }
        let printed = std::io::stderr().write_all(note.as_bytes());
        printed.map_err(|error| Error::failure("standard error cannot be written").because(error))
    }
}
