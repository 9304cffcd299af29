//! Encodes a drawing as PNG.

use super::model::{Anchor, Colour, Drawing, Rect, Shape, Style, Text};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use png::{BitDepth, ColorType, Compression, Encoder};
use std::collections::BTreeMap;
use vmcore::{Error, Result};

/// Steps between background and text colour at the edges of letters. A small number keeps the colours in a palette.
const INK_STEPS: u32 = 12;

/// Encodes `drawing` as the contents of a PNG file.
///
/// # Errors
/// Fails if the PNG encoder fails.
pub fn to_png(drawing: &Drawing) -> Result<Vec<u8>> {
    let mut sheet = Sheet::new(drawing.width.max(1), drawing.height.max(1));
    for shape in &drawing.shapes {
        match shape {
            Shape::Rect(rect) => sheet.fill(rect),
            Shape::Text(text) => sheet.write(text),
        }
    }
    sheet.encode().map_err(|error| Error::failure("cannot encode the picture as PNG").because(error))
}

/// Pixels, row by row.
struct Sheet {
    width: u32,
    height: u32,
    pixels: Vec<Colour>,
}

impl Sheet {
    fn new(width: u32, height: u32) -> Self {
        Self { width, height, pixels: vec![Colour::PAPER; width as usize * height as usize] }
    }

    fn fill(&mut self, rect: &Rect) {
        let right = rect.x.saturating_add(rect.width).min(self.width);
        for y in rect.y..rect.y.saturating_add(rect.height).min(self.height) {
            let row = y as usize * self.width as usize;
            if let Some(pixels) = self.pixels.get_mut(row + rect.x as usize..row + right as usize) {
                pixels.fill(rect.fill);
            }
        }
    }

    fn write(&mut self, text: &Text) {
        let (weight, size) = match text.style {
            Style::Plain => (FontWeight::Regular, RasterHeight::Size16),
            Style::Bold => (FontWeight::Bold, RasterHeight::Size16),
            Style::Title => (FontWeight::Bold, RasterHeight::Size20),
        };
        let advance = get_raster_width(weight, size) as u32;
        let width = advance * text.text.len() as u32;
        let mut x = match text.anchor {
            Anchor::Start => text.x,
            Anchor::Middle => text.x.saturating_sub(width / 2),
            Anchor::End => text.x.saturating_sub(width),
        };
        for glyph in text.text.chars().filter_map(|c| get_raster(c, weight, size)) {
            for (y, row) in (text.y..).zip(glyph.rows()) {
                for (x, ink) in (x..).zip(row) {
                    self.blend(x, y, text.fill, u32::from(*ink));
                }
            }
            x += advance;
        }
    }

    fn blend(&mut self, x: u32, y: u32, colour: Colour, ink: u32) {
        let ink = (ink * INK_STEPS + 127) / 255;
        if ink == 0 || x >= self.width || y >= self.height {
            return;
        }
        let pixel = &mut self.pixels[y as usize * self.width as usize + x as usize];
        let mix = |paper: u8, ink_colour: u8| {
            ((u32::from(paper) * (INK_STEPS - ink) + u32::from(ink_colour) * ink) / INK_STEPS) as u8
        };
        *pixel = Colour(mix(pixel.0, colour.0), mix(pixel.1, colour.1), mix(pixel.2, colour.2));
    }

    fn encode(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, self.width, self.height);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::High);
        let data: Vec<u8> = match self.palette() {
            Some(palette) => {
                let mut colours = vec![0; palette.len() * 3];
                for (Colour(red, green, blue), index) in &palette {
                    colours[usize::from(*index) * 3..][..3].copy_from_slice(&[*red, *green, *blue]);
                }
                encoder.set_color(ColorType::Indexed);
                encoder.set_palette(colours);
                self.pixels.iter().map(|pixel| palette[pixel]).collect()
            }
            None => {
                encoder.set_color(ColorType::Rgb);
                self.pixels.iter().flat_map(|Colour(red, green, blue)| [*red, *green, *blue]).collect()
            }
        };
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&data)?;
        writer.finish()?;
        Ok(file)
    }

    /// The colours of the sheet with their palette indices; `None` if there are more than 256.
    fn palette(&self) -> Option<BTreeMap<Colour, u8>> {
        let mut palette = BTreeMap::new();
        let mut last = None;
        for pixel in &self.pixels {
            if last != Some(pixel) && !palette.contains_key(pixel) {
                palette.insert(*pixel, u8::try_from(palette.len()).ok()?);
            }
            last = Some(pixel);
        }
        Some(palette)
    }
}
