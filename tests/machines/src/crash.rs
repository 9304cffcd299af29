//! Crashes of each kind: what the capture kernel finds, and what it makes of it.

use crate::bench::{Bench, Crashed};
use crate::comparison::Comparison;
use crate::kit::remove_files;
use crate::report::Outcome;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmcore::frames::FrameRanges;
use vmcore::{Error, Result};

/// For a command of the capture kernel.
const LIMIT: Duration = Duration::from_secs(180);

/// The kinds of crashes of a machine with that many processors.
pub fn kinds(cpus: u32) -> Vec<String> {
    let mut kinds: Vec<String> = ["sysrq", "oops", "hung"].map(Into::into).into();
    kinds.extend((0..cpus).map(|cpu| format!("interrupt {cpu}")));
    kinds
}

/// Our dump and makedumpfile's of one crash, outside of the machine.
pub struct Dumps {
    /// Ours.
    pub ours: PathBuf,
    /// makedumpfile's.
    pub theirs: PathBuf,
}

impl Dumps {
    /// Where they go in the directory of a trial.
    pub fn within(directory: &Path) -> Self {
        Self { ours: directory.join("ours"), theirs: directory.join("theirs") }
    }

    /// Has makedumpfile write /theirs beside /ours, and brings both out.
    fn fetch(crashed: &mut Crashed, directory: PathBuf) -> Result<Self> {
        crashed.guest.succeed("reference /theirs || { said; false; }", LIMIT)?;
        crashed.guest.fetch(&["ours", "theirs"], &directory)?;
        Ok(Self::within(&directory))
    }

    /// How they differ.
    ///
    /// # Errors
    /// One can't be read.
    pub fn compare(&self) -> Result<Comparison> {
        Comparison::new(&self.theirs, &self.ours, true)
    }

    /// Removes both.
    ///
    /// # Errors
    /// One isn't there.
    pub fn remove(&self) -> Result<()> {
        remove_files(&[&self.ours, &self.theirs])
    }
}

/// One crash: the bitmap is there and complete, it holds against /proc/vmcore, and the dump from it is makedumpfile's.
///
/// # Errors
/// Something of that isn't so.
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
            hint += &format!("\n    verify ends with {}:\n{}", verdict.status, verdict.text());
        }
        return Err(Error::failure(comparison.summary()).with_hint(hint));
    }
    dumps.remove()?;
    Ok(format!("{}; panic to jump {:.0?}; {said}", comparison.summary(), crashed.panic_to_jump()))
}

/// The checks themselves: a bitmap with one wrong bit, in the frame of the module's own info, has to fail them.
///
/// # Errors
/// It doesn't.
pub fn sabotage(bench: &Bench, trial: &str) -> Outcome {
    let mut crashed = bench.crash(trial, &[], "sysrq")?;
    let address = u64::from_str_radix(bench.bitmap_address.trim_start_matches("0x"), 16);
    let pfn = address.map_err(|e| Error::failure("the info's address is no number").because(e))? >> 12;
    crashed.guest.succeed(&format!("sabotage {pfn}"), LIMIT)?;
    let verdict = crashed.guest.run("cdbitmap verify /sabotaged -d 31 --image /proc/vmcore", LIMIT)?;
    crashed.guest.succeed("dump /ours --bitmap /sabotaged || { said; false; }", LIMIT)?;
    let dumps = Dumps::fetch(&mut crashed, bench.directory_of(trial))?;
    let comparison = dumps.compare()?;
    if verdict.status != 1 || !verdict.text().contains("LOSES 1 page") {
        return Err(Error::failure("verify does not see a wrong bit").with_hint(verdict.text()));
    }
    if comparison.same() || comparison.is_superset() || comparison.lost.count() != 1 || !comparison.loses(pfn)
    {
        return Err(Error::failure("the comparison does not see a wrong bit").with_hint(comparison.summary()));
    }
    dumps.remove()?;
    Ok(format!("verify and comparison see the wrong bit of frame {pfn:#x}"))
}

/// What others allocate and free in the panic path, after the scan: exactly those pages differ.
///
/// # Errors
/// It isn't so.
pub fn churn(bench: &Bench, trial: &str) -> Outcome {
    let order = "echo 1 > /sys/module/crasher/parameters/churn";
    let mut crashed = bench.crash(trial, &[order], "sysrq")?;
    let first_of = |what: &str| {
        let line = crashed.lines.iter().find_map(|line| line.text.split_once(what));
        let pfn = line.and_then(|(_, rest)| {
            u64::from_str_radix(rest.strip_prefix(" from 0x")?.split(' ').next()?, 16).ok()
        });
        pfn.ok_or_else(|| Error::failure(format!("the console doesn't say which frames were {what}")))
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
        "the 32 frames allocated from {allocated:#x} on are left out, the 32 freed from {freed:#x} on are kept"
    ))
}

/// Makes /ours from the bitmap in memory, which has to be there and complete.
fn dump_from_bitmap(crashed: &mut Crashed) -> Result<()> {
    let reply = crashed.guest.succeed("dump /ours --bitmap required --json || { said; false; }", LIMIT)?;
    let text: String =
        reply.lines.iter().map(|line| line.text.as_str()).skip_while(|line| *line != "{").collect();
    let json: Value = serde_json::from_str(&text)
        .map_err(|e| Error::failure("the report of the dump is no JSON").because(e))?;
    let state = &json["bitmap"]["found"]["bitmap"]["scan"]["state"];
    match state.as_str() {
        Some("complete") => Ok(()),
        _ => Err(Error::failure(format!("the bitmap is not complete, but {state}"))),
    }
}

/// The same in a capture kernel that has only 64 MiB left: the dump is written, and equals makedumpfile's.
///
/// # Errors
/// It isn't so.
pub fn in_64_mib(bench: &Bench, trial: &str) -> Outcome {
    let mut crashed = bench.crash(trial, &[], "sysrq")?;
    let directory = bench.directory_of(trial);
    let (dumps, scanned) = (Dumps::within(&directory), directory.join("scanned"));
    let left = crashed.guest.succeed("leave 64", LIMIT)?;
    let left = left.after("MemAvailable:").unwrap_or("?").to_owned();
    let reply = crashed.guest.stream("dump - --bitmap required", &dumps.ours, LIMIT)?;
    if reply.status != 0 {
        let said = crashed.guest.run("said", LIMIT)?.text();
        return Err(Error::failure(format!("with {left} available, the dump ends with {}", reply.status))
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
