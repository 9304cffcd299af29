//! The purgatory stage on whole machines: crash, scan between the kernels, and what the capture kernel finds.
//!
//! Each machine is booted once, gets its stage and fills its memory; from a snapshot of that it crashes once for each
//! trial. A trial at a dump level copies the crashed machine's memory out, and compares the dump by the stage's bitmap
//! with makedumpfile's, bit for bit. A trial with a fault wants the capture kernel to boot and to dump, and the bitmap to
//! say what happened.

use cdbitmap::{Error, Result};
use clap::Parser;
use machines::kit::{Contents, get_kernel, succeeded};
use machines::{Guest, Kit, Machine};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Crashes machines with the purgatory stage loaded.
#[derive(Debug, Parser)]
struct Arguments {
    /// Series of kernels, as get-kernel knows them
    #[arg(long = "kernel", value_name = "SERIES", default_value = "6.1")]
    kernels: Vec<String>,
    /// Only page tables with that many levels
    #[arg(long, value_name = "LEVELS", value_parser = clap::value_parser!(u8).range(4..=5))]
    paging: Option<u8>,
    /// The dump levels to compare
    #[arg(long, value_delimiter = ',', default_value = "31,16,8,2,1")]
    levels: Vec<u8>,
    /// No faults
    #[arg(long)]
    no_faults: bool,
    /// The directory of the programs cdbitmap and compare-dumps, and of crash_stage.elf
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// makedumpfile, the reference
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/makedumpfile")]
    reference: PathBuf,
    /// Keep consoles' logs there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// A thing that goes wrong: its name, the stage's options, what is damaged before the crash, and what the bitmap has to
/// say then.
type Fault = (&'static str, &'static str, &'static str, &'static str);

/// All of them. What damages the way to a part of the struct pages doesn't stop the scan: those pages are kept.
const FAULTS: [Fault; 10] = [
    ("no time", "--budget 0", "", "out-of-budget"),
    ("invalid opcode", "--drill invalid-opcode", "", "fault"),
    ("page fault", "--drill page-fault", "", "fault"),
    ("general protection", "--drill general-protection", "", "fault"),
    ("stack overflow", "--drill stack-overflow", "", "fault"),
    ("machine check", "--drill machine-check", "", "fault"),
    ("vmemmap not mapped", "", "unmapped", "unreadable"),
    ("page tables with garbage", "", "garbage", "unreadable"),
    ("page tables in a loop", "", "loop", "complete"),
    ("section table without an end", "", "endless", "complete"),
];

const SHORT: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (mut passed, mut failed) = (0, 0);
    for series in &arguments.kernels {
        for paging in [5, 4].into_iter().filter(|paging| arguments.paging.is_none_or(|only| only == *paging))
        {
            println!("kernel {series}, {paging} levels of page tables");
            let mut report = |name: &str, result: Result<String>| match result {
                Ok(text) => {
                    println!("  {name}: {text}");
                    passed += 1;
                }
                Err(error) => {
                    println!("  {name}: FAILED: {error}");
                    failed += 1;
                }
            };
            match Bench::new(&arguments, series, paging) {
                Ok(bench) => {
                    for level in &arguments.levels {
                        report(&format!("level {level}"), bench.compare(*level));
                    }
                    for fault in FAULTS.iter().filter(|_| !arguments.no_faults) {
                        report(fault.0, bench.survive(fault));
                    }
                }
                Err(error) => report("preparation", Err(error)),
            }
        }
    }
    println!("purgatory: {passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A machine that is ready to crash.
struct Bench<'a> {
    arguments: &'a Arguments,
    machine: Machine,
    kit: Kit,
    snapshot: PathBuf,
    logs: PathBuf,
    _work: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    fn new(arguments: &'a Arguments, series: &str, paging: u8) -> Result<Self> {
        let work = tempfile::tempdir().map_err(|e| Error::failure("no temporary directory").because(e))?;
        let headers = get_kernel(series)?;
        let module = work.path().join("corrupter");
        copy_directory(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corrupter"), &module)?;
        let made = Command::new("make")
            .args(["-s", "-C"])
            .arg(&headers)
            .arg(format!("M={}", module.display()))
            // Not the compiler's version that the kernel was built with: any will do.
            .args(["CC=gcc", "modules"])
            .stdout(Stdio::null())
            .status();
        succeeded("make", made)?;
        let program = |name: &str| arguments.programs.join(name).display().to_string();
        let contents = Contents {
            first: vec![
                program("cdbitmap"),
                format!("{}=crash_stage.elf", program("crash_stage.elf")),
                format!("{}=corrupter.ko", module.join("corrupter.ko").display()),
            ],
            capture: vec![program("cdbitmap"), arguments.reference.display().to_string()],
        };
        let kit = Kit::build(series, "purgatory", &contents, &work.path().join("kit"))?;
        let mut machine = Machine::new(series, paging == 5, 1);
        machine.reserved = 224;
        let logs = arguments.keep.clone().unwrap_or_else(|| work.path().to_owned());
        let logs = logs.join(format!("{series}-{paging}"));
        let mut guest = Guest::boot(&machine, &kit, &logs.join("prepare"))?;
        let prepared = guest.succeed("prepare", LONG)?;
        let loaded = prepared.lines.iter().find(|line| line.text.starts_with("Area"));
        println!("  {}", loaded.map_or("", |line| line.text.as_str()));
        let snapshot = work.path().join("snapshot");
        guest.save(&snapshot)?;
        Ok(Self { arguments, machine, kit, snapshot, logs, _work: work })
    }

    /// Crashes a copy of the machine, and waits for the capture kernel.
    fn crash(&self, name: &str, options: &str, damage: &str) -> Result<(Guest, String)> {
        let logs = self.logs.join(name.replace(' ', "-"));
        let mut guest = Guest::restore(&self.machine, &self.kit, &logs, &self.snapshot)?;
        if !options.is_empty() {
            guest.succeed(&format!("load {options}"), LONG)?;
        }
        guest.order(&format!("crash {damage}"))?;
        let lines = guest.wait_for_capture_kernel()?;
        let said = lines.iter().find_map(|line| line.text.strip_prefix("crash stage: "));
        let said = said.ok_or_else(|| Error::failure("the stage says nothing"))?.trim().to_owned();
        Ok((guest, said))
    }

    /// The dump by the stage's bitmap is makedumpfile's.
    fn compare(&self, level: u8) -> Result<String> {
        let name = format!("level-{level}");
        let (mut guest, said) = self.crash(&name, &format!("-d {level}"), "")?;
        let found = guest.succeed("found", LONG)?.text();
        if !found.contains("state complete") {
            return Err(Error::failure("the bitmap is not complete").hint(found));
        }
        let mut times = String::new();
        if level == 31 {
            guest.succeed("dump --bitmap required", LONG)?;
            let theirs = guest.run("reference", LONG)?.text();
            let step = |name: &str| {
                let lines = theirs.lines().filter(|line| line.contains(name));
                lines
                    .filter_map(|line| line.rsplit_once(": "))
                    .map(|(_, time)| time.trim().to_owned())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            times = format!(
                "; in the capture kernel makedumpfile scans for {}",
                step("Excluding unnecessary pages")
            );
        }
        let files = self.logs.join(name).join("files");
        guest.fetch(&["proc/vmcore", "bitmap"], &files)?;
        drop(guest);
        let (vmcore, bitmap) = (files.join("proc/vmcore"), files.join("bitmap"));
        let (ours, theirs) = (files.join("ours"), files.join("theirs"));
        let program = |name: &str| Command::new(self.arguments.programs.join(name));
        let level = level.to_string();
        let run = |what: &str, command: &mut Command| {
            let output = command.stdin(Stdio::null()).output();
            let output = output.map_err(|e| Error::failure(format!("{what} can't be run")).because(e))?;
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            if output.status.success() {
                Ok(text)
            } else {
                Err(Error::failure(format!("{what} fails")).hint(text))
            }
        };
        run("verify", program("cdbitmap").arg("verify").arg(&bitmap).arg("--image").arg(&vmcore))?;
        run(
            "dump",
            program("cdbitmap")
                .args(["dump", "-l", "-d", &level, "--bitmap"])
                .args([&bitmap, &vmcore, &ours]),
        )?;
        run(
            "makedumpfile",
            Command::new(&self.arguments.reference).args(["-l", "-d", &level]).args([&vmcore, &theirs]),
        )?;
        let compared = run("compare-dumps", program("compare-dumps").args([&theirs, &ours]))?;
        let _ = std::fs::remove_dir_all(&files);
        Ok(format!("{}; stage: {said}{times}", compared.trim()))
    }

    /// The capture kernel boots and dumps, and the bitmap says what happened.
    fn survive(&self, (name, options, damage, words): &Fault) -> Result<String> {
        let (mut guest, said) = self.crash(name, options, damage)?;
        let found = guest.run("found", LONG)?.text();
        if !found.contains(words) {
            return Err(Error::failure(format!("the bitmap does not say {words}")).hint(found));
        }
        let dumped = guest.succeed("dump --bitmap auto", LONG)?;
        let last = dumped.lines.iter().rev().find(|line| line.text.contains("pages at dump level"));
        guest.succeed("sync", SHORT)?;
        Ok(format!("{said}; {}", last.map_or("", |line| line.text.trim())))
    }
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    succeeded("cp", Command::new("cp").arg("-r").args([from, to]).status())
}
