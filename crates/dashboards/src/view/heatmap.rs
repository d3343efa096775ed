//! A heat map: buckets over time, coloured by how much fell into them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Input;
use crate::color::{self, Color};
use crate::frame::{Cell, FieldType};
use crate::json::{number, str_at, text};
use crate::units::Unit;

const MOST_BUCKETS: usize = 200;
const MOST_TIMES: usize = 2000;
const SHADES: usize = 32;

#[derive(Clone, Debug, Serialize)]
pub struct Heatmap {
    pub from_ms: i64,
    pub to_ms: i64,
    pub step_ms: i64,
    pub times_ms: Vec<i64>,
    /// Upper bounds of the buckets, from below.
    pub buckets: Vec<String>,
    /// Per bucket, per time: which colour, 0 for none.
    pub cells: Vec<Vec<u8>>,
    /// Per bucket, per time.
    pub values: Vec<Vec<Option<f64>>>,
    pub colors: Vec<Color>,
}

pub(super) fn heatmap(input: &Input<'_>) -> Heatmap {
    let options = &input.panel.options;
    let unit_id = text(options, "/yAxis/unit")
        .or_else(|| text(&input.panel.field_defaults, "/unit"))
        .unwrap_or_default();
    let unit = Unit::of(&unit_id);
    let decimals = number(options, "/yAxis/decimals").map(|decimals| decimals.max(0.0) as u32);
    let bound = |name: &str| match name.parse::<f64>() {
        Ok(value) => unit.write(value, decimals, input.scope.locale).joined(),
        Err(_) => name.replace("+Inf", "∞"),
    };
    let step_ms = input
        .plan
        .queries
        .iter()
        .filter_map(|query| crate::frame::step_of(query.when))
        .max()
        .unwrap_or(15_000);
    let mut places: BTreeMap<i64, usize> = BTreeMap::new();
    let fields: Vec<_> =
        input.fields().filter(|seen| seen.field.kind == FieldType::Number).take(MOST_BUCKETS).collect();
    for time in fields.iter().filter_map(|seen| seen.frame.time()).flat_map(|time| &time.cells) {
        if let Cell::Time(ms) = time {
            places.insert(*ms, 0);
        }
    }
    while places.len() > MOST_TIMES {
        places.pop_first();
    }
    places.values_mut().enumerate().for_each(|(at, place)| *place = at);
    let mut buckets = Vec::new();
    let mut values: Vec<Vec<Option<f64>>> = Vec::new();
    for seen in &fields {
        let mut row = vec![None; places.len()];
        let times = seen.frame.time().map(|time| time.cells.as_slice()).unwrap_or_default();
        for (time, value) in times.iter().zip(seen.field.numbers()) {
            if let (Cell::Time(ms), Some(value)) = (time, value)
                && let Some(place) = places.get(ms)
            {
                row[*place] = Some(value).filter(|value| value.is_finite());
            }
        }
        buckets.push(bound(&seen.name));
        values.push(row);
    }
    let most = values.iter().flatten().flatten().copied().fold(0.0f64, f64::max);
    let exponent = number(options, "/color/exponent").unwrap_or(0.5).clamp(0.1, 2.0);
    let shade = |value: &Option<f64>| match value {
        Some(value) if *value > 1e-9 && most > 0.0 => {
            1 + ((value / most).powf(exponent) * (SHADES - 1) as f64).round().clamp(0.0, (SHADES - 1) as f64)
                as u8
        }
        _ => 0,
    };
    Heatmap {
        from_ms: input.plan.from_ms,
        to_ms: input.plan.to_ms,
        step_ms,
        cells: values.iter().map(|row| row.iter().map(shade).collect()).collect(),
        times_ms: places.into_keys().collect(),
        buckets,
        values,
        colors: shades(input),
    }
}

/// From little to much.
fn shades(input: &Input<'_>) -> Vec<Color> {
    let options = &input.panel.options;
    let theme = input.look.theme;
    let ground = theme.ground();
    let fill = str_at(options, "/color/fill")
        .and_then(|name| color::named(name, theme))
        .unwrap_or(Color::hex(0xFA6400));
    let scheme =
        str_at(options, "/color/scheme").filter(|_| str_at(options, "/color/mode") != Some("opacity"));
    let scale = scheme
        .and_then(|scheme| color::scale(scheme, theme))
        .unwrap_or_else(|| vec![ground.mix(fill, 0.2), fill]);
    (0..SHADES).map(|at| color::along(&scale, at as f64 / (SHADES - 1) as f64)).collect()
}
