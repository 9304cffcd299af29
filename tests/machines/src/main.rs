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

/// Tests the scan in the panic path on whole machines: boots real kernels under QEMU, crashes them in many ways, and
/// compares the dumps by the bitmap with makedumpfile's dumps of the same memory
///
/// Environment: MAKEDUMPFILE, the reference (default: the installed one; 6.12 needs 1.7.8 or later); QEMU, the command;
/// XDG_CACHE_HOME, the cache of kernels.
#[derive(Parser)]
#[command(name = "panic-path")]
struct CommandLine {
    /// Test to run
    #[arg(value_enum, default_value = "all")]
    tests: Vec<Test>,
    /// Series of the kernel, as in get-kernel; may be given more than once
    #[arg(long = "kernel", value_name = "SERIES", default_value = "6.1")]
    kernels: Vec<String>,
    /// Whether the processor supports 5-level paging; may be given twice
    #[arg(long, value_enum, value_name = "on|off", default_value = "on")]
    la57: Vec<Switch>,
    /// Number of processors; may be given more than once
    #[arg(long, value_name = "COUNT", default_value = "1")]
    cpus: Vec<u32>,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = Machine::SMALL)]
    memory: u32,
    /// Trials of each kind of fault
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    trials: u64,
    /// Boot the capture kernel in every COUNTth of these trials
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    through: usize,
    /// Number of scans of the running system
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    scans: u64,
    /// Number of times that the module is loaded and unloaded
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    reloads: u64,
    /// Number of measured crashes
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    rounds: u64,
    /// Seed of the random faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run only this trial
    #[arg(long, value_name = "TRIAL")]
    only: Option<String>,
    /// Number of machines that run at the same time [default: number of processors]
    #[arg(long, value_name = "COUNT")]
    jobs: Option<usize>,
    /// Keep all files in DIR
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Static cdbitmap for the capture kernel
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
    /// Crashes of each kind: the bitmap is complete and valid, and the dump equals makedumpfile's
    Crash,
    /// Scans of the running system under load
    PageStatus,
    /// Time budgets, stopped scans and damaged memory: there is always a dump, and it never lacks a page
    Faults,
    /// Times from the panic to the jump, and from the capture kernel's start to the finished dump
    Times,
    /// Loading and unloading the module: nothing remains
    Reload,
    /// All tests
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
    let scratch = scratch.map_err(|e| Error::io(&std::env::temp_dir(), "cannot create a directory", e))?;
    let root = asked.keep.clone().unwrap_or_else(|| scratch.path().to_owned());
    let report = Report::default();
    for series in &asked.kernels {
        for la57 in &asked.la57 {
            for cpus in &asked.cpus {
                let mut machine = Machine::new(series, *la57 == Switch::On, *cpus);
                machine.memory = asked.memory;
                if !machine.is_known_to(&version) {
                    let what = format!("makedumpfile {version} does not support Linux {series}");
                    return Err(Error::unusable(what).with_hint("Set MAKEDUMPFILE to a newer one."));
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
        // Keeps the console logs of failed trials.
        println!("panic-path: kept {}", scratch.keep().display());
    }
    end
}

/// Runs the requested tests on one machine.
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

/// Runs the trials with faults.
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
    println!("  outcomes of the bitmaps:");
    for ((kind, ending), count) in endings.into_inner().unwrap_or_default() {
        println!("    {kind:<14}{count:5}  {ending:?}");
    }
    Ok(())
}

/// The path of the reference: `$MAKEDUMPFILE`, or `makedumpfile` in `$PATH` or `/usr/sbin`.
fn makedumpfile() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MAKEDUMPFILE") {
        return Ok(path.into());
    }
    let places = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&places).chain([PathBuf::from("/usr/sbin")]);
    let found = places.map(|place| place.join("makedumpfile")).find(|file| file.exists());
    found.ok_or_else(|| {
        Error::unusable("makedumpfile is not installed")
            .with_hint("Install it, or set MAKEDUMPFILE to its path.")
    })
}

/// The version that `makedumpfile -v` prints.
fn version_of(makedumpfile: &Path) -> Result<String> {
    let output = std::process::Command::new(makedumpfile).arg("-v").output();
    let output = output.map_err(|e| Error::io(makedumpfile, "cannot be run", e))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let version =
        text.lines().find_map(|line| line.strip_prefix("makedumpfile: version ")?.split(' ').next());
    version.map(Into::into).ok_or_else(|| Error::unusable("prints no version").at(makedumpfile))
}
