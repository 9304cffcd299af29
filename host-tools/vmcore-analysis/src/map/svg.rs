//! Encodes a drawing as SVG. Texts stay text.

use super::model::{Anchor, Colour, Drawing, Rect, Shape, Style, Text};
use std::fmt::{self, Write};

/// Encodes `drawing` as the contents of an SVG file.
pub fn to_svg(drawing: &Drawing) -> String {
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = write_svg(drawing, &mut svg);
    svg
}

fn write_svg(drawing: &Drawing, svg: &mut String) -> fmt::Result {
    let Drawing { width, height, .. } = drawing;
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" font-family="'Noto Sans Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="12">"#
    )?;
    writeln!(svg, "<title>{}</title>", escaped(&drawing.description))?;
    writeln!(svg, r#"<rect width="{width}" height="{height}" fill="{}"/>"#, Hex(Colour::PAPER))?;
    let mut shapes = drawing.shapes.as_slice();
    while let Some((first, rest)) = shapes.split_first() {
        match first {
            Shape::Text(text) => {
                write_text(text, svg)?;
                shapes = rest;
            }
            Shape::Rect(first) => {
                // Consecutive rectangles of one colour are one path, which reduces the file to a fifth.
                let same = |shape: &&Shape| matches!(shape, Shape::Rect(rect) if rect.fill == first.fill);
                let (path, rest) = shapes.split_at(shapes.iter().take_while(same).count());
                write!(svg, r#"<path shape-rendering="crispEdges" fill="{}" d=""#, Hex(first.fill))?;
                for shape in path {
                    if let Shape::Rect(Rect { x, y, width, height, .. }) = shape {
                        write!(svg, "M{x} {y}h{width}v{height}h-{width}z")?;
                    }
                }
                writeln!(svg, r#""/>"#)?;
                shapes = rest;
            }
        }
    }
    writeln!(svg, "</svg>")
}

fn write_text(text: &Text, svg: &mut String) -> fmt::Result {
    let (baseline, style) = match text.style {
        Style::Plain => (12, ""),
        Style::Bold => (12, r#" font-weight="bold""#),
        Style::Title => (15, r#" font-weight="bold" font-size="15""#),
    };
    let anchor = match text.anchor {
        Anchor::Start => "",
        Anchor::Middle => r#" text-anchor="middle""#,
        Anchor::End => r#" text-anchor="end""#,
    };
    writeln!(
        svg,
        r#"<text x="{}" y="{}"{anchor}{style} fill="{}" xml:space="preserve">{}</text>"#,
        text.x,
        text.y + baseline,
        Hex(text.fill),
        escaped(&text.text)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

struct Hex(Colour);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Colour(red, green, blue) = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}
