//! Measures the time from the panic to the jump, with and without the module, and from the capture kernel's start to
//! the finished dump, made in three ways. All measurements are from the same crashes of the same machine.

use crate::bench::Bench;
use crate::report::median;
use std::time::{Duration, Instant};
use vmcore::{Error, Result};

const LIMIT: Duration = Duration::from_secs(300);

/// The ways to make a dump.
const WAYS: [(&str, &str); 3] = [
    ("bitmap", "dump /dump --bitmap required --force"),
    ("own scan", "dump /dump --force"),
    ("makedumpfile", "rm -f /dump; reference /dump"),
];

/// Measures `rounds` crashes, and prints a table of medians.
///
/// # Errors
/// A crash or a dump fails.
pub fn table(bench: &Bench, rounds: u64) -> Result<()> {
    let mut jumps = [Vec::new(), Vec::new()];
    let mut boots = Vec::new();
    let mut dumps = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..rounds {
        for (without, jumps) in jumps.iter_mut().enumerate() {
            let before: &[&str] = if without == 1 { &["rmmod crash_dump_bitmap"] } else { &[] };
            let mut crashed = bench.crash(&format!("times-{without}-{round}"), before, "sysrq")?;
            jumps.push(crashed.panic_to_jump().as_secs_f64());
            boots.push((crashed.capture - crashed.jump).as_secs_f64());
            if without == 1 {
                continue;
            }
            // The order rotates, so that each way is first equally often.
            for turn in 0..WAYS.len() {
                let index = (turn + usize::try_from(round).unwrap_or(0)) % WAYS.len();
                let (way, command) = WAYS[index];
                crashed.guest.succeed("rm -f /dump; sync", LIMIT)?;
                let started = Instant::now();
                let reply = crashed.guest.run(command, LIMIT)?;
                if reply.status != 0 {
                    let said = crashed.guest.run("said", LIMIT)?.text();
                    return Err(Error::failure(format!("the dump by {way} failed")).with_hint(said));
                }
                dumps[index].push(started.elapsed().as_secs_f64());
            }
        }
    }
    let boot = median(boots);
    let [with, without] = jumps.map(median);
    println!("  medians of {rounds} crashes                       seconds");
    println!("  panic to jump, without the module         {without:8.3}");
    println!("  panic to jump, with the module            {with:8.3}");
    println!("  jump to the capture kernel's first command{boot:8.3}");
    for ((way, _), times) in WAYS.iter().zip(dumps) {
        let dump = median(times);
        println!("  dump by {way:<34}{dump:8.3}   from the capture kernel's start {:.3}", boot + dump);
    }
    Ok(())
}
