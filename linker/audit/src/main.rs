//! Proves that the relocatable object of `linker/crash-scan/build` can run when a kernel dies.
//!
//! It checks these rules on the machine code itself, and relies on no compiler:
//!
//! - no undefined symbol except `memcpy` and the like, so no path to a panic;
//! - no x87, MMX, SSE or AVX instruction, and no trap that execution can reach;
//! - no relocation that the loaders of kernel modules and of kexec refuse, so no global offset table;
//! - no access below the stack pointer (no red zone): an interrupt would overwrite that memory;
//! - no recursion, no stack frame of variable size, and no function whose address is taken. So each call through a
//!   pointer calls one of the caller's callbacks, and the deepest chain of calls has a known size;
//! - that size, and the size of the code that an entry reaches, are within limits.
//!
//! With `--module` it reads a whole kernel module with that object in it, and checks it against a contract: see
//! [`module`].
//!
//! The report lists the code that the audit does not see as "not covered".
//!
//! The exit code is 0 if all rules hold, 1 if one is broken, and 2 if the object cannot be read.

mod code;
mod module;
mod object_file;
mod report;
mod rules;
mod stack;

use clap::Parser;
use module::Contract;
use object_file::Program;
use rules::Limits;
use std::path::PathBuf;
use std::process::ExitCode;

/// Proves that an object can run when a kernel dies.
#[derive(Debug, Parser)]
#[command(version)]
struct CommandLine {
    /// The relocatable object (x86_64 ELF)
    object: PathBuf,
    /// Limit of the stack in bytes: BYTES for all entries, or ENTRY=BYTES
    #[arg(long, value_name = "LIMIT")]
    stack: Vec<String>,
    /// Limit of the code that an entry reaches, in bytes: BYTES for all entries, or ENTRY=BYTES
    #[arg(long, value_name = "LIMIT")]
    text: Vec<String>,
    /// Check the object, a kernel module, against this contract instead
    #[arg(long, value_name = "CONTRACT", conflicts_with_all = ["stack", "text"])]
    module: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&CommandLine::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("crash-scan-audit: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all rules hold.
fn run(arguments: &CommandLine) -> Result<bool, String> {
    let limits = Limits::parse(&arguments.stack, &arguments.text)?;
    let named = |error: String| format!("{}: {error}", arguments.object.display());
    let bytes = std::fs::read(&arguments.object).map_err(|error| named(error.to_string()))?;
    let program = Program::read(&bytes).map_err(named)?;
    let report = match &arguments.module {
        Some(path) => {
            let named = |error: String| format!("{}: {error}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
            module::audit(&program, &Contract::parse(&text).map_err(named)?)
        }
        None => rules::audit(&program, &limits),
    };
    if arguments.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        println!("{text}");
    } else {
        print!("{report}");
    }
    Ok(report.violations.is_empty())
}
