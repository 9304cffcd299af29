//! `chart [GROUP ...] < TABLE > CHART.svg`: the ratios of the table that `tests/benchmarks/all` prints, as bars.
//!
//! A GROUP is what rows start with, up to the first comma; those rows become bars beneath its name. The length is the
//! ratio's logarithm, from the line of 1, where the other side is.

use cdbitmap::{Error, Result};
use clap::Parser;
use std::fmt::{self, Write};
use std::io::Read;
use std::process::ExitCode;

/// Draws the ratios of a table of tests/benchmarks/all, read from standard input, as an SVG picture.
#[derive(Debug, Parser)]
struct Arguments {
    /// What the rows to be drawn start with, up to their first comma
    #[arg(default_values = ["scan of a file", "dump"])]
    groups: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(svg) => {
            print!("{svg}");
            ExitCode::SUCCESS
        }
        Err(error) => error.end("chart"),
    }
}

fn run(asked: &Arguments) -> Result<String> {
    let mut table = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut table);
    read.map_err(|e| Error::unusable("the table can't be read").because(e))?;
    let groups: Vec<Group> = asked.groups.iter().map(|name| Group::of(name, &table)).collect();
    let groups: Vec<Group> = groups.into_iter().filter(|group| !group.bars.is_empty()).collect();
    if groups.is_empty() {
        return Err(Error::unusable("the table has no such rows with a ratio")
            .hint("Give the output of tests/benchmarks/all on standard input."));
    }
    let mut svg = String::new();
    // Writing to a string doesn't fail.
    let _ = draw(&groups, &mut svg);
    Ok(svg)
}

/// Rows that start alike.
#[derive(Debug, PartialEq)]
struct Group {
    name: String,
    bars: Vec<Bar>,
}

/// A row: what is measured, and how many times faster than the other side it is.
#[derive(Debug, PartialEq)]
struct Bar {
    label: String,
    ratio: f64,
}

impl Group {
    /// The rows of `table` that belong to the group `name`.
    fn of(name: &str, table: &str) -> Self {
        let bars = table.lines().filter_map(|line| {
            // What is indented belongs to the row before, and has another other side.
            let mut cells = line.strip_prefix("| ")?.split('|');
            let (what, ratio) = (cells.next()?, cells.nth(2)?);
            let (group, label) = what.split_once(", ")?;
            let ratio = ratio.trim().parse().ok().filter(|ratio| *ratio > 0.0)?;
            (group == name).then(|| Bar { label: label.trim().to_owned(), ratio })
        });
        Self { name: name.to_owned(), bars: bars.collect() }
    }
}

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 24.0;
/// Where bars can be, from the left.
const BARS: (f64, f64) = (230.0, 790.0);
const TITLE_HEIGHT: f64 = 58.0;
const HEAD_HEIGHT: f64 = 34.0;
const ROW_HEIGHT: f64 = 24.0;
const BAR_HEIGHT: f64 = 16.0;
const AXIS_HEIGHT: f64 = 44.0;

/// Where a ratio is on the axis, which starts at a half and ends at `end`.
fn place(ratio: f64, end: f64) -> f64 {
    let (first, last) = BARS;
    let share = (ratio.max(0.5) / 0.5).ln() / (end / 0.5).ln();
    first + share * (last - first)
}

/// The power of two that the axis ends at.
fn axis_end(groups: &[Group]) -> f64 {
    let most = groups.iter().flat_map(|group| &group.bars).map(|bar| bar.ratio).fold(2.0, f64::max);
    std::iter::successors(Some(2.0), |end| Some(end * 2.0)).find(|end| *end >= most).unwrap_or(most)
}

fn draw(groups: &[Group], svg: &mut String) -> fmt::Result {
    let rows: f64 = groups.iter().map(|group| HEAD_HEIGHT + ROW_HEIGHT * group.bars.len() as f64).sum();
    let bottom = TITLE_HEIGHT + rows;
    let height = bottom + AXIS_HEIGHT;
    let end = axis_end(groups);
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" font-family="system-ui, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif" font-size="14">
<title>How many times faster than makedumpfile cdbitmap is</title>
<style>
.paper {{ fill: #ffffff }} .ink {{ fill: #1f2328 }} .faint {{ fill: #59636e }} .bar {{ fill: #2f6f9f }} .short {{ fill: #b35900 }}
.grid {{ stroke: #d1d9e0 }} .one {{ stroke: #1f2328; stroke-width: 2 }}
.value {{ stroke: #ffffff; stroke-width: 5; paint-order: stroke }}
@media (prefers-color-scheme: dark) {{
.paper {{ fill: #0d1117 }} .ink {{ fill: #f0f6fc }} .faint {{ fill: #9198a1 }} .bar {{ fill: #58a6d6 }} .short {{ fill: #e69138 }}
.grid {{ stroke: #3d444d }} .one {{ stroke: #f0f6fc }} .value {{ stroke: #0d1117 }}
}}
</style>
<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>
<text class="ink" x="{MARGIN}" y="32" font-size="17" font-weight="bold">How many times faster than makedumpfile</text>"##
    )?;
    for ratio in std::iter::successors(Some(0.5), |ratio| Some(ratio * 2.0)).take_while(|ratio| *ratio <= end)
    {
        let (x, class) = (place(ratio, end), if ratio == 1.0 { "one" } else { "grid" });
        writeln!(
            svg,
            r#"<line class="{class}" x1="{x:.1}" y1="{TITLE_HEIGHT}" x2="{x:.1}" y2="{bottom:.1}"/>"#
        )?;
        writeln!(
            svg,
            r#"<text class="faint" x="{x:.1}" y="{:.1}" text-anchor="middle">{ratio}</text>"#,
            bottom + 18.0
        )?;
    }
    writeln!(
        svg,
        r#"<text class="ink" x="{:.1}" y="{:.1}" text-anchor="middle" font-weight="bold">makedumpfile</text>"#,
        place(1.0, end),
        bottom + 35.0
    )?;
    let mut y = TITLE_HEIGHT;
    for group in groups {
        let name = escaped(&group.name);
        writeln!(
            svg,
            r#"<text class="ink" x="{MARGIN}" y="{:.1}" font-weight="bold">{name}</text>"#,
            y + 22.0
        )?;
        y += HEAD_HEIGHT;
        for bar in &group.bars {
            bar.draw(y, end, svg)?;
            y += ROW_HEIGHT;
        }
    }
    writeln!(svg, "</svg>")
}

impl Bar {
    fn draw(&self, y: f64, end: f64, svg: &mut String) -> fmt::Result {
        let (one, tip) = (place(1.0, end), place(self.ratio, end));
        let (from, to, class) = if tip < one { (tip, one, "short") } else { (one, tip, "bar") };
        let baseline = y + BAR_HEIGHT - 3.0;
        let label = escaped(&self.label);
        writeln!(svg, r#"<text class="ink" x="{MARGIN}" y="{baseline:.1}">{label}</text>"#)?;
        writeln!(
            svg,
            r#"<rect class="{class}" x="{from:.1}" y="{y:.1}" width="{:.1}" height="{BAR_HEIGHT}"/>"#,
            to - from
        )?;
        writeln!(
            svg,
            r#"<text class="ink value" x="{:.1}" y="{baseline:.1}" font-weight="bold">{}×</text>"#,
            to + 8.0,
            self.ratio
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

| what                          | ours     | against | ratio | limit |
| ---                           | ---      | ---     | ---   | --- |
| core scan, 512 GiB, busy      | 1.0 s    | 0.8 s   | 0.80  | memory |
| scan of a file, 64 GiB, busy  | 0.1000 s | 1.0 s   | 10.0  | memory |
|   with two threads, against 1 | 0.0500 s | 0.1 s   | 2.00  | memory |
| scan of a file, 1024 GiB, busy | -       | -       | -     | left out |
| dump, a < b                   | 1.0 s    | 0.5 s   | 0.50  | codec |
";

    #[test]
    fn takes_the_rows_of_its_groups() {
        let bar = |label: &str, ratio| Bar { label: label.into(), ratio };
        assert_eq!(Group::of("scan of a file", TABLE).bars, [bar("64 GiB, busy", 10.0)]);
        assert_eq!(Group::of("dump", TABLE).bars, [bar("a < b", 0.5)]);
        assert_eq!(Group::of("what", TABLE).bars, []);
    }

    #[test]
    fn bars_start_at_the_other_side() {
        let groups = [Group::of("scan of a file", TABLE), Group::of("dump", TABLE)];
        assert_eq!(axis_end(&groups), 16.0);
        assert_eq!((place(0.5, 16.0), place(16.0, 16.0)), BARS);
        let mut svg = String::new();
        draw(&groups, &mut svg).unwrap();
        let one = format!(r#"<rect class="bar" x="{:.1}""#, place(1.0, 16.0));
        assert!(svg.contains(&one) && svg.contains(r#"<rect class="short" x="230.0""#), "{svg}");
        assert!(svg.contains("a &lt; b"));
    }
}
