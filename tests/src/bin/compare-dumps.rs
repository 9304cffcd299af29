//! Compares two kdump-compressed dumps: `compare-dumps [--pages | --count] REFERENCE OTHER`.
//!
//! Compares both bitmaps; with `--pages` also the contents of all pages. Prints the number of pages if the dumps are
//! equal. Otherwise prints the first frames that differ, and exits with 1.
//!
//! With `--count` it compares only the 2nd bitmaps, and a difference is not a failure. It prints three fields: the
//! number of pages only in REFERENCE, the number of pages only in OTHER, and the first page frame only in REFERENCE (or
//! `-`).

use scanner_core::{PAGE_SIZE, Pfn};
use std::path::Path;
use std::process::ExitCode;
use vmcore::frames::FrameRanges;
use vmcore::image::{MemoryImage, OpenOptions, open};
use vmcore::{Error, Result};

fn main() -> ExitCode {
    match compare() {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(error) => cross_tests::failed("compare-dumps", &error),
    }
}

/// The line to print: the number of common pages, or the counts of `--count`.
fn compare() -> Result<String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (option, files) = match &arguments[..] {
        [option, files @ ..] if ["--pages", "--count"].contains(&option.as_str()) => (option.as_str(), files),
        files => ("", files),
    };
    let [reference, other] = files else {
        return Err(Error::unusable("usage: compare-dumps [--pages | --count] REFERENCE OTHER"));
    };
    let [reference, other] = [reference, other].map(|file| open(Path::new(file), &OpenOptions::default()));
    let (reference, other) = (reference?, other?);
    if option == "--count" {
        return Ok(count(&pages_of(&*reference)?, &pages_of(&*other)?));
    }
    same_frames("1st bitmap", &reference.facts().exists, &other.facts().exists)?;
    let kept = pages_of(&*reference)?;
    same_frames("2nd bitmap", &kept, &pages_of(&*other)?)?;
    if option == "--pages" {
        for range in kept.as_slice() {
            for pfn in range.start.as_u64()..range.end.as_u64() {
                same_page(&*reference, &*other, Pfn::new(pfn))?;
            }
        }
    }
    Ok(format!("same, {} pages", kept.count()))
}

/// The counts of pages that are in only one of the dumps.
fn count(reference: &FrameRanges, other: &FrameRanges) -> String {
    let (lost, added) = (reference.minus(other), other.minus(reference));
    let first = lost.as_slice().first().map_or("-".to_owned(), |range| range.start.to_string());
    format!("{} {} {first}", lost.count(), added.count())
}

/// The pages of a filtered dump.
fn pages_of(dump: &dyn MemoryImage) -> Result<FrameRanges> {
    let filtered = dump.facts().filtered.as_ref();
    Ok(filtered.ok_or_else(|| Error::unusable("not a kdump-compressed dump"))?.kept.to_ranges())
}

fn same_frames(what: &str, reference: &FrameRanges, other: &FrameRanges) -> Result<()> {
    let (missing, added) = (reference.minus(other), other.minus(reference));
    if missing.count() == 0 && added.count() == 0 {
        return Ok(());
    }
    let first = |frames: &FrameRanges| format!("{:?}", frames.as_slice().iter().take(5).collect::<Vec<_>>());
    Err(Error::failure(format!(
        "the {what}s differ: {} frames are missing, first {}; {} are added, first {}",
        missing.count(),
        first(&missing),
        added.count(),
        first(&added)
    )))
}

fn same_page(reference: &dyn MemoryImage, other: &dyn MemoryImage, pfn: Pfn) -> Result<()> {
    let page = |image: &dyn MemoryImage| {
        let mut bytes = [0; PAGE_SIZE];
        image
            .read(pfn.addr(), &mut bytes)
            .map_err(|e| Error::failure(format!("page frame {pfn}")).because(e))?;
        Ok::<_, Error>(bytes)
    };
    if page(reference)? == page(other)? {
        return Ok(());
    }
    Err(Error::failure(format!("the content of page frame {pfn} differs")))
}
