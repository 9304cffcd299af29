//! Chooses what decides about the pages of a dump: a bitmap file, the bitmap that the first kernel left in memory, or a
//! scan.
//!
//! A bad bitmap may cost time, but never the dump: if the bitmap in memory cannot be used, a scan replaces it. If the
//! kernel is unknown, every page is kept.

use crate::bitmap_file::{BitmapReader, FileAsMemory};
use crate::machine::Machine;
use crate::memory_bitmap::{MemoryBitmap, MemoryBitmapReport, Request, SearchHints};
use crate::scan::{ScanFindings, WindowScan};
use scanner_core::{DumpLevel, PfnRange};
use std::path::{Path, PathBuf};
use vmcore::filter::FrameFilter;
use vmcore::{Error, Result};

/// The requested source of the decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A scan of the image.
    Scan,
    /// The bitmap in memory; a scan if it cannot be used.
    Auto,
    /// The bitmap in memory; an error if it cannot be used.
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
    /// No source: every page is kept.
    Nothing,
}

/// The result of the search for a bitmap in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// The bitmap decides.
    Used(Box<MemoryBitmapReport>),
    /// The bitmap does not decide.
    NotUsed {
        /// The reason, in one line.
        reason: String,
        /// Whether a scan decides instead. If not, every page is kept.
        scanned: bool,
    },
}

/// The result of [`choose`].
pub struct Choice<'m> {
    /// What decides.
    pub decider: Decider<'m>,
    /// The result of the search for a bitmap in memory, if there was one.
    pub search: Option<Search>,
}

/// Whether a dump at `level` needs the kernel's layout. Levels 0 and 1 do not, because they read no `struct page`.
pub fn needs_kernel(level: DumpLevel) -> bool {
    !level.difference(DumpLevel::ZERO).is_empty()
}

/// Chooses what decides about the pages of `machine` for `request`. `machine` is `None` if the kernel is unknown.
/// `hints` returns where in memory a bitmap may be. A scan uses `threads` threads.
///
/// # Errors
/// Fails if the bitmap file, or a required bitmap in memory, cannot be used.
pub fn choose<'m>(
    source: &Source,
    machine: Option<&'m Machine<'m>>,
    request: Request,
    hints: &dyn Fn() -> SearchHints,
    threads: usize,
) -> Result<Choice<'m>> {
    let scan = || match machine {
        // A closure, because the setup of a scan may follow all free lists: only if a scan is needed.
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
            let search = Some(Search::Used(Box::new(found.report().clone())));
            Ok(Choice { decider: Decider::InMemory(Box::new(found)), search })
        }
        Err(error) if required => Err(error),
        Err(error) => {
            let search = Search::NotUsed { reason: error.in_one_line(), scanned: machine.is_some() };
            Ok(Choice { decider: scan(), search: Some(search) })
        }
    }
}

/// Finds the bitmap in the image's memory, and checks that it can be used.
fn in_memory<'m>(
    machine: Option<&'m Machine<'m>>,
    request: Request,
    hints: &dyn Fn() -> SearchHints,
) -> Result<MemoryBitmap<'m>> {
    let machine = machine.ok_or_else(|| {
        Error::unusable("the kernel is unknown, so a bitmap in memory cannot be checked against it")
    })?;
    MemoryBitmap::new(machine, &hints(), request)
}

/// Opens the bitmap file `path`, and checks that it can be used.
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
    /// The findings of the scan so far, if there is one.
    pub fn findings(&self) -> Option<&ScanFindings> {
        match self {
            Self::Scan(scan) => Some(scan.findings()),
            Self::InMemory(found) => found.findings(),
            Self::File(_) | Self::Nothing => None,
        }
    }
}
