//! Faults: scans that stop early, and machines whose memory is damaged before the crash.
//!
//! In each trial the capture kernel must start, and the bitmap must keep all pages that the rules keep, or be rejected
//! with a reason. Most trials stop the machine at the jump and examine its memory from outside, which takes a second.
//! The others continue in the capture kernel.

use crate::bench::Bench;
use crate::crash::Dumps;
use crate::kit::remove_files;
use crate::report::Outcome;
use page_filter::machine::Machine;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use vmcore::image::{OpenOptions, open};
use vmcore::{Error, Result};
use vmcore_analysis::{Asked, Subject, VerifyOutcome, verify};

const LIMIT: Duration = Duration::from_secs(180);

/// A trial: its name, and the commands that set up the fault.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Its kind and number: `KIND-NUMBER`.
    pub name: String,
    /// Commands for the first kernel.
    pub orders: Vec<String>,
    /// Text on the console if the fault occurred; empty if the console may lack it.
    shows: &'static str,
    /// Whether the fault damages memory that the rules read.
    damages_pages: bool,
}

/// The crash without a fault that the trials are compared with.
#[derive(Debug)]
pub struct Sound {
    /// Number of the scan's checkpoint calls.
    pub calls: u64,
}

/// The trials for a seed: `cuts` stopped scans, and a tenth as many of each other kind.
pub fn trials(cuts: u64, calls: u64, seed: u64) -> Vec<Trial> {
    let mut random = Random(seed);
    let few = cuts.div_ceil(10);
    let mut trials: Vec<Trial> = [(0, "out of budget"), (1, "")]
        .map(|(budget, shows)| Trial {
            name: format!("budget-{budget}"),
            orders: vec![format!("echo {budget} > $module/budget")],
            shows,
            damages_pages: false,
        })
        .into();
    for (kind, action, count, shows) in [
        // At the last calls the scan has decided all pages.
        ("cut", "stop", cuts, ""),
        ("kill", "panic", few, "Kernel panic - not syncing: test: at call"),
        ("fault", "fault", few, "BUG: kernel NULL pointer dereference"),
    ] {
        trials.extend((0..count).map(|number| {
            let at = 1 + random.below(calls);
            let orders =
                vec![format!("echo {at} > $module/test_at"), format!("echo -n {action} > $module/test_do")];
            Trial { name: format!("{kind}-{number}"), orders, shows, damages_pages: false }
        }));
    }
    for place in ["state", "early-chunks", "header", "chunks", "pages", "tables"] {
        trials.extend((0..few).map(|number| {
            let count = [1, 1, 8, 64][usize::try_from(number % 4).unwrap_or(0)];
            let order = format!("echo -n {place}:{count}:{} > $module/test_flip", random.below(1 << 32));
            let damages_pages = place == "pages" || place == "tables";
            // With damaged page tables the kernel may fault before it prints the message.
            let shows = if place == "tables" { "" } else { "test: flipped" };
            Trial { name: format!("{place}-{number}"), orders: vec![order], shows, damages_pages }
        }));
    }
    trials
}

/// Crashes the machine without a fault.
///
/// # Errors
/// The bitmap has a defect.
pub fn sound(bench: &Bench) -> Result<Sound> {
    let frozen = Frozen::new(bench, "sound", &[])?;
    let calls =
        frozen.said.iter().find_map(|said| said.strip_prefix("test: ")?.strip_suffix(" calls")?.parse().ok());
    let calls =
        calls.ok_or_else(|| Error::failure("the module does not print the number of checkpoint calls"))?;
    let bitmap = frozen.directory.join("bitmap");
    frozen.extract(bench, &bitmap)?.map_err(Error::failure)?;
    match frozen.verdict(&bitmap)? {
        (VerifyOutcome::Holds, _) => {
            frozen.remove(&[&bitmap])?;
            Ok(Sound { calls })
        }
        (_, text) => Err(Error::failure(format!("without a fault, the bitmap is invalid: {text}"))),
    }
}

/// The state of a bitmap after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// It equals the bitmap without the fault.
    Holds,
    /// It keeps more pages.
    KeepsMore,
    /// It is rejected with a reason.
    Refused,
}

/// Runs one trial and examines the stopped machine's memory from outside.
///
/// # Errors
/// The capture kernel does not start, or the bitmap lacks pages.
pub fn frozen(bench: &Bench, trial: &Trial) -> Result<(Ending, String)> {
    let frozen = Frozen::new(bench, &trial.name, &trial.orders)?;
    let orders = trial.orders.join(" ").replace("echo ", "").replace("-n ", "").replace("$module/", "");
    if !frozen.console.contains(trial.shows) {
        return Err(Error::failure(format!("{orders}: the console does not show \"{}\"", trial.shows)));
    }
    let bitmap = frozen.directory.join("bitmap");
    if let Err(reason) = frozen.extract(bench, &bitmap)? {
        frozen.remove(&[])?;
        return Ok((Ending::Refused, format!("{orders}: refused: {reason}")));
    }
    let (verdict, text) = frozen.verdict(&bitmap)?;
    let ending = match verdict {
        VerifyOutcome::Holds => Ending::Holds,
        VerifyOutcome::KeepsMore => Ending::KeepsMore,
        // `cdbitmap dump` must reject it, too.
        VerifyOutcome::Damaged => {
            let reason = frozen.refusal(bench)?;
            frozen.remove(&[&bitmap])?;
            return Ok((Ending::Refused, format!("{orders}: refused: {reason}")));
        }
        _ => return Err(Error::failure(format!("{orders}: {text}")).with_hint(frozen.said.join("\n  "))),
    };
    frozen.remove(&[&bitmap])?;
    Ok((ending, format!("{orders}: {text}")))
}

/// Runs one trial through the capture kernel: there must be a dump, and it must have all pages of makedumpfile's dump.
///
/// # Errors
/// There is no dump, or it lacks pages.
pub fn through(bench: &Bench, trial: &Trial) -> Outcome {
    let orders: Vec<&str> = trial.orders.iter().map(String::as_str).collect();
    let name = format!("{}-through", trial.name);
    let mut crashed = bench.crash(&name, &orders, "sysrq")?;
    let dumps = Dumps::within(&bench.directory_of(&name));
    let reply = crashed.guest.stream("dump - --bitmap auto", &dumps.ours, LIMIT)?;
    let said = crashed.guest.run("said", LIMIT)?;
    if reply.status != 0 {
        return Err(
            Error::failure(format!("the dump failed with status {}", reply.status)).with_hint(said.text())
        );
    }
    let said = said.after("said: cdbitmap: bitmap: ").unwrap_or_default().to_owned();
    let reference = crashed.guest.stream("reference -", &dumps.theirs, LIMIT)?;
    if reference.status != 0 {
        return Ok(format!("a dump; makedumpfile failed; {said}"));
    }
    let comparison = dumps.compare()?;
    let holds = comparison.is_superset() && (trial.damages_pages || comparison.same());
    if !holds {
        return Err(Error::failure(comparison.summary()).with_hint(comparison.explained().join("\n    ")));
    }
    dumps.remove()?;
    Ok(format!("{}; {said}", comparison.summary()))
}

/// A machine that is stopped between the first kernel and the capture kernel.
struct Frozen {
    directory: PathBuf,
    memory: PathBuf,
    /// The console's output.
    console: String,
    /// The module's messages in it.
    said: Vec<String>,
}

impl Frozen {
    fn new(bench: &Bench, trial: &str, orders: &[String]) -> Result<Self> {
        let directory = bench.directory_of(trial);
        let mut guest = bench.restore(trial)?;
        for order in orders {
            guest.succeed(order, LIMIT)?;
        }
        guest.order("crash sysrq")?;
        let lines = guest.wait_for("I'm in purgatory", LIMIT)?;
        let memory = directory.join("memory");
        guest.dump_memory(&memory)?;
        let said =
            lines.iter().filter_map(|line| Some(line.text.split_once("crash_dump_bitmap: ")?.1.to_owned()));
        let console = lines.iter().map(|line| format!("{}\n", line.text)).collect();
        Ok(Self { memory, console, said: said.collect(), directory })
    }

    /// Extracts the bitmap from the memory, unless it is rejected with a reason. Returns the reason.
    fn extract(&self, bench: &Bench, bitmap: &Path) -> Result<Result<(), String>> {
        let (status, said) = self.cdbitmap(bench, "extract", bitmap, &[])?;
        match status {
            0 => Ok(Ok(())),
            _ if !said.is_empty() => Ok(Err(said)),
            _ => Err(Error::failure(format!(
                "cdbitmap extract failed with status {status} and printed nothing"
            ))),
        }
    }

    /// Why `cdbitmap dump` rejects the bitmap.
    fn refusal(&self, bench: &Bench) -> Result<String> {
        let dump = self.directory.join("dump");
        match self.cdbitmap(bench, "dump", &dump, &["--bitmap", "required"])? {
            (0, _) => Err(Error::failure("cdbitmap dump accepts a damaged bitmap")),
            (_, said) => Ok(said),
        }
    }

    /// Runs a `cdbitmap` command on the memory. Returns its status and its messages.
    fn cdbitmap(&self, bench: &Bench, verb: &str, output: &Path, options: &[&str]) -> Result<(i32, String)> {
        let mut command = Command::new(&bench.cdbitmap);
        command.arg(verb).arg(&self.memory).args(options).args(["--bitmap-address", &bench.bitmap_address]);
        match verb {
            "extract" => command.args(["--force", "-o"]).arg(output),
            _ => command.arg("--force").arg(output),
        };
        let output = command.output().map_err(|e| Error::io(&bench.cdbitmap, "cannot be run", e))?;
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
        let said = said.replace(&format!("{}: ", self.memory.display()), "").replace("cdbitmap: ", "");
        Ok((output.status.code().unwrap_or(-1), said))
    }

    /// The result of `cdbitmap verify` for the bitmap.
    fn verdict(&self, bitmap: &Path) -> Result<(VerifyOutcome, String)> {
        let image = open(&self.memory, &OpenOptions::default())?;
        let (subject, asked) = (Subject::open_filtered(bitmap)?, Asked::default());
        let machine = Machine::new(&*image, asked.rules_for(&subject))?;
        let report = verify(&subject, Some(&machine), asked)?;
        let findings: Vec<_> = report.findings.iter().map(|finding| finding.what.as_str()).collect();
        Ok((report.verdict, if findings.is_empty() { "holds".to_owned() } else { findings.join(", ") }))
    }

    /// Removes the memory file and the files made from it.
    fn remove(&self, made: &[&Path]) -> Result<()> {
        remove_files(made)?;
        remove_files(&[&self.memory])
    }
}

/// A generator of reproducible pseudo-random numbers: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_trials_again() {
        let orders = |seed| trials(100, 261, seed).into_iter().map(|trial| trial.orders).collect::<Vec<_>>();
        assert_eq!(orders(7), orders(7));
        assert_ne!(orders(7), orders(8));
        assert_eq!(orders(7).len(), 2 + 100 + 2 * 10 + 6 * 10);
    }
}
