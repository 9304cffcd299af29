//! The module in the running system: scans under load, and being loaded and unloaded.

use crate::bench::Bench;
use crate::report::Outcome;
use std::time::Duration;
use vmcore::Error;

/// `page_status` so often under load.
///
/// # Errors
/// One of them fails, or isn't right; or the machine dies.
pub fn page_status(bench: &Bench, trial: &str, count: u64) -> Outcome {
    let mut guest = bench.restore(trial)?;
    guest.succeed("load", Duration::from_secs(60))?;
    let reply = guest.succeed(&format!("page_status {count}"), Duration::from_secs(60 + count * 4))?;
    // The kernel has nothing to complain about.
    let complaints =
        guest.run("dmesg | grep -E 'BUG|WARNING|Oops|rcu.*stall|soft lockup'", Duration::from_secs(20))?;
    if complaints.status == 0 {
        return Err(Error::failure("the kernel complains").with_hint(complaints.text()));
    }
    Ok(reply.after("machine: ").unwrap_or("?").to_owned())
}

/// Loads and unloads the module so often: nothing is left.
///
/// # Errors
/// It fails, or something is left.
pub fn reload(bench: &Bench, trial: &str, count: u64, what: &str) -> Outcome {
    let mut guest = bench.restore(trial)?;
    let reply = guest.succeed(&format!("reload {count} {what}"), Duration::from_secs(120 + count * 10))?;
    let grown: Vec<(&str, [i64; 2])> = reply.lines.iter().filter_map(|line| growth(&line.text)).collect();
    if grown.len() < 4 {
        return Err(Error::failure("the guest did not measure").with_hint(reply.text()));
    }
    // What is lost each time is there as often as it was loaded, in both halves; what comes and goes is not.
    let leaks: Vec<_> = grown.iter().filter(|(_, [a, b])| *a.min(b) >= count.cast_signed() * 4 / 5).collect();
    if !leaks.is_empty() {
        return Err(Error::failure(format!("after {count} times, and again, there are more: {leaks:?}")));
    }
    let [a, b] = grown.iter().find(|(name, _)| *name == "pages").map_or([0; 2], |(_, more)| *more);
    Ok(format!("{} times; pages in use after each half: {a:+}, {b:+}", 2 * count))
}

/// What a line says of growth, in both halves.
fn growth(line: &str) -> Option<(&str, [i64; 2])> {
    let mut words = line.strip_prefix("machine: grown ")?.split_whitespace();
    let name = words.next()?;
    Some((name, [words.next()?.parse().ok()?, words.next()?.parse().ok()?]))
}

/// The check itself: a module that loses a little each time has to fail it.
///
/// # Errors
/// It doesn't.
pub fn leak(bench: &Bench, trial: &str, count: u64) -> Outcome {
    match reload(bench, trial, count, "/crasher.ko leak=4096") {
        Err(error) if error.report().contains("there are more") => {
            Ok(format!("a leak of 4 KiB is seen: {}", error.in_one_line()))
        }
        Err(error) => Err(error),
        Ok(text) => Err(Error::failure(format!("a leak of 4 KiB is not seen: {text}"))),
    }
}
