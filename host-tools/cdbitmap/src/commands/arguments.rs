//! Arguments that several commands have.

use super::print::warn;
use clap::Args;
use page_filter::machine::Machine;
use page_filter::memory_bitmap::parse_address;
use scanner_core::{DumpLevel, Pfn, PhysAddr, RuleSet};
use std::path::{Path, PathBuf};
use vmcore::Result;
use vmcore::image::file::Access;
use vmcore::image::{MemoryImage, OpenOptions, open};

/// An image and what helps to understand it.
#[derive(Args, Clone, Debug)]
pub struct ImageArgs {
    /// An ELF vmcore, a kdump-compressed file (also flattened), or raw memory
    pub image: PathBuf,
    /// What helps to understand it.
    #[command(flatten)]
    pub options: ImageOptions,
}

/// What helps to understand an image.
#[derive(Args, Clone, Debug, Default)]
pub struct ImageOptions {
    /// Use this VMCOREINFO text instead of the image's own
    #[arg(long, value_name = "FILE", requires = "image")]
    pub vmcoreinfo: Option<PathBuf>,
    /// The map of a raw image: lines of START-END and maybe OFFSET, or /proc/iomem
    #[arg(long, value_name = "FILE", requires = "image")]
    pub map: Option<PathBuf>,
}

impl ImageArgs {
    /// Opens the image, and prints its warnings.
    ///
    /// # Errors
    /// See [`open()`].
    pub fn open(&self) -> Result<Box<dyn MemoryImage>> {
        self.options.open(&self.image)
    }

    /// The same, looked at as `access` says.
    ///
    /// # Errors
    /// See [`open()`].
    pub fn open_by(&self, access: Access) -> Result<Box<dyn MemoryImage>> {
        self.options.open_by(&self.image, access)
    }
}

impl ImageOptions {
    /// Opens `image`, and prints its warnings.
    ///
    /// # Errors
    /// See [`open()`].
    pub fn open(&self, image: &Path) -> Result<Box<dyn MemoryImage>> {
        self.open_by(image, Access::Whole)
    }

    fn open_by(&self, image: &Path, access: Access) -> Result<Box<dyn MemoryImage>> {
        let options = OpenOptions { vmcoreinfo: self.vmcoreinfo.clone(), map: self.map.clone(), access };
        let opened = open(image, &options)?;
        for warning in &opened.facts().warnings {
            warn(format_args!("{}: {warning}", image.display()));
        }
        Ok(opened)
    }
}

/// The machine of `image`, which is in `path`, if there is one.
///
/// # Errors
/// If the image can't be understood.
pub fn machine_of<'i>(
    image: Option<&'i dyn MemoryImage>,
    path: Option<&Path>,
    rules: RuleSet,
) -> Result<Option<Machine<'i>>> {
    let named = image.zip(path);
    named.map(|(image, path)| Machine::new(image, rules).map_err(|e| e.at(path))).transpose()
}

/// Parses a dump level.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_level(text: &str) -> Result<DumpLevel, String> {
    text.parse().ok().and_then(DumpLevel::from_number).ok_or_else(|| {
        "a dump level is a number from 0 to 31: the sum of 1 (zero pages), 2 (cache), 4 (private cache), \
         8 (user data), 16 (free)"
            .to_owned()
    })
}

/// Parses the name of a rule set.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_rules(text: &str) -> Result<RuleSet, String> {
    [RuleSet::Makedumpfile, RuleSet::Kernel]
        .into_iter()
        .find(|rules| rules.name() == text)
        .ok_or_else(|| "the rule sets are makedumpfile and kernel".to_owned())
}

/// Parses a physical address.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_physical(text: &str) -> Result<PhysAddr, String> {
    parse_address(text)
        .filter(|address| *address < Pfn::END.addr().as_u64())
        .map(PhysAddr::new)
        .ok_or_else(|| "a physical address is a number below 2^52, hexadecimal with 0x before it".to_owned())
}
