//! The purgatory stage on whole machines: crash, scan between the kernels, and what the capture kernel finds.
//!
//! Each machine is booted once, gets its stage and fills its memory; from a snapshot of that it crashes once for each
//! trial. A trial at a dump level copies the crashed machine's memory out, and compares the dump by the stage's bitmap
//! with makedumpfile's, bit for bit; so do trials with memory that was plugged in after the stage was loaded. A trial
//! with a fault wants the capture kernel to boot and to dump, and `cdbitmap inspect` to name what happened.

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
    /// Only trials with that in their names, as level, plugged, times, fault or refused
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// The machine's memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = Machine::SMALL)]
    memory: u32,
    /// The directory of cdbitmap and crash_stage.elf
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// makedumpfile, the reference
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/makedumpfile")]
    reference: PathBuf,
    /// Keep consoles' logs there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// A thing that goes wrong.
struct Fault {
    name: &'static str,
    /// The stage's options.
    options: &'static str,
    /// What is damaged before the crash; see `crash` in `guest/purgatory-first`.
    damage: &'static str,
    /// What the capture kernel's `inspect` has to say: the state, and what happened.
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

/// What `inspect` says of parameters that don't hold.
const BAD_PARAMETERS: &str = "self-check failed: the parameters";

/// All of them. What damages the way to a part of the struct pages doesn't stop the scan: those pages are kept.
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
    fault("vmemmap not mapped", "", "unmapped", "complete", "can't be read"),
    fault("page tables with garbage", "", "garbage", "complete", "can't be read"),
    fault("page tables in a loop", "", "loop", "complete", "can't be read"),
    fault("changed code", "", "code", "cancelled", "self-check failed: the code"),
    fault("changed chunk", "", "chunk first-kernel", "cancelled", BAD_PARAMETERS),
    fault("chunk over the capture kernel", "", "chunk capture-kernel seal", "cancelled", BAD_PARAMETERS),
    fault("chunk over the first kernel", "", "chunk first-kernel seal", "cancelled", BAD_PARAMETERS),
    fault("chunk where no memory is", "", "chunk no-memory seal", "cancelled", BAD_PARAMETERS),
];

/// Why the stage can't be loaded: the reason, and what `stage exec` says.
type Refusal = (&'static str, &'static str);

const REFUSALS: [Refusal; 5] = [
    ("file", "kexec_file_load takes no segments"),
    ("disabled", "loading of kernels is disabled"),
    ("lockdown", "the kernel is locked down"),
    ("kcore", "is not the memory of a running x86_64 kernel"),
    ("small", "has no room for the stage and its bitmap"),
];

/// Memory that is plugged in before the crash, in MiB.
const PLUGGED: u64 = 256;

/// What comes before a crash.
#[derive(Default)]
struct Before {
    /// More memory comes into use.
    plug: bool,
    /// The stage is loaded again, with these options.
    options: Option<String>,
    /// See `crash` in `guest/purgatory-first`.
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

/// The frames at segments' ends of which the vmcore has a part only. Whether makedumpfile keeps them depends on its version:
/// 1.7.2 never does, later ones do if the number of frames is a multiple of four.
fn frames_in_part(vmcore: &Path) -> Result<FrameRanges> {
    let image = open(vmcore, &OpenOptions::default())?;
    let ends = image.facts().segments.iter().map(|segment| segment.phys.as_u64() + segment.mem_size);
    let in_part = ends.filter(|end| !end.is_multiple_of(PAGE_SIZE as u64));
    let frames = in_part.map(|end| PfnRange::from_start(PhysAddr::new(end).pfn(), 1));
    Ok(FrameRanges::from_ranges(frames))
}

/// A trial.
enum Trial {
    /// The dump at this level by the stage's bitmap is makedumpfile's.
    Compare(u8, Before),
    Measure,
    Survive(&'static Fault),
    Refuse(&'static Refusal),
}

/// All trials, with their names.
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
        (machine.memory, machine.reserved, machine.plug) = (arguments.memory, 224, true);
        // The buffer below 4 GiB that the kernel makes because memory could be plugged in above.
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

    /// Runs a trial; `name` is that of its directory.
    fn run(&self, name: &str, trial: &Trial) -> Result<String> {
        match trial {
            Trial::Compare(level, before) => self.compare(*level, name, before),
            Trial::Measure => self.measure(name),
            Trial::Survive(fault) => self.survive(name, fault),
            Trial::Refuse(refusal) => self.refuse(name, refusal),
        }
    }

    /// Crashes a copy of the machine, and waits for the capture kernel; what the stage said on the console.
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

    /// The dump by the stage's bitmap is makedumpfile's.
    fn compare(&self, level: u8, name: &str, before: &Before) -> Result<String> {
        let (mut guest, said) = self.crash(name, before)?;
        let said = said.ok_or_else(|| Error::failure("the stage says nothing"))?;
        let found = guest.succeed("found", LONG)?.text();
        if line_of(&found, "state") != Some("complete: All frames are decided and all chunks sealed.") {
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
            let output = output.map_err(|e| Error::failure(format!("{what} can't be run")).because(e))?;
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            if output.status.success() {
                Ok(text)
            } else {
                Err(Error::failure(format!("{what} fails")).with_hint(text))
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
        let added = if comparison.same() { "" } else { " (of which the vmcore has a part only)" };
        Ok(format!("{}{added}; stage: {said}", comparison.summary()))
    }

    /// How long the stage takes, and makedumpfile's scan in the capture kernel behind the same crash; our collector takes
    /// the bitmap there.
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

    /// The stage is not loaded, for a reason that is said, and kexec ends and has loaded as without it.
    fn refuse(&self, name: &str, (reason, words): &Refusal) -> Result<String> {
        let logs = self.logs.join(name);
        let mut guest = Guest::restore(&self.machine, &self.kit, &logs, &self.snapshot)?;
        let reply = guest.run(&format!("refuse {reason}"), LONG)?;
        let said = reply.text();
        let missing =
            [words, "running kexec without it", "not loaded"].into_iter().find(|w| !said.contains(w));
        if let Some(words) = missing {
            return Err(Error::failure(format!("nothing says \"{words}\"")).with_hint(said));
        }
        let ends = reply.after("kexec: status ").and_then(|ends| ends.split_once("; without the stage "));
        match ends {
            Some((with, without)) if with == without => {
                let why = said.lines().find(|line| line.contains(words)).unwrap_or_default();
                Ok(format!("{}; kexec ends with {with}, as without the stage", why.trim()))
            }
            _ => Err(Error::failure("kexec does not end as without the stage").with_hint(said)),
        }
    }

    /// The capture kernel boots and dumps, and the bitmap says what happened.
    fn survive(&self, name: &str, fault: &Fault) -> Result<String> {
        let options = Some(fault.options.to_owned()).filter(|options| !options.is_empty());
        let before = Before { options, damage: fault.damage, plug: false };
        let (mut guest, _) = self.crash(name, &before)?;
        let found = guest.run("found", LONG)?.text();
        let state = line_of(&found, "state").and_then(|state| state.split(':').next());
        if state != Some(fault.state) || !found.contains(fault.named) {
            let expected = format!("inspect does not say {} and \"{}\"", fault.state, fault.named);
            return Err(Error::failure(expected).with_hint(found));
        }
        let unreadable = line_of(&found, "  unreadable").filter(|pages| pages.contains("can't be read"));
        let mut said = fault.state.to_owned();
        said.extend(line_of(&found, "stopped by").map(|cause| format!(", {cause}")));
        said.extend(unreadable.map(|pages| format!(", unreadable {pages}")));
        let dumped = guest.succeed("dump --bitmap auto", LONG)?;
        let last = dumped.lines.iter().rev().find(|line| line.text.contains("pages at dump level"));
        guest.succeed("sync", SHORT)?;
        Ok(format!("{said}; {}", last.map_or("", |line| line.text.trim())))
    }
}

/// What `inspect` says behind that name.
fn line_of<'a>(report: &'a str, name: &str) -> Option<&'a str> {
    let rest = report.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(rest.trim())
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    succeeded("cp", Command::new("cp").arg("-r").args([from, to]).status())
}
