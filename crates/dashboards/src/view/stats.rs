//! Stat, gauge and bar gauge panels: one value per field or row.

use serde::Serialize;

use super::Input;
use crate::color::{self, Color};
use crate::frame::{Cell, FieldType};
use crate::json::{flag, is_set, number, str_at, strings};
use crate::reduce::reduce;
use crate::style::Shown;
use crate::variables::regex;

/// Values of one panel; a query without limits would make more.
const MOST_VALUES: usize = 100;
const MOST_SPARK_POINTS: usize = 400;

/// The values of a panel and how they are drawn.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    pub items: Vec<Stat>,
    pub left_out: usize,
    /// `none`, `value`, `background` or `background_solid`.
    pub color_mode: String,
    pub graph: bool,
    /// `auto`, `value`, `name`, `value_and_name` or `none`.
    pub text_mode: String,
    pub vertical: bool,
    pub centered: bool,
    /// Of a bar gauge: `basic`, `gradient` or `lcd`.
    pub display_mode: String,
    pub unfilled: bool,
    pub threshold_markers: bool,
    pub prefix: String,
    pub postfix: String,
}

/// One value.
#[derive(Clone, Debug, Serialize)]
pub struct Stat {
    pub name: String,
    #[serde(flatten)]
    pub shown: Shown,
    /// The colour for text on the panel's ground.
    pub ink: Color,
    /// For text on the colour itself.
    pub on_color: Color,
    /// What came before, for a small chart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spark: Vec<Option<f64>>,
    /// Shares of the range at which the colour changes.
    pub steps: Vec<(f64, Color)>,
}

pub(super) fn stats(input: &Input<'_>) -> Stats {
    let options = &input.panel.options;
    let calcs = strings(options, "/reduceOptions/calcs");
    let calc = calcs.first().map_or("lastNotNull", String::as_str);
    let all_values = is_set(options, "/reduceOptions/values");
    let wanted = str_at(options, "/reduceOptions/fields").unwrap_or("");
    let pattern = if wanted.starts_with('/') { regex(wanted) } else { None };
    let is_wanted = |kind: FieldType, name: &str| match (wanted, &pattern) {
        ("", _) => kind == FieldType::Number,
        (_, Some(pattern)) => pattern.is_match(name).unwrap_or(false),
        (wanted, None) => name == wanted,
    };
    let range = whole_range(input, calc);
    let mut items = Vec::new();
    for seen in input.fields().filter(|seen| is_wanted(seen.field.kind, &seen.name)) {
        if all_values {
            let texts = seen.frame.fields.iter().find(|field| field.kind == FieldType::Text);
            for (row, cell) in seen.field.cells.iter().enumerate() {
                let name =
                    texts.and_then(|field| field.cells.get(row)).map_or_else(|| seen.name.clone(), Cell::key);
                items.push(item(input, &seen.style, name, cell, range, Vec::new()));
            }
            continue;
        }
        let cell = reduce(&seen.field.cells, calc);
        let numbers: Vec<Option<f64>> = seen.field.numbers().collect();
        let every = numbers.len().div_ceil(MOST_SPARK_POINTS).max(1);
        let spark = if numbers.len() > 1 && seen.frame.time().is_some() {
            numbers.into_iter().step_by(every).map(|number| number.filter(|n| n.is_finite())).collect()
        } else {
            Vec::new()
        };
        items.push(item(input, &seen.style, seen.name, &cell, range, spark));
    }
    if items.is_empty() {
        // A stat says that there is nothing.
        let field = crate::frame::Field::new("", FieldType::Number, Vec::new());
        let style = input.styles.of(&field, "", "");
        let text = style.no_value.clone().unwrap_or_else(|| "No data".to_owned());
        let mut empty = item(input, &style, String::new(), &Cell::Null, range, Vec::new());
        if empty.shown.written.text == "–" {
            empty.shown.written.text = text;
        }
        items.push(empty);
    }
    let limit = number(options, "/reduceOptions/limit")
        .map_or(MOST_VALUES, |limit| (limit as usize).clamp(1, MOST_VALUES));
    let left_out = items.len().saturating_sub(limit);
    items.truncate(limit);
    let word = |pointer: &str, default: &str| str_at(options, pointer).unwrap_or(default).to_owned();
    let is_bar = input.panel.kind == "bargauge";
    Stats {
        left_out,
        color_mode: word("/colorMode", "value"),
        graph: str_at(options, "/graphMode").is_none_or(|mode| mode == "area") && items.len() <= 20,
        text_mode: word("/textMode", "auto"),
        vertical: match str_at(options, "/orientation") {
            Some("vertical") => true,
            Some("horizontal") => false,
            // Upright bars need room for their numbers.
            _ => is_bar && input.panel.grid.w < input.panel.grid.h * 2 && input.panel.grid.h >= 6,
        },
        centered: str_at(options, "/justifyMode") == Some("center"),
        display_mode: word("/displayMode", "gradient"),
        unfilled: flag(options, "/showUnfilled").unwrap_or(true),
        threshold_markers: flag(options, "/showThresholdMarkers").unwrap_or(true),
        prefix: word("/prefix", ""),
        postfix: word("/postfix", ""),
        items,
    }
}

fn item(
    input: &Input<'_>,
    style: &crate::style::FieldStyle,
    name: String,
    cell: &Cell,
    range: (f64, f64),
    spark: Vec<Option<f64>>,
) -> Stat {
    let theme = input.look.theme;
    let range = match (input.panel.kind.as_str(), style.unit_id.as_str()) {
        ("gauge", "percentunit") => (0.0, 1.0),
        ("gauge", _) | (_, "percent") => (0.0, 100.0),
        (_, "percentunit") => (0.0, 1.0),
        _ => range,
    };
    let mut shown = style.show(cell, input.scope.locale, range);
    if shown.color.is_none() && style.color_mode.starts_with("palette") {
        shown.color = Some(color::of_series(0, &style.color_mode));
    }
    let base = shown.color.filter(|color| color.a > 0).unwrap_or(theme.ink());
    let (min, max) = (style.min.unwrap_or(range.0), style.max.unwrap_or(range.1));
    Stat {
        name,
        ink: base.readable_on(theme.ground()),
        on_color: base.text_on(),
        spark,
        steps: style.thresholds.shares(min, max),
        shown,
    }
}

/// From the least to the greatest of all values, for bars that have no bounds of their own.
fn whole_range(input: &Input<'_>, calc: &str) -> (f64, f64) {
    let numbers = input
        .frames
        .iter()
        .flat_map(|frame| &frame.fields)
        .filter(|field| field.kind == FieldType::Number)
        .filter_map(|field| reduce(&field.cells, calc).number())
        .filter(|number| number.is_finite());
    let (min, max) = numbers.fold((0.0f64, f64::NEG_INFINITY), |(min, max), n| (min.min(n), max.max(n)));
    if max > min { (min, max) } else { (min, min + 1.0) }
}
