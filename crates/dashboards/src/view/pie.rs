//! A pie chart: one slice per value.

use serde::Serialize;

use super::Input;
use crate::color::{self, Color};
use crate::frame::FieldType;
use crate::json::{flag, str_at, strings};
use crate::reduce::reduce;

const MOST_SLICES: usize = 60;

#[derive(Clone, Debug, Serialize)]
pub struct Pie {
    pub slices: Vec<Slice>,
    pub donut: bool,
    /// What is written on slices: `name`, `value`, `percent`.
    pub labels: Vec<String>,
    pub legend: bool,
    pub legend_right: bool,
    pub legend_values: Vec<String>,
    pub left_out: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Slice {
    pub name: String,
    pub text: String,
    /// Of the whole, 0 to 1.
    pub share: f64,
    pub color: Color,
}

pub(super) fn pie(input: &Input<'_>) -> Pie {
    let options = &input.panel.options;
    let calcs = strings(options, "/reduceOptions/calcs");
    let calc = calcs.first().map_or("lastNotNull", String::as_str);
    let mut values = Vec::new();
    for seen in input.fields().filter(|seen| seen.field.kind == FieldType::Number) {
        let cell = reduce(&seen.field.cells, calc);
        let Some(value) = cell.number().filter(|value| value.is_finite() && *value > 0.0) else { continue };
        let shown = seen.style.show(&cell, input.scope.locale, (0.0, 1.0));
        let own = seen.style.fixed_color.filter(|_| seen.style.color_mode == "fixed");
        values.push((seen.name, shown.written.joined(), value, own));
    }
    values.sort_by(|a, b| b.2.total_cmp(&a.2));
    let total: f64 = values.iter().map(|(_, _, value, _)| value).sum();
    let left_out = values.len().saturating_sub(MOST_SLICES);
    let slice = |(at, (name, text, value, own)): (usize, (String, String, f64, Option<Color>))| Slice {
        name,
        text,
        share: if total > 0.0 { value / total } else { 0.0 },
        color: own.unwrap_or_else(|| color::of_series(at, "")).visible_on(input.look.theme.ground()),
    };
    Pie {
        slices: values.into_iter().take(MOST_SLICES).enumerate().map(slice).collect(),
        donut: str_at(options, "/pieType") == Some("donut"),
        labels: strings(options, "/displayLabels"),
        legend: flag(options, "/legend/showLegend").unwrap_or(true),
        legend_right: str_at(options, "/legend/placement") != Some("bottom"),
        legend_values: strings(options, "/legend/values"),
        left_out,
    }
}
