//! A machine's serial console: lines with their arrival times, and a log file of all lines.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use vmcore::{Error, Result};

/// A line of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When its last character arrived.
    pub at: Instant,
    /// Its text, without the line ending.
    pub text: String,
}

/// The lines of a console, in the order of arrival.
#[derive(Debug)]
pub struct Console(Receiver<Line>);

impl Console {
    /// Starts a thread that reads `output` and writes its lines to `log`, prefixed with the seconds since the start.
    ///
    /// # Errors
    /// The log cannot be created.
    pub fn new(output: impl Read + Send + 'static, log: &Path) -> Result<Self> {
        let mut log_file = File::create(log).map_err(|e| Error::io(log, "cannot create the log", e))?;
        let (sender, receiver) = channel();
        let started = Instant::now();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut bytes = Vec::new();
            while matches!(output.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
                let at = Instant::now();
                let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
                // A failed write to the log must not end the test.
                let _ = writeln!(log_file, "{:9.3} {text}", at.duration_since(started).as_secs_f64());
                if sender.send(Line { at, text }).is_err() {
                    break;
                }
                bytes.clear();
            }
        });
        Ok(Self(receiver))
    }

    /// The next line.
    ///
    /// # Errors
    /// No line arrives in time, or the machine has ended.
    pub fn next(&self, until: Instant) -> Result<Line> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.0.recv_timeout(left).map_err(|e| match e {
            RecvTimeoutError::Timeout => Error::failure("the console shows no further line"),
            RecvTimeoutError::Disconnected => Error::failure("the machine has ended"),
        })
    }
}
