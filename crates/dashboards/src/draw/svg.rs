//! A scene as SVG.

use std::fmt::Write;

use super::{Point, Scene, Shape};

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // What XML has no way to write.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
        out
    })
}

fn points_of(points: &[Point]) -> String {
    let mut out = String::with_capacity(points.len() * 12);
    for (x, y) in points {
        let _ = write!(out, "{x:.1},{y:.1} ");
    }
    out.truncate(out.trim_end().len());
    out
}

pub(super) fn write(scene: &Scene) -> String {
    let (w, h) = (scene.width, scene.height);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
         font-family=\"'Noto Sans', system-ui, sans-serif\">\n<rect width=\"{w}\" height=\"{h}\" fill=\"{}\"/>\n",
        scene.ground.css()
    );
    for shape in &scene.shapes {
        let _ = match shape {
            Shape::Rect { x, y, w, h, color } => writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{}\"/>",
                color.css()
            ),
            Shape::Line { points, width, color, dash } => {
                let dash: Vec<String> = dash.iter().map(f32::to_string).collect();
                let dash = if dash.is_empty() {
                    String::new()
                } else {
                    format!(" stroke-dasharray=\"{}\"", dash.join(" "))
                };
                writeln!(
                    out,
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash}/>",
                    points_of(points),
                    color.css()
                )
            }
            Shape::Area { points, color } => {
                writeln!(out, "<polygon points=\"{}\" fill=\"{}\"/>", points_of(points), color.css())
            }
            Shape::Text { x, y, text, size, color, bold } => writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{}\"{}>{}</text>",
                color.css(),
                if *bold { " font-weight=\"700\"" } else { "" },
                escape(text)
            ),
        };
    }
    out.push_str("</svg>\n");
    out
}
