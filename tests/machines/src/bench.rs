//! A machine that is ready to crash: each trial crashes a restored copy of its snapshot.

use crate::console::Line;
use crate::kit::{Contents, get_kernel, script, succeeded};
use crate::{Guest, Kit, Machine};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use vmcore::{Error, Result};

/// The programs of a bench.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The static `cdbitmap`.
    pub cdbitmap: PathBuf,
    /// The reference, makedumpfile.
    pub makedumpfile: PathBuf,
}

/// A machine with the module loaded and memory in use, saved just before the crash.
#[derive(Debug)]
pub struct Bench {
    /// The machine's description.
    pub machine: Machine,
    /// Directory of its files and of its trials' files.
    pub directory: PathBuf,
    /// The path of `cdbitmap`, the same file as in the capture kernel.
    pub cdbitmap: PathBuf,
    /// Physical address of the module's info.
    pub bitmap_address: String,
    kit: Kit,
    snapshot: PathBuf,
}

/// A machine that has crashed, in its capture kernel.
#[derive(Debug)]
pub struct Crashed {
    /// The running machine.
    pub guest: Guest,
    /// The console's lines since the command that crashed the machine.
    pub lines: Vec<Line>,
    /// When the panic began.
    pub panic: Instant,
    /// When the first kernel jumped to purgatory.
    pub jump: Instant,
    /// When the capture kernel accepted commands.
    pub capture: Instant,
}

impl Bench {
    /// Builds the machine's programs and modules, boots it once, and saves its state.
    ///
    /// # Errors
    /// One of these steps fails.
    pub fn set_up(machine: Machine, tools: &Tools, directory: &Path) -> Result<Self> {
        let kbuild = get_kernel(&machine.series)?;
        let modules = directory.join("modules");
        succeeded("make-modules", Command::new(script("make-modules")).arg(kbuild).arg(&modules).status())?;
        let load = directory.join("load");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-static", "-o"]).arg(&load).arg(script("guest/load.c"));
        succeeded("cc", compiler.status())?;

        let module = |name: &str| format!("{}={name}", modules.join(name).display());
        let contents = Contents {
            first: vec![module("crasher.ko"), module("crash_dump_bitmap.ko"), load.display().to_string()],
            capture: vec![
                format!("{}=bin/cdbitmap", tools.cdbitmap.display()),
                tools.makedumpfile.display().to_string(),
            ],
        };
        let kit = Kit::build(&machine.series, "panic", &contents, &directory.join("kit"))?;
        let snapshot = directory.join("snapshot");
        let mut guest = Guest::boot(&machine, &kit, &directory.join("boot"))?;
        let prepared = guest.succeed("prepare", Duration::from_secs(180))?;
        let address = prepared.after("machine: bitmap at ");
        let bitmap_address = address
            .ok_or_else(|| Error::failure("the module does not print the address of its info"))?
            .into();
        guest.save(&snapshot)?;
        let (directory, cdbitmap) = (directory.to_owned(), tools.cdbitmap.clone());
        Ok(Self { machine, directory, cdbitmap, bitmap_address, kit, snapshot })
    }

    /// The directory of a trial's files.
    pub fn directory_of(&self, trial: &str) -> PathBuf {
        self.directory.join(trial.replace([' ', '/'], "-"))
    }

    /// Removes the large files, which the next run makes again. Keeps the console logs of the trials.
    pub fn remove_files(&self) {
        let _ = std::fs::remove_file(&self.snapshot);
        let _ = std::fs::remove_dir_all(self.directory.join("kit"));
    }

    /// Restores a copy of the machine, ready to crash.
    ///
    /// # Errors
    /// The machine cannot be restored.
    pub fn restore(&self, trial: &str) -> Result<Guest> {
        Guest::restore(&self.machine, &self.kit, &self.directory_of(trial), &self.snapshot)
    }

    /// Runs the commands `before`, then crashes the machine in the way `kind`.
    ///
    /// # Errors
    /// The capture kernel does not accept commands.
    pub fn crash(&self, trial: &str, before: &[&str], kind: &str) -> Result<Crashed> {
        let mut guest = self.restore(trial)?;
        for command in before {
            guest.succeed(command, Duration::from_secs(60))?;
        }
        guest.order(&format!("crash {kind}"))?;
        let lines = guest.wait_for_capture_kernel()?;
        let first = |text: &str| {
            let line = lines.iter().find(|line| line.text.contains(text)).map(|line| line.at);
            line.ok_or_else(|| Error::failure(format!("the console does not show \"{text}\"")))
        };
        let (panic, jump) = (first("Kernel panic - not syncing")?, first("I'm in purgatory")?);
        let capture = lines.last().map_or(jump, |line| line.at);
        Ok(Crashed { guest, lines, panic, jump, capture })
    }
}

impl Crashed {
    /// The module's messages, without its name and the time.
    pub fn module_says(&self) -> Vec<&str> {
        self.lines.iter().filter_map(|line| Some(line.text.split_once("crash_dump_bitmap: ")?.1)).collect()
    }

    /// The time from the panic to the jump.
    pub fn panic_to_jump(&self) -> Duration {
        self.jump - self.panic
    }
}
