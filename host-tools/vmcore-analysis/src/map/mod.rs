//! Draws a machine's memory by page class.
//!
//! ```text
//! Machine ──> ClassRuns (runs of frames of a class) ──> Grid (counts per cell) ──> MemoryMap
//!                                                                                    ├──> Drawing ──> PNG, SVG
//!                                                                                    └──> terminal
//! ```
//!
//! The memory use depends on the size of the picture, not on that of the machine.

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

/// A machine's memory as a grid of cells, with the text for title, legend and notes.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    /// The kernel's release: at most 64 characters of printable ASCII.
    pub release: String,
    /// The dump level that selects the excluded classes.
    pub level: DumpLevel,
    /// The rule set.
    pub rule_set: RuleSet,
    /// One more than the last frame.
    pub frames: u64,
    /// The cells.
    pub grid: Grid,
    /// The NUMA nodes and the frames that they span, in the order of their first frames.
    pub nodes: Vec<(u32, PfnRange)>,
    /// The findings of the scan.
    pub findings: ScanFindings,
}

/// A line of the legend.
struct LegendEntry {
    class: FrameClass,
    frames: u64,
    size: String,
    /// The share of the existing memory; empty for holes.
    percent: String,
}

impl MemoryMap {
    /// Scans `machine` at `level` into a grid of `columns` cells a row and at most `max_lines` lines.
    pub fn of(
        machine: &Machine<'_>,
        level: DumpLevel,
        (columns, max_lines): (usize, usize),
        checkpoint: &mut dyn Checkpoint,
    ) -> Self {
        let all = PfnRange::new(Pfn::new(0), Pfn::new(machine.frames));
        let exists = FrameRanges::from_ranges(machine.exists().within(all));
        let mut grid = Grid::new(&exists, columns, max_lines);
        let mut runs = ClassRuns::new(machine, level, checkpoint);
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

    /// The title.
    fn title(&self) -> String {
        format!("Memory of Linux {}", self.release)
    }

    /// The line after the title: size, dump level, rule set, and the shares of kept and excluded memory.
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

    /// The number of frames that a dump keeps at this level, zero pages included.
    fn kept(&self) -> u64 {
        self.grid.counts().get(FrameClass::Kept) + self.grid.counts().get(FrameClass::Unreadable)
    }

    /// The legend: the classes that have frames, with `hwpoison` and `hole` last.
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

    /// Notes after the legend.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.level.contains(DumpLevel::ZERO) {
            notes.push("Zero pages are not shown: finding them takes the contents of all pages.".to_owned());
        }
        if self.grid.counts().present().any(|(class, _)| class.is_alarm()) {
            notes.push("Poisoned and unreadable pages are shown even if there is only one.".to_owned());
        }
        if !self.findings.complete && self.frames > 0 {
            notes.push(format!(
                "The scan stopped at page frame {}; the following frames are kept.",
                self.findings.scanned_up_to
            ));
        }
        let broken = self.findings.broken_free_lists.len();
        if broken > 0 {
            notes.push(format!("{broken} free lists are broken; their remaining blocks are kept."));
        }
        notes
    }

    /// The indices of the nodes that start in the row of `frames`, or in the gap before it.
    fn nodes_starting_in(&self, frames: PfnRange) -> Vec<usize> {
        let is_in_row = |start: Pfn| {
            let row = self.grid.lines().find_map(|line| match line {
                Line::Row(row) if row.frames.end > start => Some(row.frames),
                _ => None,
            });
            row == Some(frames)
        };
        (0..self.nodes.len()).filter(|node| is_in_row(self.nodes[*node].1.start)).collect()
    }

    /// A short name for the nodes at `indices`; `None` if there are none.
    fn node_names(&self, indices: &[usize]) -> Option<String> {
        let number = |index: usize| self.nodes[index].0;
        match indices {
            [] => None,
            [one] => Some(format!("node {}", number(*one))),
            [first, .., last] => Some(format!("nodes {}-{}", number(*first), number(*last))),
        }
    }
}

/// The nodes that have memory, in the order of their first frames.
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

/// `part` as a percentage of `whole`, with one decimal.
fn percent(part: u64, whole: u64) -> String {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    if part > 0 && percent < 0.05 { "<0.1 %".to_owned() } else { format!("{percent:.1} %") }
}
