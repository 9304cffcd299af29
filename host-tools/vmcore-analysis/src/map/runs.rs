//! Writes the runs of page frames of one class as JSON.

use super::classes::{ClassCounts, ClassRun, ClassRuns, FrameClass};
use super::nodes_of;
use page_filter::machine::Machine;
use scanner_core::{DumpLevel, PfnRange};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::cell::RefCell;
use std::io::Write;
use vmcore::{Error, Result};

/// All runs of a machine: an object with `release`, `level`, `rules`, `frames`, `nodes`, `runs` and `counts`, in page
/// frames of 4 KiB.
///
/// The scan runs while the report is written: the runs are not collected in memory, because there can be many.
pub struct RunsReport<'m, 'p> {
    machine: &'m Machine<'m>,
    level: DumpLevel,
    runs: RefCell<ClassRuns<'m, 'p>>,
}

impl<'m, 'p> RunsReport<'m, 'p> {
    /// Creates a report of `runs`, which scan `machine` at `level`.
    pub fn new(machine: &'m Machine<'m>, level: DumpLevel, runs: ClassRuns<'m, 'p>) -> Self {
        Self { machine, level, runs: RefCell::new(runs) }
    }

    /// Runs the scan and writes the report.
    ///
    /// # Errors
    /// Fails if writing to `out` fails.
    pub fn write(self, out: &mut dyn Write) -> Result<()> {
        let mut out = std::io::BufWriter::new(out);
        serde_json::to_writer(&mut out, &self)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out))
            .and_then(|()| out.flush())
            .map_err(|error| Error::failure("cannot write the report").because(error))
    }
}

impl Serialize for RunsReport<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nodes: Vec<Node> = nodes_of(self.machine)
            .into_iter()
            .map(|(node, frames)| Node { node, span: frames.into() })
            .collect();
        let counts = RefCell::default();
        let mut report = serializer.serialize_map(None)?;
        report.serialize_entry("release", self.machine.os_release())?;
        report.serialize_entry("level", &self.level.bits())?;
        report.serialize_entry("rules", self.machine.rule_set.name())?;
        report.serialize_entry("frames", &self.machine.frames)?;
        report.serialize_entry("nodes", &nodes)?;
        report.serialize_entry("runs", &Runs { runs: &self.runs, counts: &counts })?;
        report.serialize_entry("counts", &Counts(counts.into_inner()))?;
        report.end()
    }
}

struct Runs<'r, 'm, 'p> {
    runs: &'r RefCell<ClassRuns<'m, 'p>>,
    counts: &'r RefCell<ClassCounts>,
}

impl Serialize for Runs<'_, '_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut runs = self.runs.borrow_mut();
        serializer.collect_seq((&mut *runs).map(|ClassRun { frames, class }| {
            self.counts.borrow_mut().add(class, frames.len());
            Run { class, span: frames.into() }
        }))
    }
}

struct Counts(ClassCounts);

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(FrameClass::ALL.map(|class| (class.name(), self.0.get(class))))
    }
}

#[derive(Serialize)]
struct Node {
    node: u32,
    #[serde(flatten)]
    span: Span,
}

#[derive(Serialize)]
struct Run {
    class: FrameClass,
    #[serde(flatten)]
    span: Span,
}

#[derive(Serialize)]
struct Span {
    start: u64,
    frames: u64,
}

impl From<PfnRange> for Span {
    fn from(frames: PfnRange) -> Self {
        Self { start: frames.start.as_u64(), frames: frames.len() }
    }
}
