//! The embedded font: widths for the layout, outlines for the picture.

use ttf_parser::{Face, GlyphId, OutlineBuilder};

/// A typeface. The data is part of the program.
pub(crate) struct Font {
    face: Option<Face<'static>>,
}

impl Font {
    pub(crate) fn regular() -> Font {
        Font { face: Face::parse(notosans::REGULAR_TTF, 0).ok() }
    }

    pub(crate) fn bold() -> Font {
        Font { face: Face::parse(notosans::BOLD_TTF, 0).ok() }
    }

    fn scale(&self, size: f32) -> f32 {
        self.face.as_ref().map_or(0.0, |face| size / f32::from(face.units_per_em()))
    }

    /// The glyph of a character; a question mark where the font has none.
    fn glyph(&self, c: char) -> Option<GlyphId> {
        let face = self.face.as_ref()?;
        face.glyph_index(c).or_else(|| face.glyph_index('?'))
    }

    fn advance(&self, c: char, size: f32) -> f32 {
        let glyph = self.glyph(c).and_then(|glyph| self.face.as_ref()?.glyph_hor_advance(glyph));
        glyph.map_or(size * 0.6, |advance| f32::from(advance) * self.scale(size))
    }

    pub(crate) fn width(&self, text: &str, size: f32) -> f32 {
        text.chars().map(|c| self.advance(c, size)).sum()
    }

    /// As much of `text` as fits into `most` pixels.
    pub(crate) fn cut(&self, text: &str, size: f32, most: f32) -> String {
        if self.width(text, size) <= most {
            return text.to_owned();
        }
        let mut left = most - self.advance('…', size);
        let mut out = String::new();
        for c in text.chars() {
            left -= self.advance(c, size);
            if left < 0.0 {
                break;
            }
            out.push(c);
        }
        if out.is_empty() && most < size { String::new() } else { out + "…" }
    }

    /// Draws a text's outlines with its baseline at a point.
    pub(crate) fn outline(&self, text: &str, size: f32, x: f32, y: f32, path: &mut tiny_skia::PathBuilder) {
        let Some(face) = &self.face else { return };
        let mut at = x;
        for c in text.chars() {
            if let Some(glyph) = self.glyph(c) {
                let mut pen = Outline { path, scale: self.scale(size), x: at, y };
                face.outline_glyph(glyph, &mut pen);
            }
            at += self.advance(c, size);
        }
    }
}

struct Outline<'a> {
    path: &'a mut tiny_skia::PathBuilder,
    scale: f32,
    x: f32,
    y: f32,
}

impl Outline<'_> {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.scale, self.y - y * self.scale)
    }
}

impl OutlineBuilder for Outline<'_> {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}
