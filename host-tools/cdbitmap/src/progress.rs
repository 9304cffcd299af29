//! Shows how far a long job has come, for people and for logs. Always on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use scanner_core::Pfn;
use scanner_core::scan::Checkpoint;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use vmcore::progress::Progress;

/// A bar if standard error is a terminal that can redraw a line, plain lines if not. The console of a capture kernel
/// is a terminal too, but one that is read later, from a log.
pub fn for_stderr() -> Box<dyn Progress> {
    let can_redraw = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    let in_capture_kernel = Path::new("/proc/vmcore").exists();
    if std::io::stderr().is_terminal() && can_redraw && !in_capture_kernel {
        Box::new(Bar::new())
    } else {
        Box::new(Lines::new(std::io::stderr()))
    }
}

/// A bar on a terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar on standard error; drawn from the first stage on.
    pub fn new() -> Self {
        Self(ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()))
    }
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Bar {
    fn start(&self, what: &str, total: u64) {
        let style = ProgressStyle::with_template("{msg:24} {percent:>3} % {wide_bar} {eta:>4} left");
        self.0.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.0.set_draw_target(ProgressDrawTarget::stderr());
        self.0.reset();
        self.0.set_length(total);
        self.0.set_message(what.to_owned());
    }

    fn advance(&self, steps: u64) {
        self.0.inc(steps);
    }

    fn finish(&self) {
        self.0.abandon();
    }
}

/// Lines for a log: one when a stage begins, one when it ends, and between them not more than one in
/// [`Lines::INTERVAL`].
pub struct Lines<W> {
    state: Mutex<LinesState<W>>,
}

struct LinesState<W> {
    out: W,
    what: String,
    total: u64,
    done: u64,
    started: Instant,
    last: Instant,
}

impl<W: Write> Lines<W> {
    /// The least time between two lines of a stage.
    pub const INTERVAL: Duration = Duration::from_secs(5);

    /// Lines to `out`.
    pub fn new(out: W) -> Self {
        let now = Instant::now();
        let state = LinesState { out, what: String::new(), total: 0, done: 0, started: now, last: now };
        Self { state: Mutex::new(state) }
    }

    fn with(&self, change: impl FnOnce(&mut LinesState<W>)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl<W: Write + Send> Progress for Lines<W> {
    fn start(&self, what: &str, total: u64) {
        self.with(|state| {
            let now = Instant::now();
            (state.total, state.done, state.started, state.last) = (total, 0, now, now);
            state.what.clear();
            state.what.push_str(what);
            // Progress that can't be shown is no reason to fail.
            let _ = writeln!(state.out, "{what} ...");
        });
    }

    fn advance(&self, steps: u64) {
        self.with(|state| {
            state.done = state.done.saturating_add(steps);
            if state.last.elapsed() >= Self::INTERVAL {
                state.last = Instant::now();
                let percent = u128::from(state.done) * 100 / u128::from(state.total.max(1));
                let _ = writeln!(state.out, "{} ... {percent} %", state.what);
            }
        });
    }

    fn finish(&self) {
        self.with(|state| {
            let seconds = state.started.elapsed().as_secs_f64();
            let _ = writeln!(state.out, "{}: done in {seconds:.1} s", state.what);
        });
    }
}

/// Shows how far a scan has come.
pub struct ProgressCheckpoint<'p> {
    progress: &'p dyn Progress,
    reached: Pfn,
}

impl<'p> ProgressCheckpoint<'p> {
    /// Begins the stage `what` over `frames` frames.
    pub fn start(progress: &'p dyn Progress, what: &str, frames: u64) -> Self {
        progress.start(what, frames);
        Self { progress, reached: Pfn::new(0) }
    }

    /// Ends the stage.
    pub fn finish(self) {
        self.progress.finish();
    }
}

impl Checkpoint for ProgressCheckpoint<'_> {
    fn check(&mut self, next: Pfn) -> ControlFlow<()> {
        self.progress.advance(next.frames_since(self.reached));
        self.reached = next;
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_few() {
        let lines = Lines::new(Vec::new());
        lines.start("Copying data", 1000);
        (0..1000).for_each(|_| lines.advance(1));
        lines.finish();
        let text = String::from_utf8(lines.state.into_inner().unwrap().out).unwrap();
        assert!(text.starts_with("Copying data ...\n") && text.contains("done in"), "{text}");
        assert!(text.lines().count() <= 3, "{text}");
    }
}
