//! Tests the purgatory stage on whole machines: crash, scan between the kernels, results in the capture kernel.
//!
//! Each machine boots once, loads the stage and fills its memory. Each trial crashes a copy restored from a snapshot. A
//! trial at a dump level copies /proc/vmcore to the host, and compares the dump by the stage's bitmap with
//! makedumpfile's, bit for bit. Trials with memory plugged in after loading do the same. In a trial with a fault the
//! capture kernel must boot and write a dump, and `cdbitmap inspect` must report the fault.

use clap::Parser;
use machines::comparison::Comparison;
use machines::kit::{Contents, get_kernel, succeeded};
use machines::{Guest, Kit, Machine};
use scanner_core::{PAGE_SIZE, PfnRange, PhysAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use vmcore::frames::FrameRanges;
use vmcore::image::{OpenOptions, open};
use vmcore::{Error, Result};

/// Tests the purgatory stage by crashes of whole machines.
#[derive(Debug, Parser)]
struct Arguments {
    /// Series of the kernel, as in get-kernel; may be given more than once
    #[arg(long = "kernel", value_name = "SERIES", default_value = "6.1")]
    kernels: Vec<String>,
    /// Only page tables with this number of levels
    #[arg(long, value_name = "LEVELS", value_parser = clap::value_parser!(u8).range(4..=5))]
    paging: Option<u8>,
    /// Dump levels to compare
    #[arg(long, value_delimiter = ',', default_value = "31,16,8,2,1")]
    levels: Vec<u8>,
    /// Only trials whose names contain TEXT, such as level, plugged, times, fault or refused
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Memory of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = Machine::SMALL)]
    memory: u32,
    /// Directory of cdbitmap and crash_stage.elf
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// The reference, makedumpfile
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/makedumpfile")]
    reference: PathBuf,
    /// Keep the console logs in DIR
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// A fault and its expected report.
struct Fault {
    name: &'static str,
    /// The stage's options.
    options: &'static str,
    /// The damage before the crash; see `crash` in `guest/purgatory-first`.
    damage: &'static str,
    /// The state and the cause that `inspect` must report in the capture kernel.
    state: &'static str,
    named: &'static str,
}

const fn fault(
    name: &'static str,
    options: &'static str,
    damage: &'static str,
    state: &'static str,
    named: &'static str,
) -> Fault {
    Fault { name, options, damage, state, named }
}

/// The report of `inspect` about invalid parameters.
const BAD_PARAMETERS: &str = "self-check failed: the parameters";

/// All faults. Damaged page tables of some `struct page`s do not stop the scan: it keeps these pages.
const FAULTS: [Fault; 14] = [
    fault("no time", "--budget 0", "", "out-of-budget", "time budget used up"),
    fault("invalid opcode", "--inject-fault invalid-opcode", "", "fault", "invalid opcode, at stage+0x"),
    fault(
        "page fault",
        "--inject-fault page-fault",
        "",
        "fault",
        "page fault reading 0xfffffffffffff000, at stage+0x",
    ),
    fault(
        "general protection",
        "--inject-fault general-protection",
        "",
        "fault",
        "general protection fault, at stage+0x",
    ),
    fault("stack overflow", "--inject-fault stack-overflow", "", "fault", "page fault writing 0x"),
    fault("machine check", "--inject-fault machine-check", "", "fault", "machine check, at stage+0x"),
    fault("vmemmap not mapped", "", "unmapped", "complete", "cannot be read"),
    fault("page tables with garbage", "", "garbage", "complete", "cannot be read"),
    fault("page tables in a loop", "", "loop", "complete", "cannot be read"),
    fault("changed code", "", "code", "cancelled", "self-check failed: the code"),
    fault("changed chunk", "", "chunk first-kernel", "cancelled", BAD_PARAMETERS),
    fault("chunk over the capture kernel", "", "chunk capture-kernel seal", "cancelled", BAD_PARAMETERS),
    fault("chunk over the first kernel", "", "chunk first-kernel seal", "cancelled", BAD_PARAMETERS),
    fault("chunk where no memory is", "", "chunk no-memory seal", "cancelled", BAD_PARAMETERS),
];

/// Conditions in which the stage cannot be loaded: the name, and the message of `stage exec`.
type Refusal = (&'static str, &'static str);

const REFUSALS: [Refusal; 5] = [
    ("file", "kexec_file_load takes no segments"),
    ("disabled", "loading of kernels is disabled"),
    ("lockdown", "the kernel is locked down"),
    ("kcore", "is not the memory of a running x86_64 kernel"),
    ("small", "has no room for the stage and its bitmap"),
];

/// Memory plugged in before the crash, in MiB.
const PLUGGED: u64 = 256;

/// The preparations of a crash.
#[derive(Default)]
struct Before {
    /// Whether memory is plugged in.
    plug: bool,
    /// If set, the stage is loaded again with these options.
    options: Option<String>,
    /// The argument of `crash` in `guest/purgatory-first`.
    damage: &'static str,
}

const SHORT: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (mut passed, mut failed) = (0, 0);
    for series in &arguments.kernels {
        for paging in [5, 4].into_iter().filter(|paging| arguments.paging.is_none_or(|only| only == *paging))
        {
            println!("kernel {series}, processor with {paging} levels of page tables");
            let mut report = |name: &str, result: Result<String>| match result {
                Ok(text) => {
                    println!("  {name}: {text}");
                    passed += 1;
                }
                Err(error) => {
                    println!("  {name}: FAILED: {}", error.report());
                    failed += 1;
                }
            };
            match Bench::new(&arguments, series, paging) {
                Ok(bench) => {
                    for (name, trial) in trials(&arguments.levels) {
                        if name.contains(&arguments.only) {
                            report(&name, bench.run(&name.replace([' ', ':'], "-"), &trial));
                        }
                    }
                }
                Err(error) => report("preparation", Err(error)),
            }
        }
    }
    println!("purgatory: {passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The frames at segment ends of which the vmcore has only a part. makedumpfile 1.7.2 never keeps them; later releases
/// keep them if the number of frames is a multiple of four.
fn frames_in_part(vmcore: &Path) -> Result<FrameRanges> {
    let image = open(vmcore, &OpenOptions::default())?;
    let ends = image.facts().segments.iter().map(|segment| segment.phys.as_u64() + segment.mem_size);
    let in_part = ends.filter(|end| !end.is_multiple_of(PAGE_SIZE as u64));
    let frames = in_part.map(|end| PfnRange::from_start(PhysAddr::new(end).pfn(), 1));
    Ok(FrameRanges::from_ranges(frames))
}

/// A trial.
enum Trial {
    /// The dump at this level by the stage's bitmap must equal makedumpfile's.
    Compare(u8, Before),
    Measure,
    Survive(&'static Fault),
    Refuse(&'static Refusal),
}

/// All trials and their names.
fn trials(levels: &[u8]) -> Vec<(String, Trial)> {
    let loaded = |level: u8| Some(format!("-d {level}"));
    let mut trials: Vec<(String, Trial)> = levels
        .iter()
        .map(|level| {
            let before = Before { options: loaded(*level), ..Before::default() };
            (format!("level {level}"), Trial::Compare(*level, before))
        })
        .collect();
    let mut compare = |name: &str, before| trials.push((name.to_owned(), Trial::Compare(31, before)));
    compare("plugged in after loading", Before { plug: true, ..Before::default() });
    compare("plugged in and loaded again", Before { plug: true, options: loaded(31), damage: "" });
    compare("fault: section table without an end", Before { damage: "endless", ..Before::default() });
    trials.push(("times".into(), Trial::Measure));
    trials.extend(FAULTS.iter().map(|fault| (format!("fault: {}", fault.name), Trial::Survive(fault))));
    trials.extend(REFUSALS.iter().map(|refusal| (format!("refused: {}", refusal.0), Trial::Refuse(refusal))));
    trials
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
        let work = tempfile::tempdir()
            .map_err(|e| Error::failure("cannot create a temporary directory").because(e))?;
        let headers = get_kernel(series)?;
        let module = work.path().join("corrupter");
        copy_directory(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corrupter"), &module)?;
        let made = Command::new("make")
            .args(["-s", "-C"])
            .arg(&headers)
            .arg(format!("M={}", module.display()))
            // Any compiler works; the one of the kernel's build may not be installed.
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
        (machine.memory, machine.reserved, machine.plug) = (arguments.memory, 224, true);
        // Without this the kernel allocates a bounce buffer below 4 GiB, since memory could be plugged in above.
        machine.append = "swiotlb=noforce".into();
        let logs = arguments.keep.clone().unwrap_or_else(|| work.path().to_owned());
        let logs = logs.join(format!("{series}-{paging}"));
        let mut guest = Guest::boot(&machine, &kit, &logs.join("prepare"))?;
        let prepared = guest.succeed("prepare", LONG)?;
        let loaded = prepared.lines.iter().find(|line| line.text.starts_with("Area"));
        let levels = match guest.run("grep -qw la57 /proc/cpuinfo", SHORT)?.status {
            0 => 5,
            _ => 4,
        };
        let area = loaded.map_or("", |line| line.text.as_str());
        println!("  the kernel uses {levels} levels; {area}");
        let snapshot = work.path().join("snapshot");
        guest.save(&snapshot)?;
        Ok(Self { arguments, machine, kit, snapshot, logs, _work: work })
    }

    /// Runs a trial; `name` is the name of its directory.
    fn run(&self, name: &str, trial: &Trial) -> Result<String> {
        match trial {
            Trial::Compare(level, before) => self.compare(*level, name, before),
            Trial::Measure => self.measure(name),
            Trial::Survive(fault) => self.survive(name, fault),
            Trial::Refuse(refusal) => self.refuse(name, refusal),
        }
    }

    /// Crashes a copy of the machine, and waits for the capture kernel. Returns also the stage's line on the console.
    fn crash(&self, name: &str, before: &Before) -> Result<(Guest, Option<String>)> {
        let logs = self.logs.join(name);
        let mut guest = Guest::restore(&self.machine, &self.kit, &logs, &self.snapshot)?;
        if before.plug {
            guest.plug(PLUGGED)?;
            guest.succeed("online", LONG)?;
        }
        if let Some(options) = &before.options {
            guest.succeed(&format!("load {options}"), LONG)?;
        }
        guest.order(&format!("crash {}", before.damage))?;
        let lines = guest.wait_for_capture_kernel()?;
        let said = lines.iter().find_map(|line| line.text.strip_prefix("crash stage: "));
        Ok((guest, said.map(|said| said.trim().to_owned())))
    }

    /// Checks that the dump by the stage's bitmap equals makedumpfile's.
    fn compare(&self, level: u8, name: &str, before: &Before) -> Result<String> {
        let (mut guest, said) = self.crash(name, before)?;
        let said = said.ok_or_else(|| Error::failure("the console shows no line of the stage"))?;
        let found = guest.succeed("found", LONG)?.text();
        if !line_of(&found, "state").is_some_and(|state| state.starts_with("complete: ")) {
            return Err(Error::failure("the bitmap is not complete").with_hint(found));
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
            let output = output.map_err(|e| Error::failure(format!("cannot run {what}")).because(e))?;
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            if output.status.success() {
                Ok(text)
            } else {
                Err(Error::failure(format!("{what} failed")).with_hint(text))
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
        let comparison = Comparison::new(&theirs, &ours, false)?;
        let in_part = frames_in_part(&vmcore)?;
        if !comparison.is_superset() || comparison.added.minus(&in_part).count() != 0 {
            return Err(Error::failure(comparison.summary()).with_hint(comparison.explained().join("\n    ")));
        }
        let _ = std::fs::remove_dir_all(&files);
        let added = if comparison.same() { "" } else { " (only partly in the vmcore)" };
        Ok(format!("{}{added}; stage: {said}", comparison.summary()))
    }

    /// Measures the stage, and makedumpfile's scan in the capture kernel after the same crash. The dump must use the
    /// stage's bitmap.
    fn measure(&self, name: &str) -> Result<String> {
        let before = Before { options: Some("-d 31".into()), ..Before::default() };
        let (mut guest, said) = self.crash(name, &before)?;
        let found = guest.succeed("found", LONG)?.text();
        guest.succeed("dump --bitmap required", LONG)?;
        let theirs = guest.succeed("reference", LONG)?.text();
        let passes: Vec<&str> = theirs
            .lines()
            .filter(|line| line.contains("Excluding unnecessary pages"))
            .filter_map(|line| Some(line.rsplit_once(": ")?.1.trim()))
            .collect();
        Ok(format!(
            "{}; setup, scan, seal: {}; makedumpfile's passes: {}",
            said.unwrap_or_default(),
            line_of(&found, "setup, scan, seal").unwrap_or_default(),
            passes.join(", ")
        ))
    }

    /// Checks that the stage is not loaded, that the reason is printed, and that kexec has the same exit status and
    /// result as without the stage.
    fn refuse(&self, name: &str, (reason, words): &Refusal) -> Result<String> {
        let logs = self.logs.join(name);
        let mut guest = Guest::restore(&self.machine, &self.kit, &logs, &self.snapshot)?;
        let reply = guest.run(&format!("refuse {reason}"), LONG)?;
        let said = reply.text();
        let missing =
            [words, "running kexec without it", "not loaded"].into_iter().find(|w| !said.contains(w));
        if let Some(words) = missing {
            return Err(Error::failure(format!("the message \"{words}\" is missing")).with_hint(said));
        }
        let ends = reply.after("kexec: status ").and_then(|ends| ends.split_once("; without the stage "));
        match ends {
            Some((with, without)) if with == without => {
                let why = said.lines().find(|line| line.contains(words)).unwrap_or_default();
                Ok(format!("{}; kexec's result, {with}, is the same as without the stage", why.trim()))
            }
            _ => Err(Error::failure("kexec's result differs from that without the stage").with_hint(said)),
        }
    }

    /// Checks that the capture kernel boots and writes a dump, and that `inspect` reports the fault.
    fn survive(&self, name: &str, fault: &Fault) -> Result<String> {
        let options = Some(fault.options.to_owned()).filter(|options| !options.is_empty());
        let before = Before { options, damage: fault.damage, plug: false };
        let (mut guest, _) = self.crash(name, &before)?;
        let found = guest.run("found", LONG)?.text();
        let state = line_of(&found, "state").and_then(|state| state.split(':').next());
        if state != Some(fault.state) || !found.contains(fault.named) {
            let expected = format!("inspect does not report {} and \"{}\"", fault.state, fault.named);
            return Err(Error::failure(expected).with_hint(found));
        }
        let unreadable = line_of(&found, "  unreadable").filter(|pages| pages.contains("cannot be read"));
        let mut said = fault.state.to_owned();
        said.extend(line_of(&found, "stopped by").map(|cause| format!(", {cause}")));
        said.extend(unreadable.map(|pages| format!(", unreadable {pages}")));
        let dumped = guest.succeed("dump --bitmap auto", LONG)?;
        let last = dumped.lines.iter().rev().find(|line| line.text.contains("pages at dump level"));
        guest.succeed("sync", SHORT)?;
        Ok(format!("{said}; {}", last.map_or("", |line| line.text.trim())))
    }
}

/// The value after `name` in the output of `inspect`.
fn line_of<'a>(report: &'a str, name: &str) -> Option<&'a str> {
    let rest = report.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(rest.trim())
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    succeeded("cp", Command::new("cp").arg("-r").args([from, to]).status())
}
