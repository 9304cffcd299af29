//! Scans that don't come to their end, and machines whose memory is damaged when they die.
//!
//! Whatever happens, the capture kernel is started, and finds a bitmap that leaves no page out that the rules keep, or
//! one that is refused with a reason. Most trials are frozen when the first kernel is left: their memory is looked at
//! from outside, which takes a second. The others go on into the capture kernel.

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

/// A trial: its name, and the commands that order the fault.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Its kind, and its number among those.
    pub name: String,
    /// For the first kernel.
    pub orders: Vec<String>,
    /// What the console shows if the fault has come about; empty if that is not certain.
    shows: &'static str,
    /// Whether memory is damaged that the rules look at.
    damages_pages: bool,
}

/// What the faults are measured by: a machine without one.
#[derive(Debug)]
pub struct Sound {
    /// How often the scan calls back.
    pub calls: u64,
}

/// The trials for a seed: `cuts` scans that are cut, and a tenth of that of each other kind.
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
        // At the last calls all is decided.
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
            // With damaged page tables the kernel may fault before it comes to say so.
            let shows = if place == "tables" { "" } else { "test: flipped" };
            Trial { name: format!("{place}-{number}"), orders: vec![order], shows, damages_pages }
        }));
    }
    trials
}

/// Crashes the machine without a fault.
///
/// # Errors
/// Its bitmap isn't perfect.
pub fn sound(bench: &Bench) -> Result<Sound> {
    let frozen = Frozen::new(bench, "sound", &[])?;
    let calls =
        frozen.said.iter().find_map(|said| said.strip_prefix("test: ")?.strip_suffix(" calls")?.parse().ok());
    let calls =
        calls.ok_or_else(|| Error::failure("the module doesn't say how often the scan called back"))?;
    let bitmap = frozen.directory.join("bitmap");
    frozen.extract(bench, &bitmap)?.map_err(Error::failure)?;
    match frozen.verdict(&bitmap)? {
        (VerifyOutcome::Holds, _) => {
            frozen.remove(&[&bitmap])?;
            Ok(Sound { calls })
        }
        (_, text) => Err(Error::failure(format!("without a fault, the bitmap does not hold: {text}"))),
    }
}

/// How a bitmap came out of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// It is as without the fault.
    Holds,
    /// It keeps more.
    KeepsMore,
    /// It is refused, with a reason.
    Refused,
}

/// One trial, looked at from outside.
///
/// # Errors
/// The capture kernel is not started, or the bitmap lacks pages.
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
        // No dump is made from it.
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

/// One trial through the capture kernel: there is a dump, and it has all pages that makedumpfile's has.
///
/// # Errors
/// It isn't so.
pub fn through(bench: &Bench, trial: &Trial) -> Outcome {
    let orders: Vec<&str> = trial.orders.iter().map(String::as_str).collect();
    let name = format!("{}-through", trial.name);
    let mut crashed = bench.crash(&name, &orders, "sysrq")?;
    let dumps = Dumps::within(&bench.directory_of(&name));
    let reply = crashed.guest.stream("dump - --bitmap auto", &dumps.ours, LIMIT)?;
    let said = crashed.guest.run("said", LIMIT)?;
    if reply.status != 0 {
        return Err(Error::failure(format!("the dump ends with {}", reply.status)).with_hint(said.text()));
    }
    let said = said.after("said: cdbitmap: bitmap: ").unwrap_or_default().to_owned();
    let reference = crashed.guest.stream("reference -", &dumps.theirs, LIMIT)?;
    if reference.status != 0 {
        return Ok(format!("a dump; makedumpfile makes none; {said}"));
    }
    let comparison = dumps.compare()?;
    let holds = comparison.is_superset() && (trial.damages_pages || comparison.same());
    if !holds {
        return Err(Error::failure(comparison.summary()).with_hint(comparison.explained().join("\n    ")));
    }
    dumps.remove()?;
    Ok(format!("{}; {said}", comparison.summary()))
}

/// A machine that stands still between the first kernel and the capture kernel.
struct Frozen {
    directory: PathBuf,
    memory: PathBuf,
    /// All that the console showed.
    console: String,
    /// What the module said of that.
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

    /// Brings the bitmap out of the memory, unless it is refused with a reason.
    fn extract(&self, bench: &Bench, bitmap: &Path) -> Result<Result<(), String>> {
        let (status, said) = self.cdbitmap(bench, "extract", bitmap, &[])?;
        match status {
            0 => Ok(Ok(())),
            _ if !said.is_empty() => Ok(Err(said)),
            _ => Err(Error::failure(format!("cdbitmap extract ends with {status}, and says nothing"))),
        }
    }

    /// Why no dump is made from the bitmap.
    fn refusal(&self, bench: &Bench) -> Result<String> {
        let dump = self.directory.join("dump");
        match self.cdbitmap(bench, "dump", &dump, &["--bitmap", "required"])? {
            (0, _) => Err(Error::failure("a dump is made from a damaged bitmap")),
            (_, said) => Ok(said),
        }
    }

    /// Has the tool do something with the memory, and returns its status and what it says.
    fn cdbitmap(&self, bench: &Bench, verb: &str, output: &Path, options: &[&str]) -> Result<(i32, String)> {
        let mut command = Command::new(&bench.cdbitmap);
        command.arg(verb).arg(&self.memory).args(options).args(["--bitmap-address", &bench.bitmap_address]);
        match verb {
            "extract" => command.args(["--force", "-o"]).arg(output),
            _ => command.arg("--force").arg(output),
        };
        let output = command.output().map_err(|e| Error::io(&bench.cdbitmap, "it can't be started", e))?;
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
        let said = said.replace(&format!("{}: ", self.memory.display()), "").replace("cdbitmap: ", "");
        Ok((output.status.code().unwrap_or(-1), said))
    }

    /// What `cdbitmap verify` says of it.
    fn verdict(&self, bitmap: &Path) -> Result<(VerifyOutcome, String)> {
        let image = open(&self.memory, &OpenOptions::default())?;
        let (subject, asked) = (Subject::open_filtered(bitmap)?, Asked::default());
        let machine = Machine::new(&*image, asked.rules_for(&subject))?;
        let report = verify(&subject, Some(&machine), asked)?;
        let findings: Vec<_> = report.findings.iter().map(|finding| finding.what.as_str()).collect();
        Ok((report.verdict, if findings.is_empty() { "holds".to_owned() } else { findings.join(", ") }))
    }

    /// Removes the memory, and what was made of it.
    fn remove(&self, made: &[&Path]) -> Result<()> {
        remove_files(made)?;
        remove_files(&[&self.memory])
    }
}

/// Random numbers that are the same for the same seed: SplitMix64.
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
