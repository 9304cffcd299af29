//! Reads a relocatable object that `linker/build` has made, and proves that it can run when a kernel dies.
//!
//! The rules, each checked on the machine code itself rather than on promises of a compiler:
//!
//! - no undefined symbol but `memcpy` and its like, so no path to a panic;
//! - no x87, MMX, SSE or AVX instruction, and no trap;
//! - no relocation that a kernel module's or kexec's loader doesn't know, so no global offset table;
//! - nothing below the stack pointer is touched (no red zone): an interrupt would overwrite it;
//! - no recursion, no stack frame of variable size, and no function whose address is taken: so that every call through
//!   a pointer is one of the caller's callbacks, and the deepest chain of calls has a known size;
//! - that size, and the size of the code which an entry reaches, are within limits.
//!
//! With `--module` it reads the whole kernel module that the object was linked into, and proves what a contract says: see
//! [`module`].
//!
//! The exit code is 0 if all hold, 1 if one does not, and 2 if the object can't be read.

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

/// Proves what an object for crash-time code promises.
#[derive(Debug, Parser)]
#[command(version)]
struct CommandLine {
    /// The relocatable object (x86_64 ELF)
    object: PathBuf,
    /// Bytes of stack that an entry may take: for all, or ENTRY=BYTES
    #[arg(long, value_name = "LIMIT")]
    stack: Vec<String>,
    /// Bytes of code that an entry may reach: for all, or ENTRY=BYTES
    #[arg(long, value_name = "LIMIT")]
    text: Vec<String>,
    /// The object is a kernel module: prove what this contract says instead
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
