//! `cdbitmap stage`: loads the purgatory stage beside a capture kernel, and says what is loaded.

use super::answer::Answer;
use super::arguments::{parse_level, parse_rules};
use super::print::{print, print_json, warn};
use clap::{Args, Subcommand};
use crash_stage::parameters::FaultInjection;
use scanner_core::{DumpLevel, RuleSet};
use stage_loader::DEFAULT_IMAGE;
use stage_loader::area::StageRequest;
use stage_loader::intercept::{self, Outcome};
use stage_loader::kexec_command::{self, Task};
use stage_loader::plan::Plan;
use stage_loader::record::{self, Record};
use stage_loader::status::Status;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use vmcore::units::human_bytes;
use vmcore::{Error, Result};

/// Loads the purgatory stage, or says what is loaded.
#[derive(Args, Debug)]
pub struct Stage {
    #[command(subcommand)]
    command: StageCommand,
}

#[derive(Debug, Subcommand)]
enum StageCommand {
    /// Run kexec, and load the stage along with the capture kernel
    Exec(Exec),
    /// Say what is loaded; ends with 1 if a crash would not run the stage
    Status(StatusArgs),
}

/// Runs kexec, and loads the stage along with the capture kernel.
#[derive(Args, Debug)]
struct Exec {
    /// The stage's image
    #[arg(long, value_name = "FILE", default_value = DEFAULT_IMAGE)]
    image: PathBuf,
    /// The classes of pages to leave out: the sum of 2 cache, 4 private cache, 8 user, 16 free (1 is for dumping)
    #[arg(short = 'd', long = "dump-level", value_name = "LEVEL", default_value = "31", allow_hyphen_values = true,
        value_parser = parse_level)]
    level: DumpLevel,
    /// Which rules decide: makedumpfile (its own, bit for bit) or kernel (the kernel's predicates)
    #[arg(long, value_name = "RULES", default_value = "makedumpfile", value_parser = parse_rules)]
    rules: RuleSet,
    /// The most time that the scan may take
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u32))]
    budget: u32,
    /// Say how the scan ended on the serial console at this I/O port, as 0x3f8
    #[arg(long, value_name = "PORT", value_parser = parse_port)]
    serial: Option<u16>,
    /// Let the scan go wrong: invalid-opcode, page-fault, general-protection, stack-overflow or machine-check
    #[arg(long = "inject-fault", alias = "drill", value_name = "FAULT", value_parser = parse_fault)]
    injected_fault: Option<FaultInjection>,
    /// kexec and its arguments
    #[arg(required = true, last = true, value_name = "KEXEC")]
    kexec: Vec<OsString>,
}

impl Stage {
    /// Runs the command.
    ///
    /// # Errors
    /// If kexec can't be run.
    pub fn run(&self) -> Result<Answer> {
        match &self.command {
            StageCommand::Exec(args) => args.run(),
            StageCommand::Status(args) => args.run(),
        }
    }
}

/// Says what is loaded.
#[derive(Args, Debug)]
struct StatusArgs {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl StatusArgs {
    fn run(&self) -> Result<Answer> {
        let status = Status::of_this_machine(Path::new(record::PATH))?;
        if self.json {
            print_json(&status)?
        } else {
            print(&status)?
        }
        Ok(if status.loaded { Answer::Yes } else { Answer::No })
    }
}

impl Exec {
    fn run(&self) -> Result<Answer> {
        let [kexec, arguments @ ..] = self.kexec.as_slice() else {
            return Err(Error::unusable("no command is given"));
        };
        let code = match self.load(kexec, arguments) {
            Ok(code) => code,
            Err(error) => {
                warn(error.report());
                warn(format_args!("the purgatory stage is not loaded; running kexec without it"));
                run_as_it_is(kexec, arguments)?
            }
        };
        std::process::exit(code)
    }

    /// Runs kexec with the stage; its exit code.
    fn load(&self, kexec: &OsString, arguments: &[OsString]) -> Result<i32> {
        match kexec_command::task(arguments) {
            Task::LoadCapture => {}
            Task::LoadCaptureByFile => {
                return Err(Error::unusable("kexec_file_load takes no segments")
                    .with_hint("Leave -s out, or say -c."));
            }
            Task::Other => return run_as_it_is(kexec, arguments),
        }
        let request = StageRequest {
            level: self.level,
            rules: self.rules,
            budget_ms: u64::from(self.budget) * 1000,
            serial_port: self.serial.unwrap_or(0),
            injected_fault: self.injected_fault.map_or(0, |fault| fault as u64),
        };
        let plan = Plan::for_this_machine(&self.image, &request)?;
        let mut map = temporary_file()?;
        map.write_all(plan.map.as_bytes())
            .map_err(|error| Error::io(map.path(), "the memory map can't be written", error))?;
        let with_word = kexec_command::with_word(arguments, &plan.word);
        match intercept::run(kexec, &with_word, &plan.area, Some(map.path()))? {
            Outcome::Refused(reason) => Err(Error::failure(reason)),
            Outcome::Ended { code, loaded: None } => {
                if code == 0 {
                    warn("kexec has loaded nothing, and so the purgatory stage is not loaded");
                }
                Ok(code)
            }
            Outcome::Ended { code, loaded: Some(loaded) } => {
                let record = Record::new(&plan.area, &loaded);
                if let Err(error) = record.write(Path::new(record::PATH)) {
                    warn(error.report());
                }
                warn(format_args!(
                    "the purgatory stage is loaded at {:#x} ({}), its bitmap's info at {:#x}",
                    record.area,
                    human_bytes(record.area_size),
                    record.info
                ));
                Ok(code)
            }
        }
    }
}

/// Runs kexec without the stage; its exit code.
fn run_as_it_is(kexec: &OsString, arguments: &[OsString]) -> Result<i32> {
    let status = Command::new(kexec).args(arguments).status();
    let status = status.map_err(|error| Error::io(Path::new(kexec), "kexec can't be run", error))?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// A file that kexec is shown; in memory, where there is such a place.
fn temporary_file() -> Result<tempfile::NamedTempFile> {
    tempfile::NamedTempFile::new_in("/run")
        .or_else(|_| tempfile::NamedTempFile::new())
        .map_err(|error| Error::failure("no temporary file can be made").because(error))
}

fn parse_port(text: &str) -> Result<u16, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u16::from_str_radix(digits, 16)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| "an I/O port is a hexadecimal number from 1 to 0xffff".to_owned())
}

fn parse_fault(text: &str) -> Result<FaultInjection, String> {
    FaultInjection::NAMES.iter().find(|(_, name)| *name == text).map(|(fault, _)| *fault).ok_or_else(|| {
        let names: Vec<&str> = FaultInjection::NAMES.iter().map(|(_, name)| *name).collect();
        format!("the faults are {}", names.join(", "))
    })
}
