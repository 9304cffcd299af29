//! A drawing: rectangles and lines of text on a sheet. Coordinates are in pixels from the upper left corner.

use super::classes::FrameClass;

/// A colour as red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Colour(pub u8, pub u8, pub u8);

impl Colour {
    /// The background of the sheet.
    pub const PAPER: Self = Self(255, 255, 255);
    /// Text.
    pub const INK: Self = Self(0x1c, 0x22, 0x2b);
    /// Less important text.
    pub const MUTED: Self = Self(0x6b, 0x72, 0x7c);
    /// Thin lines.
    pub const LINE: Self = Self(0xb8, 0xbe, 0xc6);
    /// A gap between rows.
    pub const GAP: Self = Self(0xf0, 0xf1, 0xf3);

    /// The colour of `class`.
    ///
    /// The hues are close to those of Okabe and Ito, which are distinguishable with any kind of colour blindness. The
    /// most frequent classes also differ in lightness, from dark to light: kept, private cache, cache, user, free.
    pub const fn of(class: FrameClass) -> Self {
        match class {
            FrameClass::Kept => Self(0x24, 0x2c, 0x3a),
            FrameClass::CachePrivate => Self(0x0b, 0x4f, 0x7d),
            FrameClass::Cache => Self(0x1f, 0x7f, 0xc0),
            FrameClass::User => Self(0xf0, 0xb0, 0x2a),
            FrameClass::Free => Self(0xcf, 0xe6, 0xd3),
            FrameClass::Unaccepted => Self(0x9f, 0xd3, 0xbd),
            FrameClass::Offline => Self(0xcc, 0x79, 0xa7),
            FrameClass::Hwpoison => Self(0xd5, 0x1e, 0x00),
            FrameClass::Unreadable => Self(0xf7, 0xe9, 0x42),
            FrameClass::NoData => Self(0xa9, 0xae, 0xb5),
            FrameClass::Hole => Self::PAPER,
        }
    }
}

/// The point of a text that its x coordinate refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The left end.
    Start,
    /// The middle.
    Middle,
    /// The right end.
    End,
}

/// The style of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Regular.
    Plain,
    /// Bold.
    Bold,
    /// Larger and bold, for the title of the sheet.
    Title,
}

impl Style {
    /// The height of a line, in pixels.
    pub const fn line_height(self) -> u32 {
        match self {
            Self::Plain | Self::Bold => 16,
            Self::Title => 20,
        }
    }

    /// The approximate width of `text`, in pixels: that of the font in PNG files.
    pub const fn text_width(self, text: &str) -> u32 {
        let advance = match self {
            Self::Plain | Self::Bold => 7,
            Self::Title => 9,
        };
        advance * text.len() as u32
    }
}

/// A rectangle in one colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// The left edge.
    pub x: u32,
    /// The upper edge.
    pub y: u32,
    /// The width.
    pub width: u32,
    /// The height.
    pub height: u32,
    /// The colour.
    pub fill: Colour,
}

/// A line of text in printable ASCII, in a font of fixed width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The x coordinate of the point that `anchor` names.
    pub x: u32,
    /// The upper edge of the line.
    pub y: u32,
    /// The point of the text at `x`.
    pub anchor: Anchor,
    /// The style.
    pub style: Style,
    /// The colour.
    pub fill: Colour,
    /// The characters.
    pub text: String,
}

/// A shape on a drawing. Later shapes cover earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A rectangle.
    Rect(Rect),
    /// A line of text.
    Text(Text),
}

/// A sheet with shapes on it.
#[derive(Clone, Debug, Default)]
pub struct Drawing {
    /// The width.
    pub width: u32,
    /// The height.
    pub height: u32,
    /// The description of the drawing, for screen readers.
    pub description: String,
    /// The shapes, in drawing order.
    pub shapes: Vec<Shape>,
}

impl Drawing {
    /// Adds a rectangle, unless it has no area.
    pub fn rect(&mut self, x: u32, y: u32, width: u32, height: u32, fill: Colour) {
        if width > 0 && height > 0 {
            self.shapes.push(Shape::Rect(Rect { x, y, width, height, fill }));
        }
    }

    /// Adds a line of text. Characters that are not printable ASCII become `?`.
    pub fn text(&mut self, (x, y): (u32, u32), anchor: Anchor, style: Style, fill: Colour, text: &str) {
        let text = text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
        self.shapes.push(Shape::Text(Text { x, y, anchor, style, fill, text }));
    }
}
