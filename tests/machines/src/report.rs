//! What came out: a line for each trial, and how to repeat those that failed.

use crate::Machine;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use vmcore::{Error, Result};

/// What a trial showed: a line, and more for who wants to know; or why it failed.
pub type Outcome = Result<String>;

/// Counts, and prints.
#[derive(Debug, Default)]
pub struct Report {
    passed: AtomicU64,
    failed: AtomicU64,
}

impl Report {
    /// Prints what a trial showed. Files of one that failed are left where they are.
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

    /// The last line; an error if a trial failed.
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

/// Does `job` for each item, `jobs` at a time.
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

/// The value in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}
