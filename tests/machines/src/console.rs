//! A machine's serial console: lines with the time when they came, all of them also in a log file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use vmcore::{Error, Result};

/// A line of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When its last character came.
    pub at: Instant,
    /// Its text, without the line's end.
    pub text: String,
}

/// The lines of a console, as they come.
#[derive(Debug)]
pub struct Console(Receiver<Line>);

impl Console {
    /// Reads `output` from now on, on a thread of its own, and writes what comes to `log`, with seconds since now.
    ///
    /// # Errors
    /// The log can't be made.
    pub fn new(output: impl Read + Send + 'static, log: &Path) -> Result<Self> {
        let mut log_file = File::create(log).map_err(|e| Error::io(log, "the log can't be made", e))?;
        let (sender, receiver) = channel();
        let started = Instant::now();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut bytes = Vec::new();
            while matches!(output.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
                let at = Instant::now();
                let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
                // A log that can't be written is no reason to end a test.
                let _ = writeln!(log_file, "{:9.3} {text}", at.duration_since(started).as_secs_f64());
                if sender.send(Line { at, text }).is_err() {
                    break;
                }
                bytes.clear();
            }
        });
        Ok(Self(receiver))
    }

    /// The next line; an error says that none came in time, or that the machine ended.
    ///
    /// # Errors
    /// None in time, or the machine ended.
    pub fn next(&self, until: Instant) -> Result<Line> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.0.recv_timeout(left).map_err(|e| match e {
            RecvTimeoutError::Timeout => Error::failure("the machine says nothing more"),
            RecvTimeoutError::Disconnected => Error::failure("the machine ended"),
        })
    }
}
