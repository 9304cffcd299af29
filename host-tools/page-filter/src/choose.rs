//! What decides which pages a dump keeps: a bitmap file, the bitmap that the first kernel left in memory, or a scan.
//!
//! A bitmap may cost time, never a dump: one in memory that cannot be used is replaced by a scan, and where nothing is
//! known of the kernel, every page is kept.

use crate::bitmap_file::{BitmapReader, FileAsMemory};
use crate::machine::Machine;
use crate::memory_bitmap::{MemoryBitmap, MemoryBitmapReport, Request, SearchHints};
use crate::scan::{ScanFindings, WindowScan};
use scanner_core::{DumpLevel, PfnRange};
use std::path::{Path, PathBuf};
use vmcore::filter::FrameFilter;
use vmcore::{Error, Result};

/// Where the decision comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A scan of the image.
    Scan,
    /// The bitmap in memory; a scan if it cannot be used.
    Auto,
    /// The bitmap in memory, and no other.
    Required,
    /// The bitmap in this file.
    File(PathBuf),
}

/// What decides about the pages of one dump.
pub enum Decider<'m> {
    /// A bitmap file.
    File(Box<BitmapReader<FileAsMemory>>),
    /// The bitmap in memory.
    InMemory(Box<MemoryBitmap<'m>>),
    /// A scan.
    Scan(Box<WindowScan<'m>>),
    /// Nothing: every page is kept.
    Nothing,
}

/// What became of the search for a bitmap in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// It decides.
    Used(MemoryBitmapReport),
    /// It does not decide.
    NotUsed {
        /// Why, in one line.
        reason: String,
        /// Whether a scan decides instead; if not, every page is kept.
        scanned: bool,
    },
}

/// What decides, and how that was found out.
pub struct Choice<'m> {
    /// What decides.
    pub decider: Decider<'m>,
    /// What became of the search for a bitmap in memory, if there was one.
    pub search: Option<Search>,
}

/// Whether a dump at `level` needs to know the kernel. At levels 0 and 1 it does not: no `struct page` is looked at.
pub fn needs_kernel(level: DumpLevel) -> bool {
    !level.difference(DumpLevel::ZERO).is_empty()
}

/// Chooses what decides about the pages of `machine` for `request`. Without a machine, its kernel is not known. `hints` say
/// where in memory a bitmap may be; a scan is done by `threads` threads.
///
/// # Errors
/// The bitmap file, or the bitmap in memory that is required, cannot be used.
pub fn choose<'m>(
    source: &Source,
    machine: Option<&'m Machine<'m>>,
    request: Request,
    hints: &dyn Fn() -> SearchHints,
    threads: usize,
) -> Result<Choice<'m>> {
    let scan = || match machine {
        // Setting up a scan may follow free lists: only if there is nothing that has done so already.
        Some(machine) => {
            Decider::Scan(Box::new(WindowScan::new(machine, request.level).with_threads(threads)))
        }
        None => Decider::Nothing,
    };
    let required = match source {
        Source::Scan => return Ok(Choice { decider: scan(), search: None }),
        Source::File(path) => {
            let bitmap = checked_file(path, machine, request)?;
            return Ok(Choice { decider: Decider::File(Box::new(bitmap)), search: None });
        }
        Source::Auto => false,
        Source::Required => true,
    };
    match in_memory(machine, request, hints) {
        Ok(mut found) => {
            if !required && let Some(machine) = machine {
                found.scan_the_rest(machine, request.level);
            }
            let search = Some(Search::Used(found.report().clone()));
            Ok(Choice { decider: Decider::InMemory(Box::new(found)), search })
        }
        Err(error) if required => Err(error),
        Err(error) => {
            let search = Search::NotUsed { reason: error.in_one_line(), scanned: machine.is_some() };
            Ok(Choice { decider: scan(), search: Some(search) })
        }
    }
}

/// The bitmap in the image's memory, if it can be used.
fn in_memory<'m>(
    machine: Option<&'m Machine<'m>>,
    request: Request,
    hints: &dyn Fn() -> SearchHints,
) -> Result<MemoryBitmap<'m>> {
    let machine = machine.ok_or_else(|| {
        Error::unusable("the kernel is not known, so that no bitmap can be known to be of it")
    })?;
    MemoryBitmap::new(machine, &hints(), request)
}

/// The bitmap in `path`, if it can be used.
fn checked_file(
    path: &Path,
    machine: Option<&Machine<'_>>,
    request: Request,
) -> Result<BitmapReader<FileAsMemory>> {
    let bitmap = BitmapReader::open(path)?;
    let checked = match machine {
        Some(machine) => request.check(&bitmap, machine).map(drop),
        None => request.matches(bitmap.info()).and_then(|()| bitmap.survey()?.intact()),
    };
    checked.map_err(|error| error.at(path))?;
    Ok(bitmap)
}

impl FrameFilter for Decider<'_> {
    fn filter(&mut self, window: PfnRange, keep: &mut [u64]) -> Result<()> {
        match self {
            Self::File(bitmap) => bitmap.filter(window, keep),
            Self::InMemory(found) => found.filter(window, keep),
            Self::Scan(scan) => scan.filter(window, keep),
            Self::Nothing => Ok(()),
        }
    }
}

impl Decider<'_> {
    /// What a scan has found so far, if there is one.
    pub fn findings(&self) -> Option<&ScanFindings> {
        match self {
            Self::Scan(scan) => Some(scan.findings()),
            Self::InMemory(found) => found.findings(),
            Self::File(_) | Self::Nothing => None,
        }
    }
}
