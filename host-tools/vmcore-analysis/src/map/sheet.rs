//! Lays out the picture of a machine's memory on a sheet: title, total shares, rows of cells with their addresses,
//! nodes, and the legend.

use super::MemoryMap;
use super::classes::{ClassCounts, FrameClass};
use super::grid::{Line, Row};
use super::model::{Anchor, Colour, Drawing, Style};
use scanner_core::{PAGE_SIZE, Pfn, PfnRange};
use std::collections::BTreeMap;

/// The number of cells in a row. Together with [`MAX_LINES`], it makes the picture fit on a page and on a screen.
pub const COLUMNS: usize = 128;
/// The most rows and gaps of a picture. See [`COLUMNS`].
pub const MAX_LINES: usize = 48;

const MARGIN: u32 = 24;
/// The heights of cells, in pixels. If there are few rows, their cells are higher, so that shares are easier to see.
const CELL_HEIGHTS: std::ops::RangeInclusive<u32> = 14..=24;
/// The distance between rows, in pixels.
const ROW_GAP: u32 = 3;
const MAP_WIDTH: u32 = 7 * COLUMNS as u32;
/// The right ends of the two columns of addresses (in units, in hexadecimal), and the left end of the map.
const HUMAN_END: u32 = MARGIN + 66;
const HEX_END: u32 = HUMAN_END + 108;
const MAP_X: u32 = HEX_END + 12;
const MAP_END: u32 = MAP_X + MAP_WIDTH;
/// The width of the column for the names of nodes.
const NODES_WIDTH: u32 = 84;
const TITLE_Y: u32 = 18;
const BAR_Y: u32 = 76;
const BAR_HEIGHT: u32 = 22;
const MAP_Y: u32 = BAR_Y + BAR_HEIGHT + 22;
const LEGEND_LINE: u32 = 21;
/// One of so many rows has an address.
const LABEL_EVERY: u64 = 4;

/// The positions of the lines of the map.
#[derive(Clone, Copy)]
struct Lines {
    count: u32,
    cell_width: u32,
    cell_height: u32,
}

impl Lines {
    fn pitch(self) -> u32 {
        self.cell_height + ROW_GAP
    }

    /// The upper edges of the lines, in order.
    fn tops(self) -> impl Iterator<Item = u32> {
        (MAP_Y..).step_by(self.pitch() as usize)
    }

    /// The upper edge of a text in the line at `y`.
    fn text_y(self, y: u32) -> u32 {
        (y + self.cell_height / 2).saturating_sub(Style::Plain.line_height() / 2)
    }
}

impl MemoryMap {
    /// Draws the picture.
    pub fn draw(&self) -> Drawing {
        let nodes_width = if self.nodes.len() > 1 { NODES_WIDTH } else { 0 };
        let lines = self.lines();
        let legend_y = MAP_Y + lines.pitch() * lines.count + 14;
        let mut drawing = Drawing {
            width: MAP_END + nodes_width + MARGIN,
            height: 0,
            description: format!("{}: {}", self.title(), self.subtitle()),
            shapes: Vec::new(),
        };
        drawing.text((MAP_X, TITLE_Y), Anchor::Start, Style::Title, Colour::INK, &self.title());
        drawing.text((MAP_X, TITLE_Y + 28), Anchor::Start, Style::Plain, Colour::MUTED, &self.subtitle());
        self.draw_shares(&mut drawing);
        self.draw_cells(&mut drawing, lines);
        self.draw_addresses(&mut drawing, lines);
        if self.nodes.len() > 1 {
            self.draw_nodes(&mut drawing, lines);
        }
        drawing.height = self.draw_legend(&mut drawing, legend_y) + MARGIN;
        drawing
    }

    fn lines(&self) -> Lines {
        let count = self.grid.lines().count() as u32;
        let room = (*CELL_HEIGHTS.start() + ROW_GAP) * MAX_LINES as u32;
        let cell_height = (room / count.max(1) - ROW_GAP).clamp(*CELL_HEIGHTS.start(), *CELL_HEIGHTS.end());
        let cell_width = (MAP_WIDTH / self.grid.columns() as u32).max(1);
        Lines { count, cell_width, cell_height }
    }

    /// Draws one bar for all existing memory.
    fn draw_shares(&self, drawing: &mut Drawing) {
        let counts = self.grid.counts();
        drawing.text((HEX_END, BAR_Y + 3), Anchor::End, Style::Plain, Colour::MUTED, "all memory");
        let mut x = MAP_X;
        for (class, width) in shares(counts, counts.existing(), MAP_WIDTH, 0) {
            drawing.rect(x, BAR_Y, width, BAR_HEIGHT, Colour::of(class));
            x += width;
        }
    }

    fn draw_cells(&self, drawing: &mut Drawing, lines: Lines) {
        // Grouped by class, so that each class is one path in an SVG file.
        let mut by_class: BTreeMap<FrameClass, Vec<[u32; 4]>> = BTreeMap::new();
        for (line, y) in self.grid.lines().zip(lines.tops()) {
            match line {
                Line::Gap(frames) => draw_gap(drawing, lines, y, frames),
                Line::Row(row) => {
                    drawing.rect(MAP_X, y + lines.cell_height, MAP_WIDTH, 1, Colour::LINE);
                    for (class, rect) in self.cells_of(&row, y, lines) {
                        by_class.entry(class).or_default().push(rect);
                    }
                }
            }
        }
        for (class, rects) in by_class {
            for [x, y, width, height] in rects {
                drawing.rect(x, y, width, height, Colour::of(class));
            }
        }
    }

    /// The cells of a row at `y` as rectangles. Adjacent cells with the same shares are merged.
    fn cells_of(&self, row: &Row<'_>, y: u32, lines: Lines) -> Vec<(FrameClass, [u32; 4])> {
        let mut rects: Vec<(FrameClass, [u32; 4])> = Vec::new();
        // The rectangles of the previous cell, which an equal cell widens.
        let mut previous = 0..0;
        for (cell, x) in row.cells.iter().zip((MAP_X..).step_by(lines.cell_width as usize)) {
            let mut bottom = y + lines.cell_height;
            let stack: Vec<(FrameClass, u32, u32)> =
                shares(cell, self.grid.cell_frames(), lines.cell_height, lines.cell_height / 3)
                    .into_iter()
                    .map(|(class, height)| {
                        bottom -= height;
                        (class, bottom, height)
                    })
                    .collect();
            let same = rects[previous.clone()]
                .iter()
                .map(|(class, [_, y, _, height])| (*class, *y, *height))
                .eq(stack.iter().copied());
            if same {
                for (_, [_, _, width, _]) in &mut rects[previous.clone()] {
                    *width += lines.cell_width;
                }
            } else {
                previous = rects.len()..rects.len() + stack.len();
                rects.extend(
                    stack.into_iter().map(|(class, y, height)| (class, [x, y, lines.cell_width, height])),
                );
            }
        }
        rects
    }

    fn draw_addresses(&self, drawing: &mut Drawing, lines: Lines) {
        let mut after_gap = true;
        for (line, y) in self.grid.lines().zip(lines.tops()) {
            let Line::Row(row) = line else {
                after_gap = true;
                continue;
            };
            let start = row.frames.start;
            let number = start.as_u64() / self.grid.row_frames();
            if std::mem::take(&mut after_gap) || number.is_multiple_of(LABEL_EVERY) {
                let hex = format!("{:#x}", start.addr());
                drawing.text(
                    (HUMAN_END, lines.text_y(y)),
                    Anchor::End,
                    Style::Plain,
                    Colour::INK,
                    &address(start),
                );
                drawing.text((HEX_END, lines.text_y(y)), Anchor::End, Style::Plain, Colour::MUTED, &hex);
                drawing.rect(MAP_X - 8, y + lines.cell_height, 8, 1, Colour::LINE);
            }
        }
    }

    /// Draws a stepped border at the start of each node, and the names of the nodes that start in a row.
    fn draw_nodes(&self, drawing: &mut Drawing, lines: Lines) {
        for (line, y) in self.grid.lines().zip(lines.tops()) {
            let Line::Row(row) = line else { continue };
            let starting = self.nodes_starting_in(row.frames);
            for node in &starting {
                let start = self.nodes[*node].1.start;
                let column = start.frames_since(row.frames.start) / self.grid.cell_frames();
                let x = MAP_X + lines.cell_width * (column as u32).min(self.grid.columns() as u32);
                if *node == 0 {
                    continue;
                }
                if x == MAP_X {
                    drawing.rect(MAP_X - 8, y - 2, MAP_WIDTH + 16, 2, Colour::INK);
                } else {
                    drawing.rect(x, y - 2, MAP_END - x + 8, 2, Colour::INK);
                    drawing.rect(x - 1, y - 2, 2, lines.pitch() + 1, Colour::INK);
                    drawing.rect(MAP_X - 8, y + lines.cell_height + 1, x - MAP_X + 8, 2, Colour::INK);
                }
            }
            if let Some(name) = self.node_names(&starting) {
                drawing.text((MAP_END + 12, lines.text_y(y)), Anchor::Start, Style::Bold, Colour::INK, &name);
            }
        }
    }

    /// Draws the legend and returns its lower edge.
    fn draw_legend(&self, drawing: &mut Drawing, y: u32) -> u32 {
        let cell = self.grid.cell_frames();
        let scale = format!(
            "A row is {}. A cell is {} ({}), filled from the bottom by the share of each class.",
            address(Pfn::new(self.grid.row_frames())),
            address(Pfn::new(cell)),
            if cell == 1 { "1 page".to_owned() } else { format!("{} pages", grouped(cell)) },
        );
        drawing.text((MAP_X, y), Anchor::Start, Style::Plain, Colour::MUTED, &scale);
        let entries = self.legend();
        let half = entries.len().div_ceil(2);
        let top = y + 32;
        for (index, entry) in entries.iter().enumerate() {
            let x = MAP_X + if index < half { 0 } else { MAP_WIDTH / 2 + 8 };
            let y = top + LEGEND_LINE * (index % half) as u32;
            if entry.class == FrameClass::Hole {
                drawing.rect(x, y, 16, 16, Colour::LINE);
                drawing.rect(x + 1, y + 1, 14, 14, Colour::of(entry.class));
            } else {
                drawing.rect(x, y, 16, 16, Colour::of(entry.class));
            }
            let mut column = |x: u32, anchor, fill, text: &str| {
                drawing.text((x, y), anchor, Style::Plain, fill, text);
            };
            column(x + 26, Anchor::Start, Colour::INK, entry.class.title());
            column(x + 304, Anchor::End, Colour::INK, &format!("{} pages", grouped(entry.frames)));
            column(x + 380, Anchor::End, Colour::INK, &entry.size);
            column(x + 436, Anchor::End, Colour::INK, &entry.percent);
        }
        let mut end = top + LEGEND_LINE * half as u32 + 10;
        for note in self.notes() {
            drawing.text((MAP_X, end), Anchor::Start, Style::Plain, Colour::MUTED, &note);
            end += Style::Plain.line_height() + 2;
        }
        end
    }
}

fn draw_gap(drawing: &mut Drawing, lines: Lines, y: u32, frames: PfnRange) {
    drawing.rect(MAP_X, y, MAP_WIDTH, lines.cell_height, Colour::GAP);
    for x in (MAP_X..MAP_END).step_by(14) {
        drawing.rect(x, y, 7, 1, Colour::LINE);
        drawing.rect(x + 7, y + lines.cell_height - 1, 7, 1, Colour::LINE);
    }
    let text = gap_text(frames);
    let width = Style::Plain.text_width(&text) + 16;
    drawing.rect(MAP_X + (MAP_WIDTH - width) / 2, y, width, lines.cell_height, Colour::GAP);
    drawing.text(
        (MAP_X + MAP_WIDTH / 2, lines.text_y(y)),
        Anchor::Middle,
        Style::Plain,
        Colour::MUTED,
        &text,
    );
}

/// Divides `height` pixels, which represent `total` frames, among the classes of `counts`, from the bottom up. The sum
/// is at most `height`, and less if there is a hole. A class that [must be shown](FrameClass::is_alarm) has at least
/// `alarm_height` pixels; the other classes share the rest.
fn shares(counts: &ClassCounts, total: u64, height: u32, alarm_height: u32) -> Vec<(FrameClass, u32)> {
    let exact = |frames: u64, of: u64, height: u32| {
        (frames as f64 / of.max(1) as f64 * f64::from(height)).round() as u32
    };
    let alarms: Vec<(FrameClass, u32)> = counts
        .present()
        .filter(|(class, _)| class.is_alarm())
        .map(|(class, frames)| (class, exact(frames, total, height).max(alarm_height)))
        .collect();
    let rest = height.saturating_sub(alarms.iter().map(|(_, height)| height).sum());
    let others = || counts.present().filter(|(class, _)| *class != FrameClass::Hole && !class.is_alarm());
    let rest_total =
        total.saturating_sub(counts.existing() - others().map(|(_, frames)| frames).sum::<u64>());
    let mut shares = alarms;
    let (mut frames_below, mut top) = (0, 0);
    for (class, frames) in others() {
        // Rounds the end of each class, not its height, so that rounding errors do not accumulate.
        frames_below += frames;
        let end = exact(frames_below, rest_total, rest).min(rest);
        shares.push((class, end - top));
        top = end;
    }
    shares.retain(|(_, height)| *height > 0);
    shares.sort_by_key(|(class, _)| *class);
    shares
}

/// The text for a gap between rows.
pub(super) fn gap_text(frames: PfnRange) -> String {
    let size = address(Pfn::new(frames.len()));
    format!("no memory, or reserved: {size} from {} to {}", address(frames.start), address(frames.end))
}

/// Formats a number in groups of three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| str::from_utf8(g).ok()).collect();
    groups.join(" ")
}

/// Formats the address of `pfn`, or the size of as many frames, in the largest unit up to GiB, with at most three
/// decimals.
pub(super) fn address(pfn: Pfn) -> String {
    let bytes = pfn.as_u64() as f64 * PAGE_SIZE as f64;
    let (unit, name) = match pfn.as_u64() {
        0 => return "0".to_owned(),
        1..0x100 => (1024.0, "KiB"),
        0x100..0x4_0000 => (1024.0 * 1024.0, "MiB"),
        _ => (1024.0 * 1024.0 * 1024.0, "GiB"),
    };
    let number = format!("{:.3}", bytes / unit);
    format!("{} {name}", number.trim_end_matches('0').trim_end_matches('.'))
}
