//! The command line of `cdbitmap`.

use cdbitmap::commands::{Answer, CommandLine, exit_code, warn};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match CommandLine::parse().run() {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(error) => {
            warn(error.report());
            exit_code(error.kind())
        }
    }
}
