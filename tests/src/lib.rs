//! What the tests across crates share.

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

/// Says on standard error why `program` cannot go on.
pub fn failed(program: &str, error: &vmcore::Error) -> std::process::ExitCode {
    eprintln!("{program}: {}", error.report());
    std::process::ExitCode::FAILURE
}
