//! A machine's memory as a picture: what every part of it is used for.
//!
//! ```text
//! Machine ──> ClassRuns (runs of frames of a class) ──> Grid (counts per cell) ──> MemoryMap
//!                                                                                    ├──> Drawing ──> PNG, SVG
//!                                                                                    └──> terminal
//! ```
//!
//! Memory use depends on the picture's size and not on the machine's.

mod classes;
mod grid;
mod model;
mod png;
mod runs;
mod sheet;
mod svg;
mod terminal;
#[cfg(test)]
mod tests;

pub use classes::{ClassCounts, ClassRun, ClassRuns, FrameClass};
pub use grid::{Grid, Line, Row};
pub use model::{Anchor, Colour, Drawing, Rect, Shape, Style, Text};
pub use png::to_png;
pub use runs::RunsReport;
pub use sheet::{COLUMNS, MAX_LINES};
pub use svg::to_svg;
pub use terminal::{Look, terminal_columns};

use page_filter::machine::Machine;
use page_filter::scan::ScanFindings;
use scanner_core::memmap::nodes::Nodes;
use scanner_core::scan::Checkpoint;
use scanner_core::{DumpLevel, PAGE_SIZE, Pfn, PfnRange, RuleSet};
use vmcore::frames::FrameRanges;
use vmcore::units::human_bytes;

/// A machine's memory in cells, and what is said about it.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    /// The kernel's release, printable.
    pub release: String,
    /// The level that says what is left out.
    pub level: DumpLevel,
    /// Whose rules decide.
    pub rule_set: RuleSet,
    /// One more than the last frame.
    pub frames: u64,
    /// The cells.
    pub grid: Grid,
    /// The NUMA nodes and the frames that they span, by first frame.
    pub nodes: Vec<(u32, PfnRange)>,
    /// What the scan came across.
    pub findings: ScanFindings,
}

/// A line of the legend.
struct LegendEntry {
    class: FrameClass,
    frames: u64,
    size: String,
    /// Of the memory that exists; empty for what doesn't.
    percent: String,
}

impl MemoryMap {
    /// Scans `machine` at `level` into a grid of `columns` and at most `max_lines`.
    pub fn of(
        machine: &Machine<'_>,
        level: DumpLevel,
        (columns, max_lines): (usize, usize),
        pace: &mut dyn Checkpoint,
    ) -> Self {
        let all = PfnRange::new(Pfn::new(0), Pfn::new(machine.frames));
        let exists = FrameRanges::from_ranges(machine.exists().within(all));
        let mut grid = Grid::new(&exists, columns, max_lines);
        let mut runs = ClassRuns::new(machine, level, pace);
        for run in &mut runs {
            grid.add(run);
        }
        Self {
            release: machine.os_release().chars().filter(|c| c.is_ascii_graphic()).take(64).collect(),
            level,
            rule_set: machine.rule_set,
            frames: machine.frames,
            grid,
            nodes: nodes_of(machine),
            findings: runs.findings().clone(),
        }
    }

    /// What the picture shows.
    fn title(&self) -> String {
        format!("Memory of Linux {}", self.release)
    }

    fn subtitle(&self) -> String {
        let existing = self.grid.counts().existing();
        let left_out = existing - self.kept();
        format!(
            "{} of memory, dump level {} by {}: {} kept, {} left out",
            human_bytes(existing.saturating_mul(PAGE_SIZE as u64)),
            self.level.bits(),
            match self.rule_set {
                RuleSet::Makedumpfile => "makedumpfile's rules",
                RuleSet::Kernel => "the kernel's rules",
            },
            percent(self.kept(), existing),
            percent(left_out, existing),
        )
    }

    /// Frames that a dump has at this level, if none of them is zero.
    fn kept(&self) -> u64 {
        self.grid.counts().get(FrameClass::Kept) + self.grid.counts().get(FrameClass::Unreadable)
    }

    /// The classes that have frames, those that a dump keeps first.
    fn legend(&self) -> Vec<LegendEntry> {
        let counts = self.grid.counts();
        let existing = counts.existing();
        let mut entries: Vec<LegendEntry> = counts
            .present()
            .map(|(class, frames)| LegendEntry {
                class,
                frames,
                size: human_bytes(frames.saturating_mul(PAGE_SIZE as u64)),
                percent: if class == FrameClass::Hole { String::new() } else { percent(frames, existing) },
            })
            .collect();
        entries.sort_by_key(|entry| match entry.class {
            FrameClass::Hwpoison => (1, entry.class),
            FrameClass::Hole => (2, entry.class),
            class => (0, class),
        });
        entries
    }

    /// What the reader has to know beside.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.level.contains(DumpLevel::ZERO) {
            notes.push("Zero pages are not looked for: that takes the pages' contents.".to_owned());
        }
        if self.grid.counts().present().any(|(class, _)| class.is_alarm()) {
            notes.push("Poisoned and unreadable pages are shown however few they are.".to_owned());
        }
        if !self.findings.complete && self.frames > 0 {
            notes.push(format!(
                "The scan was stopped at pfn {}; all behind is kept.",
                self.findings.scanned_up_to
            ));
        }
        let broken = self.findings.broken_free_lists.len();
        if broken > 0 {
            notes.push(format!("Free lists that are broken, their free pages kept: {broken}."));
        }
        notes
    }

    /// Indices of the nodes that start in `frames` or in a gap before them.
    fn nodes_starting_in(&self, frames: PfnRange) -> Vec<usize> {
        let shown = |start: Pfn| {
            let row = self.grid.lines().find_map(|line| match line {
                Line::Row(row) if row.frames.end > start => Some(row.frames),
                _ => None,
            });
            row == Some(frames)
        };
        (0..self.nodes.len()).filter(|node| shown(self.nodes[*node].1.start)).collect()
    }

    /// The names of some nodes in few letters; `None` for none.
    fn node_names(&self, indices: &[usize]) -> Option<String> {
        let number = |index: usize| self.nodes[index].0;
        match indices {
            [] => None,
            [one] => Some(format!("node {}", number(*one))),
            [first, .., last] => Some(format!("nodes {}-{}", number(*first), number(*last))),
        }
    }
}

/// The nodes that have memory, by first frame.
fn nodes_of(machine: &Machine<'_>) -> Vec<(u32, PfnRange)> {
    let Some(layout) = &machine.layout.nodes else { return Vec::new() };
    let space = machine.sections.space();
    let nodes = Nodes::new(layout, *space);
    let Ok(online) = nodes.online(machine.image) else { return Vec::new() };
    let all = PfnRange::new(Pfn::new(0), Pfn::new(machine.frames));
    let mut nodes: Vec<(u32, PfnRange)> = online
        .iter()
        .filter_map(|node| Some((node, nodes.frames(machine.image, node)?.intersection(all))))
        .filter(|(_, frames)| !frames.is_empty())
        .collect();
    nodes.sort_by_key(|(_, frames)| frames.start);
    nodes
}

/// A share of `whole`, with as many digits as tell something.
fn percent(part: u64, whole: u64) -> String {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    if part > 0 && percent < 0.05 { "<0.1 %".to_owned() } else { format!("{percent:.1} %") }
}
