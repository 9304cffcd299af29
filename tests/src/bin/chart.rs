//! `chart < TABLE > CHART.svg`: draws the ratios in the table of `tests/benchmarks/all` as bars.
//!
//! A bar's length is the measured ratio divided by the required ratio. One vertical line marks the required ratio for
//! all bars. Rows without a required minimum have no bar.

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
    read.map_err(|e| Error::unusable("cannot read the table from standard input").because(e))?;
    let rows = Row::all(&table);
    let groups: Vec<Group<'_>> = GROUPS.iter().map(|kind| Group::of(kind, &rows)).collect();
    let groups: Vec<Group<'_>> = groups.into_iter().filter(|group| !group.bars.is_empty()).collect();
    if groups.is_empty() {
        return Err(Error::unusable("the table has no row with a measured and a required ratio")
            .with_hint("Pass the output of tests/benchmarks/all on standard input."));
    }
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = draw(&groups, &mut svg);
    Ok(svg)
}

/// A kind of rows: all are compared in the same way.
struct Kind {
    title: &'static str,
    /// The meaning of the ratio.
    ratio: &'static str,
    /// The start of a row's name, up to the first comma.
    of: &'static str,
    /// If the kind consists of indented rows below such rows: the start of their names.
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

/// A row with a required ratio.
#[derive(Clone, Debug, PartialEq)]
struct Row<'t> {
    /// The start of the name, up to the first comma. An indented row has that of its parent row.
    of: &'t str,
    /// The rest of the name, without remarks. An indented row has that of its parent row.
    label: &'t str,
    /// The name of an indented row.
    below: Option<&'t str>,
    ratio: f64,
    /// The ratio as printed in the table.
    shown: &'t str,
    /// The required minimum of the ratio.
    required: f64,
}

impl<'t> Row<'t> {
    fn all(table: &'t str) -> Vec<Self> {
        let mut parent = None;
        let row = |line: &'t str| {
            let mut cells = line.strip_prefix("| ")?.split('|');
            let (what, ratio, required) = (cells.next()?, cells.nth(2)?, cells.next()?);
            let below = what.strip_prefix("  ").map(str::trim);
            if below.is_none() {
                parent = what.split_once(", ");
            }
            let (of, label) = parent?;
            let label = label.split(" (").next().unwrap_or(label).trim().trim_end_matches(", one thread");
            let required = required.trim().strip_prefix(">= ")?.parse().ok().filter(|least| *least > 0.0)?;
            let shown = ratio.trim();
            let ratio = shown.parse().ok().filter(|ratio| *ratio > 0.0)?;
            Some(Row { of, label, below, ratio, shown, required })
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
/// Left and right end of the axis, in pixels. The required ratio is in the middle, at 1; the axis ends at `AXIS_END`.
const BARS: (f64, f64) = (230.0, 730.0);
const AXIS_END: f64 = 2.0;
const TITLE_HEIGHT: f64 = 78.0;
const HEAD_HEIGHT: f64 = 32.0;
const ROW_HEIGHT: f64 = 20.0;
const BAR_HEIGHT: f64 = 14.0;
const BOTTOM: f64 = 18.0;

/// Horizontal position of a share of the required ratio.
fn position(share: f64) -> f64 {
    BARS.0 + share.min(AXIS_END) / AXIS_END * (BARS.1 - BARS.0)
}

fn draw(groups: &[Group<'_>], svg: &mut String) -> fmt::Result {
    let rows: f64 = groups.iter().map(|group| HEAD_HEIGHT + ROW_HEIGHT * group.bars.len() as f64).sum();
    let bottom = TITLE_HEIGHT + rows;
    let height = bottom + BOTTOM;
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" font-family="system-ui, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif" font-size="13">
<title>Measured ratios, relative to the required ratios</title>
<style>
.paper {{ fill: #ffffff }} .ink {{ fill: #1f2328 }} .faint {{ fill: #59636e }} .bar {{ fill: #2f6f9f }} .short {{ fill: #b35900 }}
.required {{ stroke: #1f2328; stroke-width: 2 }} .value {{ stroke: #ffffff; stroke-width: 4; paint-order: stroke }}
@media (prefers-color-scheme: dark) {{
.paper {{ fill: #0d1117 }} .ink {{ fill: #f0f6fc }} .faint {{ fill: #9198a1 }} .bar {{ fill: #58a6d6 }} .short {{ fill: #e69138 }}
.required {{ stroke: #f0f6fc }} .value {{ stroke: #0d1117 }}
}}
</style>
<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>
<text class="ink" x="{MARGIN}" y="30" font-size="17" font-weight="bold">Measured ratios, relative to the required ratios</text>
<text class="faint" x="{MARGIN}" y="50">The length of a bar is measured ratio / required ratio, cut off at 2.</text>"##
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
    let x = position(1.0);
    writeln!(
        svg,
        r#"<text class="ink" x="{x:.1}" y="{:.1}" text-anchor="middle" font-weight="bold">required</text>"#,
        TITLE_HEIGHT - 8.0
    )?;
    y = TITLE_HEIGHT;
    // The line crosses the bars, but not the headings.
    for group in groups {
        y += HEAD_HEIGHT;
        let end = y + ROW_HEIGHT * group.bars.len() as f64 - (ROW_HEIGHT - BAR_HEIGHT) + 3.0;
        writeln!(
            svg,
            r#"<line class="required" x1="{x:.1}" y1="{:.1}" x2="{x:.1}" y2="{end:.1}"/>"#,
            y - 3.0
        )?;
        y += ROW_HEIGHT * group.bars.len() as f64;
    }
    writeln!(svg, "</svg>")
}

impl Row<'_> {
    fn draw(&self, y: f64, svg: &mut String) -> fmt::Result {
        let share = self.ratio / self.required;
        let (tip, class) = (position(share), if share < 1.0 { "short" } else { "bar" });
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
            tip.max(position(1.0)) + 7.0,
            self.shown,
            self.required
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

| what                          | ours     | against | ratio | required | limit |
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
        Group::of(kind, rows).bars.iter().map(|row| (row.label, row.ratio, row.required)).collect()
    }

    #[test]
    fn reads_only_rows_with_a_required_ratio() {
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
        assert_eq!((position(0.0), position(AXIS_END), position(9.0)), (BARS.0, BARS.1, BARS.1));
        let mut svg = String::new();
        draw(&groups, &mut svg).unwrap();
        let width = |share: f64| format!(r#"width="{:.1}""#, position(share) - BARS.0);
        let has = |class: &str, width: &str| {
            svg.lines().any(|line| line.contains(&format!(r#"class="{class}""#)) && line.contains(width))
        };
        assert!(has("bar", &width(2.0)) && has("short", &width(0.8 / 0.9)), "{svg}");
        assert!(svg.contains("… 40") && svg.contains("a &lt; b"));
    }
}
