//! The command line of `tests/machines/panic-path`.

use clap::{Parser, ValueEnum};
use machines::bench::{Bench, Tools};
use machines::faults::Ending;
use machines::report::{Report, side_by_side};
use machines::{Machine, crash, faults, live, times};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use vmcore::{Error, Result};

/// The scan in the panic path, on whole machines: boots real kernels under QEMU, crashes them in many ways, and compares
/// what their capture kernels make of the bitmap with what makedumpfile makes of the same memory
///
/// Environment: MAKEDUMPFILE, the reference (default: the installed one; from 1.7.8 on for 6.12); QEMU, the program;
/// XDG_CACHE_HOME, where kernels are kept.
#[derive(Parser)]
#[command(name = "panic-path")]
struct CommandLine {
    /// What to test
    #[arg(value_enum, default_value = "all")]
    tests: Vec<Test>,
    /// Kernels, as get-kernel knows them
    #[arg(long = "kernel", value_name = "SERIES", default_value = "6.1")]
    kernels: Vec<String>,
    /// Whether the processor can do 5-level paging; may be given twice
    #[arg(long, value_enum, value_name = "on|off", default_value = "on")]
    la57: Vec<Switch>,
    /// Processors; may be given more than once
    #[arg(long, value_name = "COUNT", default_value = "1")]
    cpus: Vec<u32>,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = Machine::SMALL)]
    memory: u32,
    /// Trials of each kind of fault
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    trials: u64,
    /// Of these, each so-many-th goes on into the capture kernel, too
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    through: usize,
    /// Scans of the running system
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    scans: u64,
    /// Times that the module is loaded and unloaded
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    reloads: u64,
    /// Crashes that are measured
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    rounds: u64,
    /// What the random faults are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Do this trial only
    #[arg(long, value_name = "TRIAL")]
    only: Option<String>,
    /// Machines that run at the same time [default: as many as there are processors]
    #[arg(long, value_name = "COUNT")]
    jobs: Option<usize>,
    /// Keep everything there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// The static cdbitmap for the capture kernel
    #[arg(long, value_name = "FILE", hide = true)]
    cdbitmap: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Test {
    /// Crashes of each kind: the bitmap is complete, holds, and makes makedumpfile's dump
    Crash,
    /// Scans of the running system under load
    PageStatus,
    /// Budgets, cut scans, and damaged memory: always a dump, never one that lacks a page
    Faults,
    /// Panic to jump, capture kernel to finished dump
    Times,
    /// The module is loaded and unloaded: nothing is left behind
    Reload,
    /// All of these
    All,
}

impl Test {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

fn main() -> ExitCode {
    match run(&CommandLine::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => machines::failed("panic-path", &error),
    }
}

fn run(asked: &CommandLine) -> Result<()> {
    let tools = Tools { cdbitmap: asked.cdbitmap.clone(), makedumpfile: makedumpfile()? };
    let version = version_of(&tools.makedumpfile)?;
    let scratch = tempfile::Builder::new().prefix("panic-path.").tempdir();
    let scratch =
        scratch.map_err(|e| Error::io(&std::env::temp_dir(), "no directory can be made there", e))?;
    let root = asked.keep.clone().unwrap_or_else(|| scratch.path().to_owned());
    let report = Report::default();
    for series in &asked.kernels {
        for la57 in &asked.la57 {
            for cpus in &asked.cpus {
                let mut machine = Machine::new(series, *la57 == Switch::On, *cpus);
                machine.memory = asked.memory;
                if !machine.is_known_to(&version) {
                    let what = format!("makedumpfile {version} is no reference for {series}");
                    return Err(Error::unusable(what).with_hint("Name a newer one by MAKEDUMPFILE."));
                }
                println!("{machine}, {} MiB, makedumpfile {version}", machine.memory);
                let directory =
                    root.join(format!("{series}-{}-{cpus}", if machine.la57 { "la57" } else { "4level" }));
                let bench = Bench::set_up(machine, &tools, &directory)?;
                test(asked, &bench, &report)?;
                if asked.keep.is_none() {
                    bench.remove_files();
                }
            }
        }
    }
    let end = report.end();
    if end.is_err() {
        // Consoles of trials that failed stay.
        println!("panic-path: kept {}", scratch.keep().display());
    }
    end
}

/// All tests that were asked for, on one machine.
fn test(asked: &CommandLine, bench: &Bench, report: &Report) -> Result<()> {
    let wanted = |test| asked.tests.contains(&test) || asked.tests.contains(&Test::All);
    let jobs = asked.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut trials: Vec<(Test, String)> = Vec::new();
    if wanted(Test::Crash) {
        trials.extend(crash::kinds(bench.machine.cpus).into_iter().map(|kind| (Test::Crash, kind)));
        trials.push((Test::Crash, "64-mib".into()));
        trials.push((Test::Crash, "sabotage".into()));
        trials.push((Test::Crash, "churn".into()));
    }
    if wanted(Test::PageStatus) {
        trials.push((Test::PageStatus, "page_status".into()));
    }
    if wanted(Test::Reload) {
        trials.push((Test::Reload, "reload".into()));
        trials.push((Test::Reload, "leak".into()));
    }
    if let Some(only) = &asked.only {
        trials.retain(|(_, trial)| trial == only);
    }
    side_by_side(trials, jobs, |(test, trial)| {
        let outcome = match test {
            Test::Crash if trial == "64-mib" => crash::in_64_mib(bench, &trial),
            Test::Crash if trial == "sabotage" => crash::sabotage(bench, &trial),
            Test::Crash if trial == "churn" => crash::churn(bench, &trial),
            Test::Crash => crash::trial(bench, &trial, &trial),
            Test::PageStatus => live::page_status(bench, &trial, asked.scans),
            _ if trial == "leak" => live::leak(bench, &trial, asked.reloads),
            _ => live::reload(bench, &trial, asked.reloads, "/crash_dump_bitmap.ko"),
        };
        report.trial(&bench.machine, &test.name(), &trial, asked.seed, &bench.directory_of(&trial), outcome);
    });
    if wanted(Test::Faults) {
        faults(asked, bench, report, jobs)?;
    }
    if wanted(Test::Times) {
        times::table(bench, asked.rounds)?;
    }
    Ok(())
}

/// Faults of all kinds.
fn faults(asked: &CommandLine, bench: &Bench, report: &Report, jobs: usize) -> Result<()> {
    let sound = faults::sound(bench)?;
    let mut trials = faults::trials(asked.trials, sound.calls, asked.seed);
    if let Some(only) = &asked.only {
        trials.retain(|trial| only.strip_suffix("-through").unwrap_or(only) == trial.name);
    }
    let single = trials.len() == 1;
    let endings = Mutex::new(BTreeMap::<(String, Ending), u64>::new());
    side_by_side(trials.into_iter().enumerate(), jobs, |(index, trial)| {
        let tell = |name: &str, outcome| {
            report.trial(&bench.machine, "faults", name, asked.seed, &bench.directory_of(name), outcome);
        };
        let outcome = faults::frozen(bench, &trial).map(|(ending, text)| {
            let kind = trial.name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
            if let Ok(mut endings) = endings.lock() {
                *endings.entry((kind.to_owned(), ending)).or_default() += 1;
            }
            text
        });
        tell(&trial.name, outcome);
        if index % asked.through.max(1) == 0 || single {
            tell(&format!("{}-through", trial.name), faults::through(bench, &trial));
        }
    });
    println!("  how the bitmaps came out:");
    for ((kind, ending), count) in endings.into_inner().unwrap_or_default() {
        println!("    {kind:<14}{count:5}  {ending:?}");
    }
    Ok(())
}

/// The reference.
fn makedumpfile() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MAKEDUMPFILE") {
        return Ok(path.into());
    }
    let places = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&places).chain([PathBuf::from("/usr/sbin")]);
    let found = places.map(|place| place.join("makedumpfile")).find(|file| file.exists());
    found.ok_or_else(|| {
        Error::unusable("no makedumpfile").with_hint("Install it, or name one by MAKEDUMPFILE.")
    })
}

/// What it calls its version.
fn version_of(makedumpfile: &Path) -> Result<String> {
    let output = std::process::Command::new(makedumpfile).arg("-v").output();
    let output = output.map_err(|e| Error::io(makedumpfile, "it can't be started", e))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let version =
        text.lines().find_map(|line| line.strip_prefix("makedumpfile: version ")?.split(' ').next());
    version.map(Into::into).ok_or_else(|| Error::unusable("it doesn't say its version").at(makedumpfile))
}
