//! Crashes of each kind: checks the bitmap and the dump in the capture kernel.

use crate::bench::{Bench, Crashed};
use crate::comparison::Comparison;
use crate::kit::remove_files;
use crate::report::Outcome;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmcore::frames::FrameRanges;
use vmcore::{Error, Result};

/// Time limit of a command in the capture kernel.
const LIMIT: Duration = Duration::from_secs(180);

/// The kinds of crashes of a machine with `cpus` processors.
pub fn kinds(cpus: u32) -> Vec<String> {
    let mut kinds: Vec<String> = ["sysrq", "oops", "hung"].map(Into::into).into();
    kinds.extend((0..cpus).map(|cpu| format!("interrupt {cpu}")));
    kinds
}

/// The paths of our dump and of makedumpfile's dump of one crash, on the host.
pub struct Dumps {
    /// Our dump.
    pub ours: PathBuf,
    /// makedumpfile's dump.
    pub theirs: PathBuf,
}

impl Dumps {
    /// The paths in the directory of a trial.
    pub fn within(directory: &Path) -> Self {
        Self { ours: directory.join("ours"), theirs: directory.join("theirs") }
    }

    /// Runs makedumpfile in the guest for /theirs, and copies /ours and /theirs to the host.
    fn fetch(crashed: &mut Crashed, directory: PathBuf) -> Result<Self> {
        crashed.guest.succeed("reference /theirs || { said; false; }", LIMIT)?;
        crashed.guest.fetch(&["ours", "theirs"], &directory)?;
        Ok(Self::within(&directory))
    }

    /// Compares the dumps.
    ///
    /// # Errors
    /// A dump cannot be read.
    pub fn compare(&self) -> Result<Comparison> {
        Comparison::new(&self.theirs, &self.ours, true)
    }

    /// Removes both dumps.
    ///
    /// # Errors
    /// A dump does not exist.
    pub fn remove(&self) -> Result<()> {
        remove_files(&[&self.ours, &self.theirs])
    }
}

/// One crash: the bitmap must be complete and valid for /proc/vmcore, and the dump by it must equal makedumpfile's.
///
/// # Errors
/// One of these conditions fails.
pub fn trial(bench: &Bench, trial: &str, kind: &str) -> Outcome {
    let mut crashed = bench.crash(trial, &[], kind)?;
    let said = crashed.module_says().join("; ");
    dump_from_bitmap(&mut crashed)?;
    let verdict = crashed.guest.run("cdbitmap verify /ours --image /proc/vmcore", LIMIT)?;
    let dumps = Dumps::fetch(&mut crashed, bench.directory_of(trial))?;
    let comparison = dumps.compare()?;
    if !comparison.same() || verdict.status != 0 {
        let mut hint = comparison.explained().join("\n    ");
        if verdict.status != 0 {
            hint += &format!("\n    verify failed with status {}:\n{}", verdict.status, verdict.text());
        }
        return Err(Error::failure(comparison.summary()).with_hint(hint));
    }
    dumps.remove()?;
    Ok(format!("{}; panic to jump {:.0?}; {said}", comparison.summary(), crashed.panic_to_jump()))
}

/// Tests the checks themselves: they must detect a bitmap with one wrong bit, that of the frame of the module's info.
///
/// # Errors
/// A check does not detect it.
pub fn sabotage(bench: &Bench, trial: &str) -> Outcome {
    let mut crashed = bench.crash(trial, &[], "sysrq")?;
    let address = u64::from_str_radix(bench.bitmap_address.trim_start_matches("0x"), 16);
    let pfn = address.map_err(|e| Error::failure("the info's address is not a number").because(e))? >> 12;
    crashed.guest.succeed(&format!("sabotage {pfn}"), LIMIT)?;
    let verdict = crashed.guest.run("cdbitmap verify /sabotaged -d 31 --image /proc/vmcore", LIMIT)?;
    crashed.guest.succeed("dump /ours --bitmap /sabotaged || { said; false; }", LIMIT)?;
    let dumps = Dumps::fetch(&mut crashed, bench.directory_of(trial))?;
    let comparison = dumps.compare()?;
    if verdict.status != 1 || !verdict.text().contains("LOSES 1 page") {
        return Err(Error::failure("verify does not detect a wrong bit").with_hint(verdict.text()));
    }
    if comparison.same() || comparison.is_superset() || comparison.lost.count() != 1 || !comparison.loses(pfn)
    {
        return Err(
            Error::failure("the comparison does not detect a wrong bit").with_hint(comparison.summary())
        );
    }
    dumps.remove()?;
    Ok(format!("verify and comparison detect the wrong bit of frame {pfn:#x}"))
}

/// Another panic notifier allocates and frees pages after the scan: exactly these pages must differ.
///
/// # Errors
/// Other pages differ, or these do not.
pub fn churn(bench: &Bench, trial: &str) -> Outcome {
    let order = "echo 1 > /sys/module/crasher/parameters/churn";
    let mut crashed = bench.crash(trial, &[order], "sysrq")?;
    let first_of = |what: &str| {
        let line = crashed.lines.iter().find_map(|line| line.text.split_once(what));
        let pfn = line.and_then(|(_, rest)| {
            u64::from_str_radix(rest.strip_prefix(" from 0x")?.split(' ').next()?, 16).ok()
        });
        pfn.ok_or_else(|| Error::failure(format!("the console does not show \"{what}\"")))
    };
    let (allocated, freed) = (first_of("frames allocated")?, first_of("frames freed")?);
    crashed.guest.succeed("dump /ours --bitmap required || { said; false; }", LIMIT)?;
    let verdict = crashed.guest.run("cdbitmap verify /ours --image /proc/vmcore", LIMIT)?;
    let dumps = Dumps::fetch(&mut crashed, bench.directory_of(trial))?;
    let comparison = dumps.compare()?;
    let is_block = |frames: &FrameRanges, first: u64| matches!(frames.as_slice(), [range] if range.start.as_u64() == first && range.len() == 32);
    if verdict.status != 1 || !is_block(&comparison.lost, allocated) || !is_block(&comparison.added, freed) {
        return Err(Error::failure(comparison.summary()).with_hint(comparison.explained().join("\n    ")));
    }
    dumps.remove()?;
    Ok(format!(
        "the 32 frames allocated from {allocated:#x} on are excluded, the 32 freed from {freed:#x} on are kept"
    ))
}

/// Makes /ours by the bitmap in memory, which must be complete.
fn dump_from_bitmap(crashed: &mut Crashed) -> Result<()> {
    let reply = crashed.guest.succeed("dump /ours --bitmap required --json || { said; false; }", LIMIT)?;
    let text: String =
        reply.lines.iter().map(|line| line.text.as_str()).skip_while(|line| *line != "{").collect();
    let json: Value = serde_json::from_str(&text)
        .map_err(|e| Error::failure("the report of the dump is not valid JSON").because(e))?;
    let state = &json["bitmap"]["found"]["bitmap"]["scan"]["state"];
    match state.as_str() {
        Some("complete") => Ok(()),
        _ => Err(Error::failure(format!("the bitmap is not complete; its state is {state}"))),
    }
}

/// A crash whose capture kernel has only 64 MiB available: the dump must equal makedumpfile's.
///
/// # Errors
/// The dump fails or differs.
pub fn in_64_mib(bench: &Bench, trial: &str) -> Outcome {
    let mut crashed = bench.crash(trial, &[], "sysrq")?;
    let directory = bench.directory_of(trial);
    let (dumps, scanned) = (Dumps::within(&directory), directory.join("scanned"));
    let left = crashed.guest.succeed("leave 64", LIMIT)?;
    let left = left.after("MemAvailable:").unwrap_or("?").to_owned();
    let reply = crashed.guest.stream("dump - --bitmap required", &dumps.ours, LIMIT)?;
    if reply.status != 0 {
        let said = crashed.guest.run("said", LIMIT)?.text();
        return Err(Error::failure(format!(
            "with {left} available, the dump failed with status {}",
            reply.status
        ))
        .with_hint(said));
    }
    let scan = crashed.guest.stream("dump -", &scanned, LIMIT)?;
    crashed.guest.stream("reference -", &dumps.theirs, LIMIT)?;
    let comparison = dumps.compare()?;
    if scan.status != 0 || !comparison.same() {
        return Err(Error::failure(comparison.summary()).with_hint(comparison.explained().join("\n    ")));
    }
    dumps.remove()?;
    remove_files(&[scanned])?;
    Ok(format!("{}, with {left} available", comparison.summary()))
}
