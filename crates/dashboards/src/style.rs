//! How a field is shown: its settings after all overrides, and one of its values as text and colour.

use serde::Serialize;
use serde_json::Value;

use crate::color::{self, Color, Theme};
use crate::frame::{Cell, Field, FieldType};
use crate::json::{as_number, flag, list, number, set_path, str_at, strings, text};
use crate::model::{Link, Override, Panel};
use crate::units::{Locale, Unit, Written};
use crate::variables::regex;

/// Where colours change.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Thresholds {
    pub is_percent: bool,
    /// From this value on (the first from below all), this colour.
    pub steps: Vec<(f64, Color)>,
}

/// The settings of one field.
#[derive(Clone, Debug)]
pub(crate) struct FieldStyle {
    pub unit: Unit,
    pub unit_id: String,
    pub decimals: Option<u32>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub display_name: Option<String>,
    pub no_value: Option<String>,
    pub color_mode: String,
    pub fixed_color: Option<Color>,
    pub thresholds: Thresholds,
    mappings: Vec<Mapping>,
    pub links: Vec<Link>,
    /// What only the panel's kind understands.
    pub custom: Value,
}

/// A value as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    pub written: Written,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<Color>,
    /// Where it lies between least and most, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

#[derive(Clone, Debug)]
struct Mapping {
    what: Matches,
    text: Option<String>,
    color: Option<Color>,
}

#[derive(Clone, Debug)]
enum Matches {
    Value(String),
    Range(f64, f64),
    Regex(Box<fancy_regex::Regex>, Option<String>),
    Null,
    Nan,
    NullOrNan,
    Empty,
    True,
    False,
}

/// Finds the settings of a field. Made once per panel.
pub(crate) struct Styles<'a> {
    defaults: &'a Value,
    overrides: Vec<(Matcher, &'a Override)>,
    plain: FieldStyle,
    theme: Theme,
}

enum Matcher {
    Name(String),
    Names(Vec<String>),
    Regex(Option<Box<fancy_regex::Regex>>),
    RefId(String),
    Type(String),
    None,
}

// === impl Styles ===

impl<'a> Styles<'a> {
    pub(crate) fn new(panel: &'a Panel, theme: Theme) -> Styles<'a> {
        let overrides = panel.overrides.iter().map(|one| (Matcher::new(one), one)).collect();
        let plain = FieldStyle::read(&panel.field_defaults, theme);
        Styles { defaults: &panel.field_defaults, overrides, plain, theme }
    }

    /// The settings of `field`, which is seen as `name`.
    pub(crate) fn of(&self, field: &Field, name: &str, ref_id: &str) -> FieldStyle {
        let hits: Vec<&Override> = self
            .overrides
            .iter()
            .filter(|(matcher, _)| matcher.fits(field, name, ref_id))
            .map(|(_, one)| *one)
            .collect();
        if hits.is_empty() {
            return self.plain.clone();
        }
        let mut settings = self.defaults.clone();
        for (path, value) in hits.iter().flat_map(|one| &one.properties) {
            set_path(&mut settings, path, value.clone());
        }
        FieldStyle::read(&settings, self.theme)
    }
}

impl Matcher {
    fn new(one: &Override) -> Matcher {
        let options = &one.matcher_options;
        let word = || options.as_str().unwrap_or_default().to_owned();
        match one.matcher.as_str() {
            "byName" => Matcher::Name(word()),
            "byNames" => Matcher::Names(match options {
                Value::Array(_) => strings(options, ""),
                options => strings(options, "/names"),
            }),
            "byRegexp" => {
                let text = word();
                let compiled =
                    if text.starts_with('/') { regex(&text) } else { fancy_regex::Regex::new(&text).ok() };
                Matcher::Regex(compiled.map(Box::new))
            }
            "byFrameRefID" => Matcher::RefId(word()),
            "byType" => Matcher::Type(word()),
            _ => Matcher::None,
        }
    }

    fn fits(&self, field: &Field, name: &str, ref_id: &str) -> bool {
        match self {
            Matcher::Name(wanted) => wanted == name || *wanted == field.name,
            Matcher::Names(wanted) => wanted.iter().any(|wanted| wanted == name || *wanted == field.name),
            Matcher::Regex(regex) => {
                regex.as_ref().is_some_and(|regex| regex.is_match(name).unwrap_or(false))
            }
            Matcher::RefId(wanted) => wanted == ref_id || *wanted == field.ref_id,
            Matcher::Type(wanted) => match field.kind {
                FieldType::Time => wanted == "time",
                FieldType::Number => wanted == "number",
                FieldType::Text => wanted == "string",
            },
            Matcher::None => false,
        }
    }
}

// === impl FieldStyle ===

impl FieldStyle {
    fn read(settings: &Value, theme: Theme) -> FieldStyle {
        let unit_id = text(settings, "/unit").unwrap_or_default();
        let colour =
            |value: &Value, pointer: &str| str_at(value, pointer).and_then(|name| color::named(name, theme));
        FieldStyle {
            unit: Unit::of(&unit_id),
            unit_id,
            decimals: number(settings, "/decimals")
                .filter(|d| *d >= 0.0)
                .map(|decimals| decimals.min(20.0) as u32),
            min: number(settings, "/min"),
            max: number(settings, "/max"),
            display_name: text(settings, "/displayName").filter(|name| !name.is_empty()),
            no_value: text(settings, "/noValue").filter(|text| !text.is_empty()),
            color_mode: text(settings, "/color/mode").unwrap_or_default(),
            fixed_color: colour(settings, "/color/fixedColor"),
            thresholds: Thresholds::read(settings, theme),
            mappings: list(settings, "/mappings")
                .iter()
                .flat_map(|mapping| Mapping::read(mapping, theme))
                .collect(),
            links: list(settings, "/links").iter().map(Link::read).collect(),
            custom: settings.pointer("/custom").cloned().unwrap_or_default(),
        }
    }

    pub(crate) fn custom_number(&self, pointer: &str) -> Option<f64> {
        number(&self.custom, pointer)
    }

    pub(crate) fn custom_str(&self, pointer: &str) -> Option<&str> {
        str_at(&self.custom, pointer)
    }

    pub(crate) fn custom_flag(&self, pointer: &str) -> bool {
        flag(&self.custom, pointer).unwrap_or(false)
    }

    /// A value with its text and its colour by value. `range` is what counts as least and most where nothing is set.
    pub(crate) fn show(&self, cell: &Cell, locale: Locale, range: (f64, f64)) -> Shown {
        let value = match cell {
            Cell::Number(value) => Some(*value),
            Cell::Time(ms) => Some(*ms as f64),
            _ => None,
        };
        let (min, max) = (self.min.unwrap_or(range.0), self.max.unwrap_or(range.1));
        let share = value.filter(|_| max > min).map(|value| ((value - min) / (max - min)).clamp(0.0, 1.0));
        let share = share.filter(|share| !share.is_nan());
        let mut shown =
            Shown { written: self.write(cell, locale), color: self.color_of(value, share), share };
        if let Some(mapping) = self.mappings.iter().find(|mapping| mapping.what.fits(cell)) {
            if let Some(text) = mapping.replacement(cell) {
                shown.written = Written { text, ..Written::default() };
            }
            shown.color = mapping.color.or(shown.color);
        }
        shown
    }

    fn write(&self, cell: &Cell, locale: Locale) -> Written {
        let plain = |text: String| Written { text, ..Written::default() };
        match cell {
            Cell::Null => plain(self.no_value.clone().unwrap_or_else(|| "–".to_owned())),
            Cell::Number(value) => self.unit.write(*value, self.decimals, locale),
            Cell::Text(text) => plain(text.clone()),
            Cell::Time(ms) => match &self.unit {
                Unit::Date { .. } => self.unit.write(*ms as f64, None, locale),
                _ => plain(crate::dates::write(*ms, "iso", locale)),
            },
        }
    }

    /// The colour by value; `None` when the mode is not one by value.
    pub(crate) fn color_of(&self, value: Option<f64>, share: Option<f64>) -> Option<Color> {
        match self.color_mode.as_str() {
            "" | "thresholds" => self.thresholds.color(value?, share),
            "fixed" | "shades" => self.fixed_color,
            mode if mode.starts_with("continuous") => {
                color::scale(mode, Theme::Dark).map(|s| color::along(&s, share.unwrap_or(0.0)))
            }
            _ => None,
        }
    }
}

// === impl Thresholds ===

impl Thresholds {
    fn read(settings: &Value, theme: Theme) -> Thresholds {
        let mut steps: Vec<(f64, Color)> = list(settings, "/thresholds/steps")
            .iter()
            .enumerate()
            .filter_map(|(index, step)| {
                let value =
                    step.get("value").and_then(as_number).filter(|_| index > 0 || !step["value"].is_null());
                let color = color::named(str_at(step, "/color")?, theme)?;
                Some((if index == 0 { f64::NEG_INFINITY } else { value? }, color))
            })
            .collect();
        if steps.is_empty() {
            let named = |name: &str| color::named(name, theme).unwrap_or(Color::TRANSPARENT);
            steps = vec![(f64::NEG_INFINITY, named("green")), (80.0, named("red"))];
        }
        steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        Thresholds { is_percent: str_at(settings, "/thresholds/mode") == Some("percentage"), steps }
    }

    fn color(&self, value: f64, share: Option<f64>) -> Option<Color> {
        let value = if self.is_percent { share? * 100.0 } else { value };
        self.steps
            .iter()
            .rev()
            .find(|(from, _)| value >= *from)
            .or(self.steps.first())
            .map(|(_, color)| *color)
    }

    /// Where each colour begins, as shares of the range from `min` to `max`.
    pub(crate) fn shares(&self, min: f64, max: f64) -> Vec<(f64, Color)> {
        let share = |value: f64| {
            if value == f64::NEG_INFINITY {
                return 0.0;
            }
            let share = if self.is_percent { value / 100.0 } else { (value - min) / (max - min) };
            if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
        };
        self.steps.iter().map(|(value, color)| (share(*value), *color)).collect()
    }
}

// === impl Mapping ===

impl Mapping {
    fn read(mapping: &Value, theme: Theme) -> Vec<Mapping> {
        let result = |value: &Value| {
            let color = str_at(value, "/color").and_then(|name| color::named(name, theme));
            (text(value, "/text").filter(|text| !text.is_empty()), color)
        };
        let nested = |what: Matches| {
            let (text, color) = mapping.pointer("/options/result").map(result).unwrap_or_default();
            Mapping { what, text, color }
        };
        match str_at(mapping, "/type") {
            Some("value") => mapping
                .pointer("/options")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .map(|(value, shown)| {
                    let (text, color) = result(shown);
                    Mapping { what: Matches::Value(value.clone()), text, color }
                })
                .collect(),
            Some("range") => {
                let from = number(mapping, "/options/from").unwrap_or(f64::NEG_INFINITY);
                let to = number(mapping, "/options/to").unwrap_or(f64::INFINITY);
                vec![nested(Matches::Range(from, to))]
            }
            Some("regex") => {
                let pattern = str_at(mapping, "/options/pattern").unwrap_or_default();
                let Some(compiled) = regex(pattern) else { return Vec::new() };
                let text = text(mapping, "/options/result/text");
                vec![nested(Matches::Regex(Box::new(compiled), text))]
            }
            Some("special") => {
                let what = match str_at(mapping, "/options/match") {
                    Some("null") => Matches::Null,
                    Some("nan") => Matches::Nan,
                    Some("null+nan") => Matches::NullOrNan,
                    Some("empty") => Matches::Empty,
                    Some("true") => Matches::True,
                    Some("false") => Matches::False,
                    _ => return Vec::new(),
                };
                vec![nested(what)]
            }
            _ => Vec::new(),
        }
    }

    fn replacement(&self, cell: &Cell) -> Option<String> {
        match (&self.what, cell) {
            (Matches::Regex(regex, Some(pattern)), Cell::Text(text)) => {
                // A text that takes more steps than a regex is given stays as it is.
                let replaced = regex.try_replacen(text, 1, pattern.as_str());
                Some(replaced.map_or_else(|_| text.clone(), std::borrow::Cow::into_owned))
            }
            _ => self.text.clone(),
        }
    }
}

impl Matches {
    fn fits(&self, cell: &Cell) -> bool {
        let is_nan = matches!(cell, Cell::Number(value) if value.is_nan());
        match self {
            Matches::Value(wanted) => match cell {
                Cell::Number(value) => wanted.trim().parse::<f64>().is_ok_and(|wanted| wanted == *value),
                Cell::Text(text) => text == wanted,
                _ => false,
            },
            Matches::Range(from, to) => cell.number().is_some_and(|value| *from <= value && value <= *to),
            Matches::Regex(regex, _) => {
                matches!(cell, Cell::Text(text) if regex.is_match(text).unwrap_or(false))
            }
            Matches::Null => cell.is_null(),
            Matches::Nan => is_nan,
            Matches::NullOrNan => is_nan || cell.is_null(),
            Matches::Empty => matches!(cell, Cell::Text(text) if text.is_empty()),
            Matches::True => matches!(cell, Cell::Text(text) if text == "true"),
            Matches::False => matches!(cell, Cell::Text(text) if text == "false"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Dashboard;
    use serde_json::json;

    fn panel(config: Value) -> Panel {
        Dashboard::from_value(json!({"panels": [{"type": "stat", "fieldConfig": config}]}))
            .unwrap()
            .panels
            .remove(0)
    }

    #[test]
    fn overrides_win_over_defaults_in_their_order() {
        let panel = panel(json!({"defaults": {"unit": "bytes"}, "overrides": [
            {"matcher": {"id": "byRegexp", "options": "/^cpu/"}, "properties": [{"id": "unit", "value": "s"}, {"id": "custom.fillOpacity", "value": 7}]},
            {"matcher": {"id": "byName", "options": "cpu1"}, "properties": [{"id": "unit", "value": "ms"}]},
            {"matcher": {"id": "byFrameRefID", "options": "B"}, "properties": [{"id": "displayName", "value": "b"}]}]}));
        let styles = Styles::new(&panel, Theme::Dark);
        let field = Field::new("Value", FieldType::Number, Vec::new());
        let style = |name: &str, ref_id: &str| styles.of(&field, name, ref_id);
        assert_eq!(style("mem", "A").unit_id, "bytes");
        assert_eq!((style("cpu0", "A").unit_id.as_str(), style("cpu1", "A").unit_id.as_str()), ("s", "ms"));
        assert_eq!(style("cpu1", "A").custom_number("/fillOpacity"), Some(7.0));
        assert_eq!(style("x", "B").display_name.as_deref(), Some("b"));
    }

    #[test]
    fn values_take_text_and_colour_from_mappings_and_thresholds() {
        let panel = panel(json!({"defaults": {"unit": "percent", "min": 0, "max": 200,
            "thresholds": {"mode": "absolute", "steps": [{"color": "green", "value": null}, {"color": "red", "value": 90}]},
            "mappings": [{"type": "value", "options": {"1": {"text": "one", "color": "blue"}}},
                {"type": "range", "options": {"from": 5, "to": 6, "result": {"text": "few"}}},
                {"type": "special", "options": {"match": "null", "result": {"text": "N/A"}}}]}}));
        let style = FieldStyle::read(&panel.field_defaults, Theme::Dark);
        let show = |cell: Cell| {
            let shown = style.show(&cell, Locale::default(), (0.0, 1.0));
            (shown.written.joined(), shown.color.map(Color::css).unwrap_or_default(), shown.share)
        };
        assert_eq!(show(Cell::Number(100.0)), ("100%".into(), "#f2495c".into(), Some(0.5)));
        assert_eq!(show(Cell::Number(1.0)), ("one".into(), "#5794f2".into(), Some(0.005)));
        assert_eq!(show(Cell::Number(5.5)).0, "few");
        assert_eq!(show(Cell::Null).0, "N/A");
    }

    #[test]
    fn a_regex_that_takes_too_long_maps_a_text_to_itself() {
        let panel = panel(json!({"defaults": {"mappings": [{"type": "regex",
            "options": {"pattern": "/x|(a|b|ab)*(?=c)/", "result": {"text": "y"}}}]}}));
        let style = FieldStyle::read(&panel.field_defaults, Theme::Dark);
        let show = |text: &str| {
            style.show(&Cell::Text(text.to_owned()), Locale::default(), (0.0, 1.0)).written.joined()
        };
        assert_eq!(show("x"), "y");
        let long = format!("x{}", "ab".repeat(26));
        assert_eq!(show(&long), long);
    }
}
