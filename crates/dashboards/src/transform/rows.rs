//! Steps on the rows of each frame.

use std::collections::HashMap;

use serde_json::Value;

use super::combine::name_for;
use crate::frame::{Cell, Field, FieldType, Frame, display_names};
use crate::json::{flag, is_set, list, number, str_at, strings, text};
use crate::reduce::{reduce as reduce_cells, reducer_name};
use crate::scope::{Purpose, Scope};

/// One row per group, with the calculations asked for.
pub(super) fn group_by(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let names = display_names(&frames);
    let operation = |name: &str| options.pointer("/fields").and_then(|fields| fields.get(name));
    let one = |(frame, names): (Frame, Vec<String>)| {
        let is = |name: &String, what: &str| {
            operation(name).is_some_and(|o| str_at(o, "/operation") == Some(what))
        };
        let keys: Vec<usize> = (0..names.len()).filter(|index| is(&names[*index], "groupby")).collect();
        if keys.is_empty() {
            return frame;
        }
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for row in 0..frame.rows() {
            let key: String = keys
                .iter()
                .map(|key| frame.fields[*key].cells.get(row).map(Cell::key).unwrap_or_default() + "\u{1}")
                .collect();
            let next = groups.len();
            let at = *places.entry(key).or_insert(next);
            if at == groups.len() {
                groups.push(Vec::new());
            }
            groups[at].push(row);
        }
        let first = |field: &Field| {
            groups
                .iter()
                .map(|rows| field.cells.get(rows[0]).cloned().unwrap_or(Cell::Null))
                .collect::<Vec<_>>()
        };
        let mut fields: Vec<Field> = keys
            .iter()
            .map(|key| Field { cells: first(&frame.fields[*key]), ..frame.fields[*key].clone() })
            .collect();
        for (field, name) in frame.fields.iter().zip(&names).filter(|(_, name)| is(name, "aggregate")) {
            for calc in operation(name).map(|o| strings(o, "/aggregations")).unwrap_or_default() {
                let cell = |rows: &Vec<usize>| {
                    let cells: Vec<Cell> =
                        rows.iter().filter_map(|row| field.cells.get(*row).cloned()).collect();
                    reduce_cells(&cells, &calc)
                };
                let cells: Vec<Cell> = groups.iter().map(cell).collect();
                let mut out = Field::new(format!("{name} ({calc})"), kind_of(&cells, field.kind), cells);
                out.ref_id.clone_from(&field.ref_id);
                fields.push(out);
            }
        }
        Frame { fields, ..frame }
    };
    frames.into_iter().zip(names).map(one).collect()
}

fn kind_of(cells: &[Cell], otherwise: FieldType) -> FieldType {
    match cells.iter().find(|cell| !cell.is_null()) {
        Some(Cell::Number(_)) => FieldType::Number,
        Some(Cell::Text(_)) => FieldType::Text,
        Some(Cell::Time(_)) => FieldType::Time,
        _ => otherwise,
    }
}

/// Every field as a row with its calculations, or every field cut down to one value.
pub(super) fn reduce(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let calcs = strings(options, "/reducers");
    let with_time = is_set(options, "/includeTimeField");
    let is_wanted =
        |field: &Field| field.kind == FieldType::Number || (with_time && field.kind == FieldType::Time);
    let names = display_names(&frames);
    if str_at(options, "/mode") == Some("reduceFields") {
        let calc = calcs.first().map_or("lastNotNull", String::as_str).to_owned();
        let one = |frame: Frame| {
            let fields = frame.fields.into_iter().filter(|field| with_time || field.kind != FieldType::Time);
            let fields = fields
                .map(|field| Field { cells: vec![reduce_cells(&field.cells, &calc)], ..field })
                .collect();
            Frame { name: frame.name, ref_id: frame.ref_id, fields }
        };
        return frames.into_iter().map(one).collect();
    }
    let with_labels = flag(options, "/labelsToFields").unwrap_or(false);
    let fields: Vec<(&Field, &String)> = frames
        .iter()
        .zip(&names)
        .flat_map(|(frame, names)| frame.fields.iter().zip(names))
        .filter(|(field, _)| is_wanted(field))
        .collect();
    let mut columns = vec![Field::new(
        "Field",
        FieldType::Text,
        fields.iter().map(|(f, name)| Cell::Text(name_for(f, name))).collect(),
    )];
    if with_labels {
        let mut labels: Vec<&str> =
            fields.iter().flat_map(|(field, _)| field.labels.iter().map(|(name, _)| name)).collect();
        labels.sort_unstable();
        labels.dedup();
        for label in labels {
            let cell = |(field, _): &(&Field, &String)| {
                field.labels.get(label).map_or(Cell::Null, |value| Cell::Text(value.to_owned()))
            };
            columns.push(Field::new(label, FieldType::Text, fields.iter().map(cell).collect()));
        }
    }
    for calc in &calcs {
        let cells: Vec<Cell> = fields.iter().map(|(field, _)| reduce_cells(&field.cells, calc)).collect();
        columns.push(Field::new(reducer_name(calc), kind_of(&cells, FieldType::Number), cells));
    }
    vec![Frame { fields: columns, ..Frame::default() }]
}

fn order(a: &Cell, b: &Cell) -> std::cmp::Ordering {
    match (a, b) {
        (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
        (a, b) => a.number().unwrap_or(f64::NEG_INFINITY).total_cmp(&b.number().unwrap_or(f64::NEG_INFINITY)),
    }
}

fn reorder(frame: Frame, rows: &[usize]) -> Frame {
    let pick = |field: Field| {
        let cells = rows.iter().map(|row| field.cells.get(*row).cloned().unwrap_or(Cell::Null)).collect();
        Field { cells, ..field }
    };
    Frame { fields: frame.fields.into_iter().map(pick).collect(), name: frame.name, ref_id: frame.ref_id }
}

/// Sorts a frame's rows by one field.
pub(crate) fn sort_rows(frame: Frame, by: usize, descending: bool) -> Frame {
    let Some(field) = frame.fields.get(by) else { return frame };
    let mut rows: Vec<usize> = (0..frame.rows()).collect();
    let cell = |row: usize| field.cells.get(row).unwrap_or(&Cell::Null);
    rows.sort_by(|a, b| if descending { order(cell(*b), cell(*a)) } else { order(cell(*a), cell(*b)) });
    reorder(frame, &rows)
}

pub(super) fn sort_by(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let Some(sort) = list(options, "/sort").first() else { return frames };
    let (Some(name), descending) = (text(sort, "/field"), is_set(sort, "/desc")) else { return frames };
    let names = display_names(&frames);
    let one = |(frame, names): (Frame, Vec<String>)| match names.iter().position(|own| *own == name) {
        Some(by) => sort_rows(frame, by, descending),
        None => frame,
    };
    frames.into_iter().zip(names).map(one).collect()
}

pub(super) fn limit(frames: Vec<Frame>, options: &Value, scope: &Scope) -> Vec<Frame> {
    let most = text(options, "/limitField").map(|text| scope.expand(&text, None, Purpose::Text));
    let most = most.and_then(|text| text.parse::<usize>().ok()).unwrap_or(10);
    let one = |frame: Frame| {
        let rows: Vec<usize> = (0..frame.rows().min(most)).collect();
        reorder(frame, &rows)
    };
    frames.into_iter().map(one).collect()
}

pub(super) fn filter_by_value(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let filters = list(options, "/filters");
    let keeps = str_at(options, "/type") != Some("exclude");
    let needs_all = str_at(options, "/match") != Some("any");
    let names = display_names(&frames);
    let one = |(frame, names): (Frame, Vec<String>)| {
        let fits = |row: usize| {
            let mut verdicts = filters.iter().filter_map(|filter| {
                let at = names.iter().position(|name| text(filter, "/fieldName").as_ref() == Some(name))?;
                passes(frame.fields[at].cells.get(row).unwrap_or(&Cell::Null), filter)
            });
            if needs_all { verdicts.all(|fits| fits) } else { verdicts.any(|fits| fits) }
        };
        let rows: Vec<usize> = (0..frame.rows()).filter(|row| fits(*row) == keeps).collect();
        reorder(frame, &rows)
    };
    frames.into_iter().zip(names).map(one).collect()
}

fn passes(cell: &Cell, filter: &Value) -> Option<bool> {
    let own = cell.number();
    let value = number(filter, "/config/options/value");
    let compare =
        |fits: fn(f64, f64) -> bool| Some(own.zip(value).is_some_and(|(own, value)| fits(own, value)));
    match str_at(filter, "/config/id")? {
        "greater" => compare(|own, value| own > value),
        "greaterOrEqual" => compare(|own, value| own >= value),
        "lower" => compare(|own, value| own < value),
        "lowerOrEqual" => compare(|own, value| own <= value),
        "equal" => Some(Some(cell.key()) == text(filter, "/config/options/value")),
        "notEqual" => Some(Some(cell.key()) != text(filter, "/config/options/value")),
        "isNull" => Some(cell.is_null()),
        "isNotNull" => Some(!cell.is_null()),
        "between" => {
            let (from, to) = (number(filter, "/config/options/from")?, number(filter, "/config/options/to")?);
            Some(own.is_some_and(|own| from <= own && own <= to))
        }
        "regex" => {
            let pattern = text(filter, "/config/options/value")?;
            let regex = fancy_regex::Regex::new(&pattern).ok()?;
            Some(regex.is_match(&cell.key()).unwrap_or(false))
        }
        _ => None,
    }
}

/// A new field of two others, or of the numbers of each row.
pub(super) fn calculate(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    // Series are put side by side first, so that rows hold all of one moment.
    let is_many_series = frames.len() > 1 && frames.iter().all(|frame| frame.time().is_some());
    let frames = if is_many_series { super::combine::join(frames, None, false) } else { frames };
    let names = display_names(&frames);
    let replaces = is_set(options, "/replaceFields");
    let one = |(mut frame, names): (Frame, Vec<String>)| {
        let rows = frame.rows();
        let (cells, name) = match str_at(options, "/mode").unwrap_or("reduceRow") {
            "binary" => {
                let side = |side: &str| {
                    text(options, &format!("/binary/{side}"))
                        .or_else(|| text(options, &format!("/binary/{side}/matcher/options")))
                        .or_else(|| text(options, &format!("/binary/{side}/fixed")))
                        .unwrap_or_default()
                };
                let (left, right) = (side("left"), side("right"));
                let operator =
                    str_at(options, "/binary/operator").or(str_at(options, "/binary/reducer")).unwrap_or("+");
                let value = |side: &str, row: usize| match names.iter().position(|name| name == side) {
                    Some(at) => frame.fields[at].cells.get(row).and_then(Cell::number),
                    None => side.trim().parse().ok(),
                };
                let cell = |row| match (value(&left, row), value(&right, row)) {
                    (Some(a), Some(b)) => arithmetic(a, b, operator).map_or(Cell::Null, Cell::Number),
                    _ => Cell::Null,
                };
                ((0..rows).map(cell).collect::<Vec<_>>(), format!("{left} {operator} {right}"))
            }
            "reduceRow" => {
                let include = strings(options, "/reduce/include");
                let calc = str_at(options, "/reduce/reducer").unwrap_or("sum");
                let chosen: Vec<&Field> = frame
                    .fields
                    .iter()
                    .zip(&names)
                    .filter(|(field, name)| {
                        field.kind == FieldType::Number && (include.is_empty() || include.contains(name))
                    })
                    .map(|(field, _)| field)
                    .collect();
                let cell = |row: usize| {
                    let cells: Vec<Cell> =
                        chosen.iter().filter_map(|field| field.cells.get(row).cloned()).collect();
                    reduce_cells(&cells, calc)
                };
                ((0..rows).map(cell).collect(), reducer_name(calc).to_owned())
            }
            "index" => ((0..rows).map(|row| Cell::Number(row as f64)).collect(), "Row".to_owned()),
            _ => return frame,
        };
        let name = text(options, "/alias").filter(|alias| !alias.is_empty()).unwrap_or(name);
        if replaces {
            frame.fields.retain(|field| field.kind == FieldType::Time);
        }
        frame.fields.push(Field::new(name, FieldType::Number, cells));
        frame
    };
    frames.into_iter().zip(names).map(one).collect()
}

fn arithmetic(a: f64, b: f64, operator: &str) -> Option<f64> {
    match operator {
        "+" => Some(a + b),
        "-" => Some(a - b),
        "*" => Some(a * b),
        "/" => Some(a / b),
        "%" => Some(a % b),
        "**" | "^" => Some(a.powf(b)),
        _ => None,
    }
}
