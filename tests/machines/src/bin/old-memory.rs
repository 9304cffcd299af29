//! Measures how fast a capture kernel reads the first kernel's memory: a table of block sizes for `read` and `mmap`,
//! and of `cdbitmap`'s reader.

use clap::Parser;
use machines::kit::{Contents, get_kernel};
use machines::{Guest, Kit, Machine};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use vmcore::{Error, Result};

/// Measures how fast `/proc/vmcore` can be read in the capture kernel of a crashed machine
#[derive(Debug, Parser)]
#[command(name = "old-memory")]
struct Arguments {
    /// Series of the kernel, as in get-kernel; may be given more than once
    #[arg(long = "kernel", value_name = "SERIES", default_value = "6.1")]
    kernels: Vec<String>,
    /// Memory of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,
    /// Memory that each row reads, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 128)]
    mib: u32,
    /// Number of measurements of each row
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    rounds: u32,
    /// Program that measures in the guest
    #[arg(long, value_name = "FILE", hide = true)]
    bench_reading: PathBuf,
    /// Keep the console logs in DIR
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => machines::failed("old-memory", &error),
    }
}

fn run(asked: &Arguments) -> Result<()> {
    let work =
        tempfile::tempdir().map_err(|e| Error::failure("cannot create a temporary directory").because(e))?;
    let logs = asked.keep.clone().unwrap_or_else(|| work.path().to_owned());
    for series in &asked.kernels {
        get_kernel(series)?;
        let contents =
            Contents { first: Vec::new(), capture: vec![asked.bench_reading.display().to_string()] };
        let kit = Kit::build(series, "old-memory", &contents, &work.path().join(series))?;
        let mut machine = Machine::new(series, true, 1);
        machine.memory = asked.memory;
        println!("{machine}, {} MiB, emulated processor: only the ratios are meaningful\n", asked.memory);

        let mut guest = Guest::boot(&machine, &kit, &logs.join(format!("console-{series}")))?;
        guest.succeed("prepare", Duration::from_secs(180))?;
        guest.order("crash")?;
        guest.wait_for_capture_kernel()?;
        let command = format!("reading --mib {} --rounds {}", asked.mib, asked.rounds);
        let reply = guest.succeed(&command, Duration::from_secs(1800))?;
        for line in reply.lines.iter().filter(|line| line.text.starts_with('|')) {
            println!("{}", line.text.trim_end());
        }
        println!();
    }
    Ok(())
}
