//! `cdbitmap demo`: runs all steps on a small real vmcore that is built into the binary.

use super::answer::Answer;
use super::print::print;
use crate::sample::{Bitmaps, LEVELS, copy_sparse};
use clap::Args;
use page_filter::machine::Machine;
use page_filter::scan::scan;
use scanner_core::scan::RunToCompletion;
use scanner_core::{DumpLevel, RuleSet};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use vmcore::frames::FrameBitmap;
use vmcore::image::{OpenOptions, open};
use vmcore::{Error, Result};

/// The vmcore of a machine with 768 MiB, two NUMA nodes and Debian's 6.1 kernel, crashed on purpose. It is trimmed to
/// the memory that decides which pages to dump.
const VMCORE: &[u8] = include_bytes!("../../demo/6.1-numa.vmcore.zst");
/// makedumpfile's 2nd bitmaps of this vmcore, at all dump levels.
const BITMAPS: &[u8] = include_bytes!("../../demo/6.1-numa.bitmaps.zst");

/// Title and command line of each step, in order of use. `@PAGE@` stands for a page of anonymous memory.
const STEPS: [(&str, &str); 7] = [
    ("Scan the vmcore, and write the bitmap of the pages worth dumping", "scan vmcore -d 31 -o bitmap"),
    ("Verify the bitmap: a second scan, by independent code", "verify bitmap --image vmcore"),
    ("Explain a page", "explain vmcore @PAGE@"),
    ("Picture the memory", "map vmcore"),
    ("The same picture as a file", "map vmcore -o map.png"),
    ("Write the filtered dump from the bitmap", "dump vmcore dump -d 31 -z --bitmap bitmap"),
    ("Compare the dump with the vmcore, page by page", "diff vmcore dump --contents"),
];

/// Runs all steps on the vmcore in this program.
#[derive(Args, Debug)]
pub struct Demo {
    /// Leave the files in this directory, which must not exist
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl Demo {
    /// Runs the command. `run` runs another command by its command line.
    ///
    /// # Errors
    /// Fails if the files cannot be written, or if a step fails.
    pub fn run(&self, run: &dyn Fn(&str) -> Result<Answer>) -> Result<Answer> {
        let (directory, _temporary) = self.directory()?;
        let vmcore = directory.join("vmcore");
        unpack(&vmcore)?;
        let start = std::env::current_dir()
            .map_err(|error| Error::io(Path::new("."), "cannot be resolved", error))?;
        std::env::set_current_dir(&directory)
            .map_err(|error| Error::io(&directory, "cannot be entered", error))?;
        let answer = run_steps(run);
        // Leave the temporary directory before its removal.
        let _ = std::env::set_current_dir(start);
        let answer = answer?;
        if self.keep.is_some() {
            print(format_args!("\nThe files are in {}.\n", directory.display()))?;
        }
        Ok(answer)
    }

    fn directory(&self) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
        if let Some(keep) = &self.keep {
            std::fs::create_dir(keep).map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => Error::unusable("exists already")
                    .at(keep)
                    .with_hint("Name a directory that does not exist; it is created."),
                _ => Error::io(keep, "cannot be created", error),
            })?;
            return Ok((keep.clone(), None));
        }
        let temporary = tempfile::TempDir::new()
            .map_err(|error| Error::failure("cannot create a temporary directory").because(error))?;
        Ok((temporary.path().to_owned(), Some(temporary)))
    }
}

fn run_steps(run: &dyn Fn(&str) -> Result<Answer>) -> Result<Answer> {
    print(format_args!(
        "A real vmcore: Linux 6.1, 768 MiB, two nodes, crashed on purpose, trimmed to its metadata.\n"
    ))?;
    let image = open(Path::new("vmcore"), &OpenOptions::default())?;
    let page = anonymous_page(&Machine::new(&*image, RuleSet::Makedumpfile)?);
    let mut answer = Answer::Yes;
    for (title, command) in STEPS {
        let command = command.replace("@PAGE@", &page.to_string());
        print(format_args!("\n# {title}\n$ cdbitmap {command}\n"))?;
        if run(&format!("cdbitmap {command}"))? == Answer::No {
            answer = Answer::No;
        }
    }
    print(format_args!(
        "\n# Compare with what makedumpfile made of this vmcore, at all {LEVELS} dump levels\n"
    ))?;
    let differing = differing_bits(&Machine::new(&*image, RuleSet::Makedumpfile)?)?;
    print(format_args!("{differing} of {} bits differ.\n", LEVELS as u64 * image.facts().max_pfn))?;
    Ok(if differing == 0 { answer } else { Answer::No })
}

/// Finds a page of user memory near the middle of the machine: level 8 excludes it, lower levels keep it.
fn anonymous_page(machine: &Machine<'_>) -> u64 {
    let scanned = scan(machine, DumpLevel::USER, &mut RunToCompletion);
    let kept = scanned.bitmap.words();
    let middle = kept.len() / 2;
    let word = kept.iter().skip(middle).position(|word| *word == 0).unwrap_or(0) + middle;
    word as u64 * 64
}

/// Counts the bits that differ between our 2nd bitmaps and makedumpfile's, over all dump levels.
fn differing_bits(machine: &Machine<'_>) -> Result<u64> {
    let damaged = |what: &str| Error::failure(format!("the bitmaps in this program {what}"));
    let bytes =
        zstd::decode_all(BITMAPS).map_err(|error| damaged("cannot be decompressed").because(error))?;
    let theirs = Bitmaps::parse(&bytes).ok_or_else(|| damaged("are damaged"))?;
    print(format_args!("makedumpfile {}:\n", theirs.makedumpfile))?;
    let exists = FrameBitmap::from_ranges(&machine.exists(), machine.frames);
    let mut differing = 0;
    for (level, theirs) in (0..).zip(&theirs.levels) {
        let level = DumpLevel::from_number(level).unwrap_or_default();
        let mut ours = scan(machine, level, &mut RunToCompletion).bitmap;
        ours.intersect(&exists);
        let pairs = ours.words().iter().zip(theirs.words());
        differing += pairs.map(|(a, b)| u64::from((a ^ b).count_ones())).sum::<u64>();
        differing += ours.frames().abs_diff(theirs.frames());
    }
    Ok(differing)
}

fn unpack(vmcore: &Path) -> Result<()> {
    let failed = |error| Error::io(vmcore, "cannot be written", error);
    let mut file = File::create(vmcore).map_err(failed)?;
    copy_sparse(zstd::Decoder::new(VMCORE).map_err(failed)?, &mut file).map_err(failed)
}
