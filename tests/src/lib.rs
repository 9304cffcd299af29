//! Shared code of the tests that span several crates.

pub mod document;
pub mod fixture;
pub mod fuzz;
pub mod man;
pub mod measure;
pub mod memmap;
pub mod overlay;

pub mod simulated;
pub mod stage;
pub mod synth;
pub mod trim;

/// Prints `error` to standard error, prefixed with the program's name. Returns its exit code.
pub fn failed(program: &str, error: &vmcore::Error) -> std::process::ExitCode {
    eprintln!("{program}: {}", error.report());
    std::process::ExitCode::FAILURE
}
