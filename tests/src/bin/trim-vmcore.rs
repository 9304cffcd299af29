//! Makes a fixture: `trim-vmcore VMCORE NAME MAKEDUMPFILE`.
//!
//! Trims the ELF vmcore VMCORE, checks that scans of the original and of the trimmed vmcore give the same bitmaps, runs
//! the program MAKEDUMPFILE for its bitmaps, and stores both as the fixture NAME in `tests/fixtures`.

use cross_tests::fixture::{Bitmaps, LEVELS, compress, path};
use cross_tests::trim::Trimmed;
use page_filter::machine::Machine;
use page_filter::scan::scan;
use scanner_core::scan::RunToCompletion;
use scanner_core::{DumpLevel, RuleSet, VmcoreInfo};
use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitCode};
use vmcore::frames::FrameBitmap;
use vmcore::image::{MemoryImage, OpenOptions, open};
use vmcore::{Error, Result};

fn main() -> ExitCode {
    match make_fixture() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cross_tests::failed("trim-vmcore", &error),
    }
}

fn make_fixture() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vmcore, name, makedumpfile] = &arguments[..] else {
        return Err(Error::unusable("usage: trim-vmcore VMCORE NAME MAKEDUMPFILE"));
    };
    let vmcore = Path::new(vmcore);
    let original = open(vmcore, &OpenOptions::default())?;
    let target = tempfile::NamedTempFile::new()
        .map_err(|e| Error::failure("cannot create a temporary file").because(e))?;
    Trimmed::of(&*original)?.write(vmcore, &*original, target.as_file())?;
    let trimmed = open(target.path(), &OpenOptions::default())?;
    check_same(&*original, &*trimmed)?;

    let bitmaps = reference(&*trimmed, target.path(), Path::new(makedumpfile))?;
    let (vmcore, levels) = (path(name, "vmcore.zst"), path(name, "bitmaps.zst"));
    let source = File::open(target.path()).map_err(|e| Error::io(target.path(), "cannot be read", e))?;
    compress(&bitmaps.to_bytes()[..], &levels).map_err(|e| Error::io(&levels, "cannot be written", e))?;
    compress(source, &vmcore).map_err(|e| Error::io(&vmcore, "cannot be written", e))
}

/// Checks that scans of both images give the same bitmap at every level, with both rule sets.
fn check_same(original: &dyn MemoryImage, trimmed: &dyn MemoryImage) -> Result<()> {
    for rules in [RuleSet::Makedumpfile, RuleSet::Kernel] {
        let (original, trimmed) = (Machine::new(original, rules)?, Machine::new(trimmed, rules)?);
        for number in (0..LEVELS as u64).step_by(2) {
            let level = DumpLevel::from_number(number).expect("a level below 32");
            let bitmap = |machine| scan(machine, level, &mut RunToCompletion).bitmap;
            if bitmap(&original) != bitmap(&trimmed) {
                let rules = rules.name();
                let what =
                    format!("the trimmed vmcore's bitmap differs at level {number} with the {rules} rules");
                return Err(Error::failure(what));
            }
        }
    }
    Ok(())
}

/// makedumpfile's 2nd bitmaps for `vmcore`, which is open as `image`.
fn reference(image: &dyn MemoryImage, vmcore: &Path, makedumpfile: &Path) -> Result<Bitmaps> {
    let failed = |e| Error::io(makedumpfile, "cannot be run", e);
    let directory =
        tempfile::tempdir().map_err(|e| Error::failure("cannot create a temporary directory").because(e))?;
    let dump = directory.path().join("dump");
    let mut bitmaps = Bitmaps {
        kernel: kernel(image),
        makedumpfile: String::new(),
        max_mapnr: 0,
        levels: Vec::with_capacity(LEVELS),
    };
    for level in 0..LEVELS {
        let run = Command::new(makedumpfile)
            .args(["-f", "-l", "-d", &level.to_string()])
            .args([vmcore, &dump])
            .output()
            .map_err(failed)?;
        if !run.status.success() {
            let said = String::from_utf8_lossy(&run.stderr).into_owned();
            return Err(Error::failure(format!("failed at level {level}: {said}")).at(makedumpfile));
        }
        let dump = open(&dump, &OpenOptions::default())?;
        let filtered =
            dump.facts().filtered.as_ref().ok_or_else(|| Error::failure("wrote no filtered dump"))?;
        bitmaps.max_mapnr = filtered.kept.frames();
        bitmaps.levels.push(filtered.kept.clone());
    }
    if bitmaps.levels.iter().map(FrameBitmap::frames).any(|frames| frames != bitmaps.max_mapnr) {
        return Err(Error::failure("makedumpfile's bitmaps have different sizes"));
    }
    let version = Command::new(makedumpfile).arg("-v").output().map_err(failed)?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let version = version.lines().next().unwrap_or("unknown").trim();
    bitmaps.makedumpfile = version.trim_start_matches("makedumpfile: version ").to_owned();
    Ok(bitmaps)
}

fn kernel(image: &dyn MemoryImage) -> String {
    let text = image.facts().vmcoreinfo.as_deref().unwrap_or_default();
    VmcoreInfo::parse(text).map_or_else(|_| "unknown".into(), |info| info.os_release().to_owned())
}
