//! A scene as PNG.

use tiny_skia::{
    Color as SkiaColor, FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, Rect, Stroke, StrokeDash,
    Transform,
};

use super::font::Font;
use super::{MOST_PIXELS, Scene, Shape};
use crate::color::Color;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    #[error(
        "a picture of {width} × {height} pixels cannot be drawn; at most {MOST_PIXELS} × {MOST_PIXELS} are"
    )]
    Size { width: u32, height: u32 },
    #[error("the picture cannot be encoded: {0}")]
    Encode(String),
}

fn paint(color: Color) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color(SkiaColor::from_rgba8(color.r, color.g, color.b, color.a));
    paint
}

pub(super) fn encode(scene: &Scene, scale: f32) -> Result<Vec<u8>, PngError> {
    let scale = if scale.is_finite() { scale.clamp(0.25, 4.0) } else { 1.0 };
    let (width, height) = ((scene.width as f32 * scale) as u32, (scene.height as f32 * scale) as u32);
    let too_large = || PngError::Size { width, height };
    if width > MOST_PIXELS || height > MOST_PIXELS {
        return Err(too_large());
    }
    let mut pixels = Pixmap::new(width, height).ok_or_else(too_large)?;
    let ground = scene.ground;
    pixels.fill(SkiaColor::from_rgba8(ground.r, ground.g, ground.b, ground.a));
    let transform = Transform::from_scale(scale, scale);
    let (regular, bold) = (Font::regular(), Font::bold());
    for shape in &scene.shapes {
        draw(&mut pixels, shape, transform, &regular, &bold);
    }
    pixels.encode_png().map_err(|error| PngError::Encode(error.to_string()))
}

fn path_of(points: &[super::Point], close: bool) -> Option<tiny_skia::Path> {
    let mut path = PathBuilder::with_capacity(points.len() + 1, points.len() + 1);
    let (first, rest) = points.split_first()?;
    path.move_to(first.0, first.1);
    for point in rest {
        path.line_to(point.0, point.1);
    }
    if close {
        path.close();
    }
    path.finish()
}

fn draw(pixels: &mut Pixmap, shape: &Shape, transform: Transform, regular: &Font, bold: &Font) {
    match shape {
        Shape::Rect { x, y, w, h, color } => {
            if let Some(rect) = Rect::from_xywh(*x, *y, *w, *h) {
                pixels.fill_rect(rect, &paint(*color), transform, None);
            }
        }
        Shape::Line { points, width, color, dash } => {
            let Some(path) = path_of(points, false) else { return };
            let dash = if dash.len() % 2 == 0 { dash.clone() } else { [dash.as_slice(), dash].concat() };
            let stroke = Stroke {
                width: *width,
                line_join: LineJoin::Round,
                line_cap: LineCap::Butt,
                dash: StrokeDash::new(dash, 0.0),
                ..Stroke::default()
            };
            pixels.stroke_path(&path, &paint(*color), &stroke, transform, None);
        }
        Shape::Area { points, color } => {
            if let Some(path) = path_of(points, true) {
                pixels.fill_path(&path, &paint(*color), FillRule::Winding, transform, None);
            }
        }
        Shape::Text { x, y, text, size, color, bold: is_bold } => {
            let mut path = PathBuilder::new();
            let font = if *is_bold { bold } else { regular };
            font.outline(text, *size, *x, *y, &mut path);
            if let Some(path) = path.finish() {
                pixels.fill_path(&path, &paint(*color), FillRule::Winding, transform, None);
            }
        }
    }
}
