//! Whole machines under QEMU: a real kernel boots once, a snapshot is taken before the crash, and each trial crashes a
//! restored copy in another way.
//!
//! A [`Machine`] describes the hardware and the kernel, a [`Kit`] contains the files that it boots, a [`Guest`] is
//! a running machine. Both kernels of a guest run `guest/serve`, a shell that reads commands from the console. A test
//! runs commands in the first kernel, takes a snapshot, crashes restored copies, and runs commands in their capture
//! kernels.

pub mod bench;
pub mod comparison;
pub mod console;
pub mod crash;
pub mod faults;
pub mod guest;
pub mod kit;
pub mod live;
pub mod machine;
pub mod qmp;
pub mod report;
pub mod times;

pub use guest::{Guest, Reply};
pub use kit::Kit;
pub use machine::Machine;

/// Prints `error` to standard error, prefixed with the program's name. Returns its exit code.
pub fn failed(program: &str, error: &vmcore::Error) -> std::process::ExitCode {
    eprintln!("{program}: {}", error.report());
    std::process::ExitCode::FAILURE
}
