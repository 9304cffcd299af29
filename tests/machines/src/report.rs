//! The test report: a line for each trial, and the command that repeats a failed one.

use crate::Machine;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use vmcore::{Error, Result};

/// The result of a trial: a line of text, or the error.
pub type Outcome = Result<String>;

/// Prints the results and counts them.
#[derive(Debug, Default)]
pub struct Report {
    passed: AtomicU64,
    failed: AtomicU64,
}

impl Report {
    /// Prints the result of a trial. The files of a failed trial are kept.
    pub fn trial(
        &self,
        machine: &Machine,
        test: &str,
        trial: &str,
        seed: u64,
        directory: &Path,
        outcome: Outcome,
    ) {
        match outcome {
            Ok(text) => {
                self.passed.fetch_add(1, Ordering::Relaxed);
                println!("  {trial}: {text}");
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                println!(
                    "  {trial}: FAILED: {}\n    \
                     again: tests/machines/panic-path {machine} --seed {seed} --only '{trial}' {test}\n    \
                     console: {}",
                    error.report(),
                    directory.join("console.log").display()
                );
            }
        }
    }

    /// Prints the last line, the counts.
    ///
    /// # Errors
    /// A trial failed.
    pub fn end(&self) -> Result<()> {
        let (passed, failed) = (self.passed.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        println!("panic-path: {passed} passed, {failed} failed");
        match failed {
            0 => Ok(()),
            _ => Err(Error::failure(format!("{failed} trials failed"))),
        }
    }
}

/// Runs `job` for each item, on `jobs` threads.
pub fn side_by_side<T: Send>(items: impl IntoIterator<Item = T>, jobs: usize, job: impl Fn(T) + Sync) {
    let queue = Mutex::new(items.into_iter().collect::<std::collections::VecDeque<_>>());
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(item) = next() {
                    job(item);
                }
            });
        }
    });
}

/// The median.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}
