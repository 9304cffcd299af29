//! `cdbitmap layout`: the structures of the format, field by field.

use super::format::Format;
use clap::{Args, ValueEnum};
use scanner_core::info::Version;
use vmcore::Result;
use vmcore_analysis::info_layout;

/// Prints the structures of the format.
#[derive(Clone, Debug, Args)]
pub struct Layout {
    /// Only this version
    #[arg(long)]
    pub format: Option<Format>,
    /// As a table for reading, as JSON, or as a C header
    #[arg(long = "as", value_name = "KIND", default_value = "table")]
    pub kind: Kind,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Markdown tables
    Table,
    /// JSON
    Json,
    /// A C header, as linker/crash-scan/include/crash_dump_bitmap.h
    C,
}

impl Layout {
    /// Prints the layout on standard output.
    ///
    /// # Errors
    /// If standard output can't be written.
    pub fn run(&self) -> Result<()> {
        let versions = match self.format {
            Some(format) => vec![Version::from(format)],
            None => vec![Version::V1, Version::V2],
        };
        let text = match self.kind {
            Kind::Table => info_layout::tables(&versions),
            Kind::Json => format!("{:#}\n", info_layout::json(&versions)),
            Kind::C => info_layout::c_header(&versions),
        };
        super::print::print(text)
    }
}
