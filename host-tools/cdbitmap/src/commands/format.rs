//! A version of `crash_dump_bitmap_info` on the command line.

use clap::ValueEnum;
use scanner_core::info::Version;

/// A version of `crash_dump_bitmap_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The structure of the 2013 proposal
    #[value(name = "1")]
    V1,
    /// With producer, state, checksums and chunks
    #[value(name = "2")]
    V2,
}

impl From<Format> for Version {
    fn from(format: Format) -> Self {
        match format {
            Format::V1 => Self::V1,
            Format::V2 => Self::V2,
        }
    }
}
