//! Colours: the names dashboards use, the palette of series, scales, and what can be read on which ground.

use serde::{Serialize, Serializer};

/// Light or dark ground.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    #[default]
    Dark,
    Light,
}

/// A colour with opacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color {
    pub r: u8,
    pub g: u8,
    pub b: u8,
    pub a: u8,
}

/// The order in which series take their colours.
const PALETTE: [u32; 24] = [
    0x73BF69, 0xF2CC0C, 0x8AB8FF, 0xFF780A, 0xF2495C, 0x5794F2, 0xB877D9, 0x705DA0, 0x37872D, 0xFADE2A,
    0x447EBC, 0xC15C17, 0xE02F44, 0x3274D9, 0xA352CC, 0x96D98D, 0xFFEE52, 0xC0D8FF, 0xFFB357, 0xFF7383,
    0x8F3BB8, 0xCA95E5, 0x56A64B, 0xE0B400,
];
/// Distinguishable without red and green.
const COLOR_BLIND: [u32; 8] =
    [0x0072B2, 0xE69F00, 0x009E73, 0xCC79A7, 0x56B4E9, 0xD55E00, 0xF0E442, 0x999999];

/// Shades of a hue from dark to super-light.
const HUES: [(&str, [u32; 5]); 6] = [
    ("red", [0xC4162A, 0xE02F44, 0xF2495C, 0xFF7383, 0xFFA6B0]),
    ("orange", [0xFA6400, 0xFF780A, 0xFF9830, 0xFFB357, 0xFFCB7D]),
    ("yellow", [0xE0B400, 0xF2CC0C, 0xFADE2A, 0xFFEE52, 0xFFF899]),
    ("green", [0x37872D, 0x56A64B, 0x73BF69, 0x96D98D, 0xC8F2C2]),
    ("blue", [0x1F60C4, 0x3274D9, 0x5794F2, 0x8AB8FF, 0xC0D8FF]),
    ("purple", [0x8F3BB8, 0xA352CC, 0xB877D9, 0xCA95E5, 0xDEB6F2]),
];

// === impl Color ===

impl Color {
    pub const TRANSPARENT: Color = Color { r: 0, g: 0, b: 0, a: 0 };

    pub const fn hex(rgb: u32) -> Color {
        Color { r: (rgb >> 16) as u8, g: (rgb >> 8) as u8, b: rgb as u8, a: 255 }
    }

    #[must_use]
    pub fn with_alpha(self, alpha: f64) -> Color {
        Color { a: (f64::from(self.a) * alpha.clamp(0.0, 1.0)).round() as u8, ..self }
    }

    /// `#rrggbb`, with the opacity as a fourth byte where there is one.
    pub fn css(self) -> String {
        let Color { r, g, b, a } = self;
        if a == 255 { format!("#{r:02x}{g:02x}{b:02x}") } else { format!("#{r:02x}{g:02x}{b:02x}{a:02x}") }
    }

    fn luminance(self) -> f64 {
        let part = |c: u8| {
            let c = f64::from(c) / 255.0;
            if c <= 0.03928 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(self.r) + 0.7152 * part(self.g) + 0.0722 * part(self.b)
    }

    /// Contrast of two opaque colours, 1 to 21.
    pub fn contrast(self, other: Color) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// The point between two colours; `share` 0 is the first.
    pub fn mix(self, other: Color, share: f64) -> Color {
        let share = share.clamp(0.0, 1.0);
        let part = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * share).round() as u8;
        Color {
            r: part(self.r, other.r),
            g: part(self.g, other.g),
            b: part(self.b, other.b),
            a: part(self.a, other.a),
        }
    }

    /// The same hue, moved until text in it can be read on `ground`.
    #[must_use]
    pub fn readable_on(self, ground: Color) -> Color {
        self.moved_until(4.6, ground)
    }

    /// The same hue, moved until a line in it is seen on `ground`.
    #[must_use]
    pub fn visible_on(self, ground: Color) -> Color {
        self.moved_until(2.0, ground)
    }

    fn moved_until(self, contrast: f64, ground: Color) -> Color {
        let toward = if ground.luminance() > 0.4 { Color::hex(0x000000) } else { Color::hex(0xFFFFFF) };
        let mut color = Color { a: 255, ..self };
        for step in 0..20 {
            color = Color { a: 255, ..self }.mix(toward, f64::from(step) * 0.05);
            if color.contrast(ground) >= contrast {
                break;
            }
        }
        color
    }

    /// Black or white, whichever is easier to read on this colour.
    pub fn text_on(self) -> Color {
        let (dark, light) = (Color::hex(0x111217), Color::hex(0xFFFFFF));
        if self.contrast(dark) >= self.contrast(light) { dark } else { light }
    }
}

impl Serialize for Color {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.css())
    }
}

// === impl Theme ===

impl Theme {
    pub fn ground(self) -> Color {
        match self {
            Theme::Dark => Color::hex(0x161B21),
            Theme::Light => Color::hex(0xFFFFFF),
        }
    }

    pub fn ink(self) -> Color {
        match self {
            Theme::Dark => Color::hex(0xE4E8ED),
            Theme::Light => Color::hex(0x1C2128),
        }
    }

    pub fn dim(self) -> Color {
        match self {
            Theme::Dark => Color::hex(0x9AA5B1),
            Theme::Light => Color::hex(0x59636E),
        }
    }

    pub fn grid(self) -> Color {
        match self {
            Theme::Dark => Color::hex(0x2A323B),
            Theme::Light => Color::hex(0xE6EAEF),
        }
    }
}

/// A colour by name, `#hex`, `rgb(…)` or `rgba(…)`.
pub(crate) fn named(name: &str, theme: Theme) -> Option<Color> {
    let name = name.trim();
    match name {
        "transparent" => return Some(Color::TRANSPARENT),
        "text" => return Some(theme.ink()),
        "white" => return Some(Color::hex(0xFFFFFF)),
        "black" => return Some(Color::hex(0x000000)),
        "gray" | "grey" => return Some(Color::hex(0x8E8E8E)),
        _ => {}
    }
    if let Some(hex) = name.strip_prefix('#') {
        return from_hex(hex);
    }
    if let Some(parts) = name.strip_prefix("rgba(").or_else(|| name.strip_prefix("rgb(")) {
        let mut parts = parts.trim_end_matches(')').split(',').map(|part| part.trim().parse::<f64>().ok());
        let mut byte = || parts.next().flatten().map(|part| part.clamp(0.0, 255.0) as u8);
        let (r, g, b) = (byte()?, byte()?, byte()?);
        let alpha = parts.next().flatten().unwrap_or(1.0);
        return Some(Color { r, g, b, a: 255 }.with_alpha(alpha));
    }
    let (shade, hue) = match name.rsplit_once('-') {
        Some(("dark", hue)) => (0, hue),
        Some(("semi-dark", hue)) => (1, hue),
        Some(("light", hue)) => (3, hue),
        Some(("super-light", hue)) => (4, hue),
        _ => (2, name),
    };
    HUES.iter().find(|(known, _)| *known == hue).map(|(_, shades)| Color::hex(shades[shade]))
}

fn from_hex(hex: &str) -> Option<Color> {
    if !hex.is_ascii() {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let nibble = |at: usize| Some(u8::from_str_radix(hex.get(at..=at)?, 16).ok()? * 17);
    match hex.len() {
        3 => Some(Color { r: nibble(0)?, g: nibble(1)?, b: nibble(2)?, a: 255 }),
        6 => Some(Color { r: byte(0)?, g: byte(2)?, b: byte(4)?, a: 255 }),
        8 => Some(Color { r: byte(0)?, g: byte(2)?, b: byte(4)?, a: byte(6)? }),
        _ => None,
    }
}

/// The colour of the n-th series.
pub(crate) fn of_series(index: usize, mode: &str) -> Color {
    if mode == "palette-colorblind" {
        return Color::hex(COLOR_BLIND[index % COLOR_BLIND.len()]);
    }
    Color::hex(PALETTE[index % PALETTE.len()])
}

/// The colour that always belongs to a name.
pub(crate) fn of_name(name: &str) -> Color {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    Color::hex(PALETTE[(hash % PALETTE.len() as u64) as usize])
}

/// The colours of a scale from its low to its high end; `None` when the mode is none.
pub(crate) fn scale(mode: &str, theme: Theme) -> Option<Vec<Color>> {
    let names: &[&str] = match mode.strip_prefix("continuous-").unwrap_or(mode) {
        "GrYlRd" => &["green", "yellow", "red"],
        "RdYlGr" => &["red", "yellow", "green"],
        "BlYlRd" => &["dark-blue", "super-light-yellow", "dark-red"],
        "YlRd" => &["super-light-yellow", "dark-red"],
        "BlPu" => &["blue", "purple"],
        "YlBl" => &["super-light-yellow", "dark-blue"],
        "blues" | "Blues" => &["super-light-blue", "dark-blue"],
        "reds" | "Reds" => &["super-light-red", "dark-red"],
        "greens" | "Greens" => &["super-light-green", "dark-green"],
        "purples" | "Purples" => &["super-light-purple", "dark-purple"],
        "Oranges" | "oranges" => &["#2b1a06", "dark-orange", "super-light-orange"],
        "Spectral" => &["#5e4fa2", "#66c2a5", "#ffffbf", "#fdae61", "#9e0142"],
        "viridis" | "Viridis" => &["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"],
        "magma" | "Magma" => &["#000004", "#51127c", "#b73779", "#fc8961", "#fcfdbf"],
        "plasma" | "Plasma" => &["#0d0887", "#7e03a8", "#cc4778", "#f89540", "#f0f921"],
        "inferno" | "Inferno" => &["#000004", "#57106e", "#bc3754", "#f98e09", "#fcffa4"],
        "cividis" | "Cividis" => &["#00224e", "#434e6c", "#7d7c78", "#bcae6c", "#fee838"],
        "turbo" | "Turbo" => &["#30123b", "#4686fb", "#1ae4b6", "#a4fc3c", "#fb7e21", "#7a0403"],
        _ => return None,
    };
    Some(names.iter().filter_map(|name| named(name, theme)).collect())
}

/// The colour at `share` (0 to 1) of a scale.
pub(crate) fn along(scale: &[Color], share: f64) -> Color {
    let Some(last) = scale.len().checked_sub(1) else { return Color::TRANSPARENT };
    let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
    let at = share * last as f64;
    let low = (at.floor() as usize).min(last);
    scale[low].mix(scale[(low + 1).min(last)], at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_found_by_every_way_of_naming_them() {
        let css = |name: &str| named(name, Theme::Dark).map(Color::css);
        assert_eq!(css("green").as_deref(), Some("#73bf69"));
        assert_eq!(css("super-light-blue").as_deref(), Some("#c0d8ff"));
        assert_eq!(css("#abc").as_deref(), Some("#aabbcc"));
        assert_eq!(css("rgba(50, 172, 45, 0.5)").as_deref(), Some("#32ac2d80"));
        assert_eq!(css("no-such"), None);
        assert_eq!(css("#éé"), None);
    }

    #[test]
    fn every_series_can_be_read_on_both_grounds() {
        for theme in [Theme::Dark, Theme::Light] {
            for index in 0..PALETTE.len() {
                let color = of_series(index, "").readable_on(theme.ground());
                assert!(color.contrast(theme.ground()) >= 4.5, "{index} {theme:?}");
            }
        }
        assert_eq!(along(&[Color::hex(0), Color::hex(0xFFFFFF)], 0.5).css(), "#808080");
    }
}
