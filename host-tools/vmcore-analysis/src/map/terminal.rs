//! Prints the picture in a terminal: one character for each cell.

use super::MemoryMap;
use super::classes::{ClassCounts, FrameClass};
use super::grid::Line;
use super::model::Colour;
use super::sheet::{address, gap_text, grouped};
use scanner_core::Pfn;
use std::fmt::{self, Write};

/// The representation of cells in a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A letter for the largest class of a cell.
    Letters,
    /// Blocks in two of 256 colours, for the two largest classes of a cell.
    Colours256,
    /// Blocks in two 24-bit colours, for the two largest classes of a cell.
    TrueColour,
}

impl Look {
    /// The best representation for standard output: letters if it is not a terminal or if `NO_COLOR` is set, else the
    /// colours that `COLORTERM` announces.
    pub fn for_stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let depth = std::env::var("COLORTERM").unwrap_or_default();
        match () {
            () if !std::io::IsTerminal::is_terminal(&std::io::stdout()) || set("NO_COLOR") => Self::Letters,
            () if depth == "truecolor" || depth == "24bit" => Self::TrueColour,
            () => Self::Colours256,
        }
    }
}

/// Characters before the cells, for the address, and after them, for the node.
const SIDES: usize = 11 + 9;
/// The most rows and gaps, so that the legend also fits on a screen.
pub(super) const MAX_LINES: usize = 24;

/// The number of cells in a row for this terminal: a power of two.
pub fn terminal_columns() -> usize {
    let width = terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0));
    let room = width.saturating_sub(SIDES).clamp(16, 256);
    1 << room.ilog2()
}

impl MemoryMap {
    /// The columns and the most lines of a grid for this terminal.
    pub fn terminal_shape() -> (usize, usize) {
        (terminal_columns(), MAX_LINES)
    }

    /// Formats the picture as lines of text.
    pub fn to_terminal(&self, look: Look) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_terminal(look, &mut text);
        text
    }

    fn write_terminal(&self, look: Look, text: &mut String) -> fmt::Result {
        writeln!(text, "{}\n{}\n", self.title(), self.subtitle())?;
        for line in self.grid.lines() {
            match line {
                Line::Gap(frames) => writeln!(text, "{:>10} ~~~ {} ~~~", "", gap_text(frames))?,
                Line::Row(row) => {
                    write!(text, "{:>10} ", address(row.frames.start))?;
                    let mut paint = String::new();
                    for cell in row.cells {
                        let (mark, colours) = self.mark_of(look, cell);
                        // Adjacent cells often have the same colours.
                        if paint != colours {
                            text.push_str(&colours);
                            paint = colours;
                        }
                        text.push(mark);
                    }
                    if look != Look::Letters {
                        text.push_str("\x1b[0m");
                    }
                    let starting =
                        if self.nodes.len() > 1 { self.nodes_starting_in(row.frames) } else { Vec::new() };
                    if let Some(name) = self.node_names(&starting) {
                        write!(text, " {name}")?;
                    }
                    text.truncate(text.trim_end_matches(' ').len());
                    text.push('\n');
                }
            }
        }
        writeln!(text, "\nA character is {}.", address(Pfn::new(self.grid.cell_frames())))?;
        for entry in self.legend() {
            let mark = match look {
                Look::Letters => format!("'{}'", letter(entry.class)),
                _ => format!(
                    "{}  \x1b[0m",
                    Paint { look, colour: Colour::of(entry.class), is_background: true }
                ),
            };
            writeln!(
                text,
                "  {mark} {:<21}{:>14} pages {:>10} {:>7}",
                entry.class.title(),
                grouped(entry.frames),
                entry.size,
                entry.percent
            )?;
        }
        for note in self.notes() {
            writeln!(text, "{note}")?;
        }
        Ok(())
    }

    /// The character for `cell`, and the escape sequence that sets its colours.
    fn mark_of(&self, look: Look, cell: &ClassCounts) -> (char, String) {
        let mut shares: Vec<(FrameClass, u64)> = cell.present().collect();
        let missing = self.grid.cell_frames().saturating_sub(cell.total());
        if missing > 0 && cell.get(FrameClass::Hole) == 0 {
            shares.push((FrameClass::Hole, missing));
        }
        shares.sort_by_key(|(class, frames)| (!class.is_alarm(), std::cmp::Reverse(*frames)));
        let Some(&first) = shares.first() else { return (' ', String::new()) };
        if look == Look::Letters {
            return (letter(first.0), String::new());
        }
        // The two largest classes, in the order of the cell from the bottom up.
        let mut largest = [first, shares.get(1).copied().unwrap_or((first.0, 0))];
        largest.sort_by_key(|(class, _)| *class);
        let [(below, frames), (above, rest)] = largest;
        let eighths = (frames as f64 * 8.0 / (frames + rest) as f64).round() as usize;
        let eighths = if below.is_alarm() { eighths.max(3) } else { eighths };
        let block = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][eighths.min(8)];
        let paint = |class, is_background| Paint { look, colour: Colour::of(class), is_background };
        match (below, above) {
            // A hole has the terminal's own background.
            (FrameClass::Hole, _) => (' ', "\x1b[0m".to_owned()),
            (_, FrameClass::Hole) => (block, format!("\x1b[0m{}", paint(below, false))),
            _ => (block, format!("{}{}", paint(above, true), paint(below, false))),
        }
    }
}

fn letter(class: FrameClass) -> char {
    match class {
        FrameClass::Hwpoison => '!',
        FrameClass::Kept => '#',
        FrameClass::Unreadable => '?',
        FrameClass::NoData => '-',
        FrameClass::User => 'u',
        FrameClass::CachePrivate => 'p',
        FrameClass::Cache => 'c',
        FrameClass::Offline => 'o',
        FrameClass::Unaccepted => 'a',
        FrameClass::Free => '.',
        FrameClass::Hole => ' ',
    }
}

/// The escape sequence that sets the foreground or the background colour.
struct Paint {
    look: Look,
    colour: Colour,
    is_background: bool,
}

impl fmt::Display for Paint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Colour(red, green, blue) = self.colour;
        let select = if self.is_background { 48 } else { 38 };
        match self.look {
            Look::Letters => Ok(()),
            Look::TrueColour => write!(f, "\x1b[{select};2;{red};{green};{blue}m"),
            Look::Colours256 => write!(f, "\x1b[{select};5;{}m", nearest_of_256(self.colour)),
        }
    }
}

/// The number of the nearest colour in the 6x6x6 cube, which starts at number 16 of the 256 colours.
fn nearest_of_256(Colour(red, green, blue): Colour) -> u32 {
    // The cube's levels are 0, 95, 135, 175, 215, 255.
    let level = |value: u8| if value < 48 { 0 } else { (u32::from(value).max(75) - 35) / 40 };
    16 + 36 * level(red) + 6 * level(green) + level(blue)
}
