//! Steps that make one frame of several.

use std::collections::{BTreeMap, HashMap};

use gantry_prom_model::Labels;
use serde_json::Value;

use super::MOST_ROWS;
use crate::frame::{Cell, Field, FieldType, Frame, display_names, series_name};
use crate::json::{str_at, strings};

/// Rows that agree in all shared fields become one.
pub(super) fn merge(frames: Vec<Frame>) -> Vec<Frame> {
    if frames.len() < 2 {
        return frames;
    }
    let names = display_names(&frames);
    let mut columns: Vec<(String, Field)> = Vec::new();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (frame, names) in frames.iter().zip(&names) {
        for (field, name) in frame.fields.iter().zip(names) {
            *counts.entry(name).or_default() += 1;
            if !columns.iter().any(|(known, _)| known == name) {
                columns.push((name.clone(), Field { cells: Vec::new(), ..field.clone() }));
            }
        }
    }
    // What all frames have tells rows apart; values of their own fill in.
    let shared: Vec<bool> = columns.iter().map(|(name, _)| counts[name.as_str()] == frames.len()).collect();
    let mut rows: HashMap<String, Vec<usize>> = HashMap::new();
    let mut length = 0;
    for (frame, names) in frames.iter().zip(&names) {
        let places: Vec<Option<usize>> =
            columns.iter().map(|(name, _)| names.iter().position(|own| own == name)).collect();
        for row in 0..frame.rows() {
            let cell = |column: usize| places[column].and_then(|place| frame.fields[place].cells.get(row));
            let key: String = (0..columns.len())
                .filter(|column| shared[*column])
                .map(|column| cell(column).map(Cell::key).unwrap_or_default() + "\u{1}")
                .collect();
            let candidates = rows.entry(key).or_default();
            let fits = |at: &&usize| {
                (0..columns.len()).all(|column| match (&columns[column].1.cells[**at], cell(column)) {
                    (Cell::Null, _) | (_, None) => true,
                    (old, Some(new)) => old == new,
                })
            };
            let at = match candidates.iter().find(fits) {
                Some(at) => *at,
                None if length < MOST_ROWS => {
                    columns.iter_mut().for_each(|(_, field)| field.cells.push(Cell::Null));
                    candidates.push(length);
                    length += 1;
                    length - 1
                }
                None => continue,
            };
            for (column, (_, field)) in columns.iter_mut().enumerate() {
                if let Some(cell) = cell(column) {
                    field.cells[at] = cell.clone();
                }
            }
        }
    }
    vec![Frame { fields: columns.into_iter().map(|(_, field)| field).collect(), ..Frame::default() }]
}

/// Frames side by side where a field has the same value; without a name, by time.
pub(super) fn join(frames: Vec<Frame>, by: Option<&str>, is_inner: bool) -> Vec<Frame> {
    let names = display_names(&frames);
    let key_of = |frame: &Frame, names: &[String]| match by.filter(|by| !by.is_empty()) {
        Some(by) => names
            .iter()
            .position(|name| name == by)
            .or_else(|| frame.fields.iter().position(|f| f.name == by)),
        None => frame.fields.iter().position(|field| field.kind == FieldType::Time),
    };
    if frames.iter().zip(&names).all(|(frame, names)| key_of(frame, names).is_none()) {
        return frames;
    }
    let keyed: Vec<(Frame, usize)> = frames
        .into_iter()
        .zip(&names)
        .filter_map(|(frame, names)| key_of(&frame, names).map(|key| (frame, key)))
        .collect();
    if keyed.len() < 2 {
        return keyed.into_iter().map(|(frame, _)| frame).collect();
    }
    let mut keys: Vec<Cell> = Vec::new();
    let mut rows: HashMap<String, usize> = HashMap::new();
    let mut seen: Vec<usize> = Vec::new();
    for (frame, key) in &keyed {
        let mut own = std::collections::HashSet::new();
        for cell in &frame.fields[*key].cells {
            let text = cell.key();
            let next = rows.len();
            let at = *rows.entry(text).or_insert(next);
            if at == keys.len() && at < MOST_ROWS {
                keys.push(cell.clone());
                seen.push(0);
            }
            if at < seen.len() && own.insert(at) {
                seen[at] += 1;
            }
        }
    }
    let mut order: Vec<usize> = (0..keys.len()).filter(|at| !is_inner || seen[*at] == keyed.len()).collect();
    let is_time = keys.iter().all(|key| matches!(key, Cell::Time(_)));
    if is_time {
        order.sort_by(|a, b| keys[*a].number().unwrap_or(0.0).total_cmp(&keys[*b].number().unwrap_or(0.0)));
    }
    let (first, key) = &keyed[0];
    let mut fields = vec![Field {
        cells: order.iter().map(|at| keys[*at].clone()).collect(),
        ..first.fields[*key].clone()
    }];
    for (frame, key) in &keyed {
        let mut place: Vec<Option<usize>> = vec![None; keys.len()];
        for (row, cell) in frame.fields[*key].cells.iter().enumerate() {
            // The first row with a value stands, as in a lookup.
            if let Some(at) = rows.get(&cell.key()).filter(|at| **at < place.len())
                && place[*at].is_none()
            {
                place[*at] = Some(row);
            }
        }
        for field in frame.fields.iter().enumerate().filter(|(index, _)| index != key).map(|(_, field)| field)
        {
            let cell =
                |at: &usize| place[*at].and_then(|row| field.cells.get(row)).cloned().unwrap_or(Cell::Null);
            fields.push(Field { cells: order.iter().map(cell).collect(), ..field.clone() });
        }
    }
    vec![Frame { fields, ..Frame::default() }]
}

/// Time, metric and value of all series in one list, newest first.
pub(super) fn series_to_rows(frames: Vec<Frame>) -> Vec<Frame> {
    let names = display_names(&frames);
    let mut rows: Vec<(Cell, String, Cell)> = Vec::new();
    for (frame, names) in frames.iter().zip(&names) {
        let Some(time) = frame.time() else { continue };
        for (field, name) in
            frame.fields.iter().zip(names).filter(|(field, _)| field.kind == FieldType::Number)
        {
            for (time, value) in time.cells.iter().zip(&field.cells) {
                if rows.len() < MOST_ROWS {
                    rows.push((time.clone(), name.clone(), value.clone()));
                }
            }
        }
    }
    rows.sort_by(|a, b| b.0.number().unwrap_or(0.0).total_cmp(&a.0.number().unwrap_or(0.0)));
    let (mut times, mut metrics, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (time, metric, value) in rows {
        times.push(time);
        metrics.push(Cell::Text(metric));
        values.push(value);
    }
    vec![Frame {
        fields: vec![
            Field::new("Time", FieldType::Time, times),
            Field::new("Metric", FieldType::Text, metrics),
            Field::new("Value", FieldType::Number, values),
        ],
        ..Frame::default()
    }]
}

/// Labels become columns, or rows of names and values.
pub(super) fn labels_to_fields(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let keep = strings(options, "/keepLabels");
    let value_label = str_at(options, "/valueLabel").unwrap_or("");
    let wanted = |name: &str| keep.is_empty() || keep.iter().any(|kept| kept == name);
    if str_at(options, "/mode") == Some("rows") {
        let one = |frame: Frame| {
            let labels =
                frame.fields.iter().find(|field| !field.labels.is_empty()).map(|field| field.labels.clone());
            let labels = labels.unwrap_or_else(Labels::empty);
            let pairs: Vec<(&str, &str)> = labels.iter().filter(|(name, _)| wanted(name)).collect();
            let column = |text: &str| Cell::Text(text.to_owned());
            Frame {
                fields: vec![
                    Field::new(
                        "label",
                        FieldType::Text,
                        pairs.iter().map(|(name, _)| column(name)).collect(),
                    ),
                    Field::new(
                        "value",
                        FieldType::Text,
                        pairs.iter().map(|(_, value)| column(value)).collect(),
                    ),
                ],
                ..frame
            }
        };
        return frames.into_iter().map(one).collect();
    }
    let one = |frame: Frame| {
        let rows = frame.rows();
        let mut columns: BTreeMap<String, String> = BTreeMap::new();
        let mut fields = Vec::new();
        for mut field in frame.fields {
            let labels = std::mem::replace(&mut field.labels, Labels::empty());
            for (name, value) in labels.iter().filter(|(name, _)| wanted(name)) {
                if name == value_label {
                    field.renamed = Some(value.to_owned());
                } else {
                    columns.insert(name.to_owned(), value.to_owned());
                }
            }
            if !labels.is_empty() {
                field.source_name = labels.metric_name().map(str::to_owned);
            }
            fields.push(field);
        }
        let at = fields.iter().position(|field| field.kind != FieldType::Time).unwrap_or(fields.len());
        let labels = columns.into_iter().filter(|(name, _)| name != "__name__");
        let labels =
            labels.map(|(name, value)| Field::new(name, FieldType::Text, vec![Cell::Text(value); rows]));
        fields.splice(at..at, labels);
        Frame { name: String::new(), ref_id: frame.ref_id, fields }
    };
    merge(frames.into_iter().map(one).collect())
}

/// Labels, by name.
type LabelPairs = Vec<(String, String)>;

/// One row per set of labels, one column per value of the label named.
pub(super) fn join_by_labels(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let value_label = str_at(options, "/value").unwrap_or("__name__");
    let join = strings(options, "/join");
    let mut rows: Vec<(LabelPairs, HashMap<String, Cell>)> = Vec::new();
    let (mut names, mut columns): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for field in frames.iter().flat_map(|frame| &frame.fields).filter(|field| field.kind == FieldType::Number)
    {
        let Some(column) = field.labels.get(value_label) else { continue };
        let key: LabelPairs = field
            .labels
            .iter()
            .filter(|(name, _)| {
                *name != value_label && (join.is_empty() || join.iter().any(|wanted| wanted == name))
            })
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for (name, _) in &key {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        if !columns.iter().any(|known| known == column) {
            columns.push(column.to_owned());
        }
        let last = field.cells.last().cloned().unwrap_or(Cell::Null);
        match rows.iter().position(|(known, _)| *known == key) {
            Some(at) => drop(rows[at].1.insert(column.to_owned(), last)),
            None if rows.len() < MOST_ROWS => rows.push((key, HashMap::from([(column.to_owned(), last)]))),
            None => {}
        }
    }
    let label = |name: &String| {
        let cell = |(key, _): &(Vec<(String, String)>, _)| {
            key.iter().find(|(own, _)| own == name).map_or(Cell::Null, |(_, value)| Cell::Text(value.clone()))
        };
        Field::new(name.clone(), FieldType::Text, rows.iter().map(cell).collect())
    };
    let value = |name: &String| {
        let cells = rows.iter().map(|(_, cells)| cells.get(name).cloned().unwrap_or(Cell::Null)).collect();
        Field::new(name.clone(), FieldType::Number, cells)
    };
    let fields = names.iter().map(label).chain(columns.iter().map(value)).collect();
    vec![Frame { fields, ..Frame::default() }]
}

/// The labels of a series as one text, where a column has to name it.
pub(super) fn name_for(field: &Field, name: &str) -> String {
    if name.is_empty() { series_name(&field.labels) } else { name.to_owned() }
}
