//! The module in the running system: scans under load, loading and unloading.

use crate::bench::Bench;
use crate::report::Outcome;
use std::time::Duration;
use vmcore::Error;

/// Reads `page_status` `count` times under load.
///
/// # Errors
/// A read fails or has a wrong result, the kernel prints a warning, or the machine ends.
pub fn page_status(bench: &Bench, trial: &str, count: u64) -> Outcome {
    let mut guest = bench.restore(trial)?;
    guest.succeed("load", Duration::from_secs(60))?;
    let reply = guest.succeed(&format!("page_status {count}"), Duration::from_secs(60 + count * 4))?;
    // The kernel must not have printed a warning.
    let complaints =
        guest.run("dmesg | grep -E 'BUG|WARNING|Oops|rcu.*stall|soft lockup'", Duration::from_secs(20))?;
    if complaints.status == 0 {
        return Err(Error::failure("the kernel printed warnings").with_hint(complaints.text()));
    }
    Ok(reply.after("machine: ").unwrap_or("?").to_owned())
}

/// Loads and unloads the module `2 * count` times: memory use must not grow.
///
/// # Errors
/// A command fails, or memory use grows.
pub fn reload(bench: &Bench, trial: &str, count: u64, what: &str) -> Outcome {
    let mut guest = bench.restore(trial)?;
    let reply = guest.succeed(&format!("reload {count} {what}"), Duration::from_secs(120 + count * 10))?;
    let grown: Vec<(&str, [i64; 2])> = reply.lines.iter().filter_map(|line| growth(&line.text)).collect();
    if grown.len() < 4 {
        return Err(Error::failure("the guest printed no measurements").with_hint(reply.text()));
    }
    // A leak in each cycle grows by about `count` objects in both halves. Other fluctuations do not.
    let leaks: Vec<_> = grown.iter().filter(|(_, [a, b])| *a.min(b) >= count.cast_signed() * 4 / 5).collect();
    if !leaks.is_empty() {
        return Err(Error::failure(format!("after {count} cycles, and again, there are more: {leaks:?}")));
    }
    let [a, b] = grown.iter().find(|(name, _)| *name == "pages").map_or([0; 2], |(_, more)| *more);
    Ok(format!("{} cycles; growth of pages in use in each half: {a:+}, {b:+}", 2 * count))
}

/// The growth in both halves, from a line `machine: grown NAME FIRST SECOND`.
fn growth(line: &str) -> Option<(&str, [i64; 2])> {
    let mut words = line.strip_prefix("machine: grown ")?.split_whitespace();
    let name = words.next()?;
    Some((name, [words.next()?.parse().ok()?, words.next()?.parse().ok()?]))
}

/// Tests the check itself: it must detect a module that leaks 4 KiB each time.
///
/// # Errors
/// The check does not detect it.
pub fn leak(bench: &Bench, trial: &str, count: u64) -> Outcome {
    match reload(bench, trial, count, "/crasher.ko leak=4096") {
        Err(error) if error.report().contains("there are more") => {
            Ok(format!("a leak of 4 KiB is detected: {}", error.in_one_line()))
        }
        Err(error) => Err(error),
        Ok(text) => Err(Error::failure(format!("a leak of 4 KiB is not detected: {text}"))),
    }
}
