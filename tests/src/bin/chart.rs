//! `chart < TABLE > CHART.svg`: what the table that `tests/benchmarks/all` prints has reached of what was asked for, as bars.
//!
//! A bar's length is its row's ratio over the one asked for, so that one line across the chart says for all of them which
//! ones reach it. Rows of which nothing was asked, or not to be more than something, have no bar.

use clap::Parser;
use std::fmt::{self, Write};
use std::io::Read;
use std::process::ExitCode;
use vmcore::{Error, Result};

/// Draws the ratios of a table of tests/benchmarks/all, read from standard input, as an SVG picture.
#[derive(Debug, Parser)]
struct Arguments {}

fn main() -> ExitCode {
    let _ = Arguments::parse();
    match run() {
        Ok(svg) => {
            print!("{svg}");
            ExitCode::SUCCESS
        }
        Err(error) => cross_tests::failed("chart", &error),
    }
}

fn run() -> Result<String> {
    let mut table = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut table);
    read.map_err(|e| Error::unusable("the table can't be read").because(e))?;
    let rows = Row::all(&table);
    let groups: Vec<Group<'_>> = GROUPS.iter().map(|kind| Group::of(kind, &rows)).collect();
    let groups: Vec<Group<'_>> = groups.into_iter().filter(|group| !group.bars.is_empty()).collect();
    if groups.is_empty() {
        return Err(Error::unusable("the table has no rows with a ratio and one that was asked for")
            .with_hint("Give the output of tests/benchmarks/all on standard input."));
    }
    let mut svg = String::new();
    // Writing to a string doesn't fail.
    let _ = draw(&groups, &mut svg);
    Ok(svg)
}

/// Rows of the table that are compared in the same way.
struct Kind {
    title: &'static str,
    /// What the ratio is.
    ratio: &'static str,
    /// What rows start with, up to the first comma.
    of: &'static str,
    /// What indented rows below them start with, if it is those.
    below: Option<&'static str>,
}

const GROUPS: [Kind; 7] = [
    Kind {
        title: "Scan of a vmcore",
        ratio: "makedumpfile's time over ours",
        of: "scan of a file",
        below: None,
    },
    Kind {
        title: "Scan by two threads",
        ratio: "one thread's time over two's",
        of: "scan of a file",
        below: Some("with two threads"),
    },
    Kind { title: "Dump", ratio: "makedumpfile's time over ours", of: "dump", below: None },
    Kind {
        title: "Dump by two threads",
        ratio: "one thread's time over two's",
        of: "dump",
        below: Some("two threads, against our one"),
    },
    Kind {
        title: "The scanner's core",
        ratio: "the time of reading alone over the scan's",
        of: "core scan",
        below: None,
    },
    Kind {
        title: "Free memory in the scanner's core",
        ratio: "the time of a busy machine's page over that of a free one",
        of: "core scan",
        below: Some("free memory in order-10 blocks"),
    },
    Kind {
        title: "Reading old memory",
        ratio: "our speed over the best way's",
        of: "old memory",
        below: None,
    },
];

/// A row of which a ratio was asked.
#[derive(Clone, Debug, PartialEq)]
struct Row<'t> {
    /// What it starts with, up to the first comma, and the rest, without remarks; of an indented one those of the row
    /// that it is below.
    of: &'t str,
    label: &'t str,
    below: Option<&'t str>,
    ratio: f64,
    /// As it stands in the table.
    shown: &'t str,
    /// The least that was asked for.
    asked: f64,
}

impl<'t> Row<'t> {
    fn all(table: &'t str) -> Vec<Self> {
        let mut parent = None;
        let row = |line: &'t str| {
            let mut cells = line.strip_prefix("| ")?.split('|');
            let (what, ratio, asked) = (cells.next()?, cells.nth(2)?, cells.next()?);
            let below = what.strip_prefix("  ").map(str::trim);
            if below.is_none() {
                parent = what.split_once(", ");
            }
            let (of, label) = parent?;
            let label = label.split(" (").next().unwrap_or(label).trim().trim_end_matches(", one thread");
            let asked = asked.trim().strip_prefix(">= ")?.parse().ok().filter(|asked| *asked > 0.0)?;
            let shown = ratio.trim();
            let ratio = shown.parse().ok().filter(|ratio| *ratio > 0.0)?;
            Some(Row { of, label, below, ratio, shown, asked })
        };
        table.lines().filter_map(row).collect()
    }
}

/// The bars of a kind.
struct Group<'t> {
    kind: &'t Kind,
    bars: Vec<Row<'t>>,
}

impl<'t> Group<'t> {
    fn of(kind: &'t Kind, rows: &[Row<'t>]) -> Self {
        let belongs = |row: &&Row<'_>| {
            let below = match (kind.below, row.below) {
                (Some(start), Some(below)) => below.starts_with(start),
                (kind, row) => kind.is_none() && row.is_none(),
            };
            row.of == kind.of && below
        };
        Self { kind, bars: rows.iter().filter(belongs).cloned().collect() }
    }
}

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 24.0;
/// Where bars can be, from the left, and what the axis ends at: what was asked for is in the middle.
const BARS: (f64, f64) = (230.0, 730.0);
const AXIS_END: f64 = 2.0;
const TITLE_HEIGHT: f64 = 78.0;
const HEAD_HEIGHT: f64 = 32.0;
const ROW_HEIGHT: f64 = 20.0;
const BAR_HEIGHT: f64 = 14.0;
const BOTTOM: f64 = 18.0;

/// Where a share of what was asked for is on the axis.
fn place(share: f64) -> f64 {
    BARS.0 + share.min(AXIS_END) / AXIS_END * (BARS.1 - BARS.0)
}

fn draw(groups: &[Group<'_>], svg: &mut String) -> fmt::Result {
    let rows: f64 = groups.iter().map(|group| HEAD_HEIGHT + ROW_HEIGHT * group.bars.len() as f64).sum();
    let bottom = TITLE_HEIGHT + rows;
    let height = bottom + BOTTOM;
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" font-family="system-ui, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif" font-size="13">
<title>What was reached of what was asked for</title>
<style>
.paper {{ fill: #ffffff }} .ink {{ fill: #1f2328 }} .faint {{ fill: #59636e }} .bar {{ fill: #2f6f9f }} .short {{ fill: #b35900 }}
.asked {{ stroke: #1f2328; stroke-width: 2 }} .value {{ stroke: #ffffff; stroke-width: 4; paint-order: stroke }}
@media (prefers-color-scheme: dark) {{
.paper {{ fill: #0d1117 }} .ink {{ fill: #f0f6fc }} .faint {{ fill: #9198a1 }} .bar {{ fill: #58a6d6 }} .short {{ fill: #e69138 }}
.asked {{ stroke: #f0f6fc }} .value {{ stroke: #0d1117 }}
}}
</style>
<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>
<text class="ink" x="{MARGIN}" y="30" font-size="17" font-weight="bold">What was reached of what was asked for</text>
<text class="faint" x="{MARGIN}" y="50">Bars are ratios, drawn as shares of the ratio asked for; more than twice that is cut off.</text>"##
    )?;
    let mut y = TITLE_HEIGHT;
    for group in groups {
        let (title, ratio) = (escaped(group.kind.title), escaped(group.kind.ratio));
        writeln!(
            svg,
            r#"<text class="ink" x="{MARGIN}" y="{:.1}"><tspan font-weight="bold">{title}</tspan><tspan class="faint">: {ratio}</tspan></text>"#,
            y + 22.0
        )?;
        y += HEAD_HEIGHT;
        for bar in &group.bars {
            bar.draw(y, svg)?;
            y += ROW_HEIGHT;
        }
    }
    let x = place(1.0);
    writeln!(
        svg,
        r#"<text class="ink" x="{x:.1}" y="{:.1}" text-anchor="middle" font-weight="bold">asked for</text>"#,
        TITLE_HEIGHT - 8.0
    )?;
    y = TITLE_HEIGHT;
    // Over the bars, and not through the heads.
    for group in groups {
        y += HEAD_HEIGHT;
        let end = y + ROW_HEIGHT * group.bars.len() as f64 - (ROW_HEIGHT - BAR_HEIGHT) + 3.0;
        writeln!(svg, r#"<line class="asked" x1="{x:.1}" y1="{:.1}" x2="{x:.1}" y2="{end:.1}"/>"#, y - 3.0)?;
        y += ROW_HEIGHT * group.bars.len() as f64;
    }
    writeln!(svg, "</svg>")
}

impl Row<'_> {
    fn draw(&self, y: f64, svg: &mut String) -> fmt::Result {
        let share = self.ratio / self.asked;
        let (tip, class) = (place(share), if share < 1.0 { "short" } else { "bar" });
        let baseline = y + BAR_HEIGHT - 3.0;
        writeln!(svg, r#"<text class="ink" x="{MARGIN}" y="{baseline:.1}">{}</text>"#, escaped(self.label))?;
        writeln!(
            svg,
            r#"<rect class="{class}" x="{:.1}" y="{y:.1}" width="{:.1}" height="{BAR_HEIGHT}"/>"#,
            BARS.0,
            tip - BARS.0
        )?;
        let cut = if share > AXIS_END { "… " } else { "" };
        writeln!(
            svg,
            r#"<text class="value" x="{:.1}" y="{baseline:.1}"><tspan class="ink" font-weight="bold">{cut}{}</tspan><tspan class="faint" dx="4">of {}</tspan></text>"#,
            tip.max(place(1.0)) + 7.0,
            self.shown,
            self.asked
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
cdbitmap 0.1.0, 2 CPUs

| what                          | ours     | against | ratio | asked  | limit |
| ---                           | ---      | ---     | ---   | ---    | --- |
| core scan, a < b (4 ns a page) | 1.0 s    | 0.8 s   | 0.80  | >= 0.9 | memory |
|   its free memory alone       | 0.1 s    | 0.8 s   | 8.00  | -      | memory |
|   free memory in order-10 blocks, a page, against busy | 0.05 ns | 3.5 ns | 70.0 | >= 50 | memory |
| scan of a file, 64 GiB, busy  | 0.1000 s | 4.0 s   | 40.0  | >= 10  | memory |
|   with two threads, against 1 | 0.0500 s | 0.1 s   | 2.00  | >= 1.8 | memory |
|   for each GiB                | 0.0500 s | 0.1 s   | 0.90  | <= 1   | memory |
| scan of a file, 1024 GiB, busy | -       | -       | -     | >= 10  | left out |
| dump, zlib, one thread        | 1.0 s    | 2.0 s   | 2.00  | >= 2   | codec |
| dump, bytes                   | 1.0 s    | 0.5 s   | 0.50  | -      | codec |
";

    fn bars<'t>(group: usize, rows: &[Row<'t>]) -> Vec<(&'t str, f64, f64)> {
        let kind: &'static Kind = &GROUPS[group];
        Group::of(kind, rows).bars.iter().map(|row| (row.label, row.ratio, row.asked)).collect()
    }

    #[test]
    fn takes_the_rows_of_which_something_was_asked() {
        let rows = Row::all(TABLE);
        assert_eq!(bars(0, &rows), [("64 GiB, busy", 40.0, 10.0)]);
        assert_eq!(bars(1, &rows), [("64 GiB, busy", 2.0, 1.8)]);
        assert_eq!(bars(2, &rows), [("zlib", 2.0, 2.0)]);
        assert_eq!(bars(3, &rows), []);
        assert_eq!(bars(4, &rows), [("a < b", 0.8, 0.9)]);
        assert_eq!(bars(5, &rows), [("a < b", 70.0, 50.0)]);
    }

    #[test]
    fn bars_end_where_their_share_is() {
        let rows = Row::all(TABLE);
        let groups = [Group::of(&GROUPS[0], &rows), Group::of(&GROUPS[4], &rows)];
        assert_eq!((place(0.0), place(AXIS_END), place(9.0)), (BARS.0, BARS.1, BARS.1));
        let mut svg = String::new();
        draw(&groups, &mut svg).unwrap();
        let width = |share: f64| format!(r#"width="{:.1}""#, place(share) - BARS.0);
        let has = |class: &str, width: &str| {
            svg.lines().any(|line| line.contains(&format!(r#"class="{class}""#)) && line.contains(width))
        };
        assert!(has("bar", &width(2.0)) && has("short", &width(0.8 / 0.9)), "{svg}");
        assert!(svg.contains("… 40") && svg.contains("a &lt; b"));
    }
}
