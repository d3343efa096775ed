//! From a view to a display list, and from that to PNG, SVG or text. No browser, no file, no system font.

mod chart;
mod font;
mod panels;
mod png;
mod svg;
mod terminal;
mod ticks;

pub use png::PngError;
pub use terminal::terminal;

use crate::color::{Color, Theme};
use crate::units::Locale;
use crate::view::{Body, PanelView};
use font::Font;

/// Pixels of one side of a picture.
pub(crate) const MOST_PIXELS: u32 = 4000;
const LEAST_PIXELS: u32 = 50;

/// A point, x to the right and y down.
pub(crate) type Point = (f32, f32);

/// One thing to draw, over what came before it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    Rect { x: f32, y: f32, w: f32, h: f32, color: Color },
    Line { points: Vec<Point>, width: f32, color: Color, dash: Vec<f32> },
    Area { points: Vec<Point>, color: Color },
    Text { x: f32, y: f32, text: String, size: f32, color: Color, bold: bool },
}

/// A picture as a list of shapes.
#[derive(Clone, Debug)]
pub struct Scene {
    pub width: u32,
    pub height: u32,
    pub(crate) ground: Color,
    pub(crate) shapes: Vec<Shape>,
}

/// A part of the picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) w: f32,
    pub(crate) h: f32,
}

/// Draws into a scene.
pub(crate) struct Pen {
    pub(crate) scene: Scene,
    pub(crate) theme: Theme,
    pub(crate) locale: Locale,
    regular: Font,
    bold: Font,
}

/// Where a text stands at its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Scene {
    /// The panel at a size in pixels, which is brought within bounds.
    pub fn of(view: &PanelView, width: u32, height: u32, theme: Theme, locale: Locale) -> Scene {
        let (width, height) =
            (width.clamp(LEAST_PIXELS, MOST_PIXELS), height.clamp(LEAST_PIXELS, MOST_PIXELS));
        let scene = Scene { width, height, ground: theme.ground(), shapes: Vec::new() };
        let mut pen = Pen { scene, theme, locale, regular: Font::regular(), bold: Font::bold() };
        let mut area = Area { x: 10.0, y: 8.0, w: width as f32 - 20.0, h: height as f32 - 16.0 };
        if !view.title.is_empty() {
            pen.text(area.x, area.y + 13.0, &view.title, 13.0, theme.ink(), Anchor::Start, true, area.w);
            area = area.below(24.0);
        }
        let note =
            view.error.as_deref().map(|error| (error, Color::hex(0xE02F44).readable_on(theme.ground())));
        let note = note.or_else(|| Some((view.notices.first()?.as_str(), theme.dim())));
        if let Some((note, color)) = note {
            pen.text(area.x, area.y + area.h - 2.0, note, 11.0, color, Anchor::Start, false, area.w);
            area.h -= 16.0;
        }
        match &view.body {
            Body::Chart(chart) => chart::chart(&mut pen, chart, area),
            Body::Stat(stats) => panels::stats(&mut pen, stats, area),
            Body::Gauge(stats) => panels::gauges(&mut pen, stats, area),
            Body::BarGauge(stats) => panels::bars(&mut pen, stats, area),
            Body::Table(table) => panels::table(&mut pen, table, area),
            Body::Text { blocks } => panels::text(&mut pen, blocks, area),
            Body::Pie(pie) => panels::pie(&mut pen, pie, area),
            Body::Heatmap(heatmap) => chart::heatmap(&mut pen, heatmap, area),
            Body::Nothing { text } => pen.centered(text, area),
            Body::Row { .. } => {}
        }
        pen.scene
    }

    /// As PNG; `scale` 2 makes twice as many pixels.
    ///
    /// # Errors
    /// When the picture would be too large.
    pub fn png(&self, scale: f32) -> Result<Vec<u8>, PngError> {
        png::encode(self, scale)
    }

    /// As SVG.
    pub fn svg(&self) -> String {
        svg::write(self)
    }
}

impl Area {
    pub(crate) fn below(self, by: f32) -> Area {
        Area { y: self.y + by, h: (self.h - by).max(0.0), ..self }
    }
}

impl Pen {
    pub(crate) fn rect(&mut self, x: f32, y: f32, w: f32, h: f32, color: Color) {
        if w > 0.0 && h > 0.0 && color.a > 0 {
            self.scene.shapes.push(Shape::Rect { x, y, w, h, color });
        }
    }

    pub(crate) fn line(&mut self, points: Vec<Point>, width: f32, color: Color, dash: Vec<f32>) {
        if points.len() > 1 && width > 0.0 {
            self.scene.shapes.push(Shape::Line { points, width, color, dash });
        }
    }

    pub(crate) fn area(&mut self, points: Vec<Point>, color: Color) {
        if points.len() > 2 && color.a > 0 {
            self.scene.shapes.push(Shape::Area { points, color });
        }
    }

    /// A text with its baseline at `y`, cut to `most` pixels.
    #[expect(clippy::too_many_arguments, reason = "where, what and how of one text")]
    pub(crate) fn text(
        &mut self,
        x: f32,
        y: f32,
        text: &str,
        size: f32,
        color: Color,
        anchor: Anchor,
        bold: bool,
        most: f32,
    ) {
        let font = if bold { &self.bold } else { &self.regular };
        let text = font.cut(text, size, most);
        let width = font.width(&text, size);
        let x = match anchor {
            Anchor::Start => x,
            Anchor::Middle => x - width / 2.0,
            Anchor::End => x - width,
        };
        if !text.is_empty() {
            self.scene.shapes.push(Shape::Text { x, y, text, size, color, bold });
        }
    }

    pub(crate) fn width(&self, text: &str, size: f32) -> f32 {
        self.regular.width(text, size)
    }

    pub(crate) fn centered(&mut self, text: &str, area: Area) {
        let color = self.theme.dim();
        self.text(
            area.x + area.w / 2.0,
            area.y + area.h / 2.0,
            text,
            13.0,
            color,
            Anchor::Middle,
            false,
            area.w,
        );
    }
}
