//! Whole machines under QEMU: real kernels that boot, are brought to the point of crashing once, and then crash from
//! there as often as needed, each time in another way.
//!
//! A [`Machine`] says what the hardware and the kernel are, a [`Kit`] holds what it boots, a [`Guest`] is one that
//! runs. Both kernels of a guest end in `guest/serve`, a shell that takes its commands from the console: a test runs
//! commands in the first kernel, takes a snapshot, and from each restored copy goes on, through the crash, in the
//! capture kernel.

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

/// Says on standard error why `program` cannot go on.
pub fn failed(program: &str, error: &vmcore::Error) -> std::process::ExitCode {
    eprintln!("{program}: {}", error.report());
    std::process::ExitCode::FAILURE
}
