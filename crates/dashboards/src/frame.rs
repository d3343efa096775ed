//! Answers as tables of columns, as panels and transformations work with them.

use gantry_prom_model::Labels;

use crate::model::Format;
use crate::plan::{PlannedQuery, When};
use crate::source::Answer;

/// One value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Number(f64),
    Text(String),
    /// Milliseconds since 1970.
    Time(i64),
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    Time,
    Number,
    Text,
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub kind: FieldType,
    pub labels: Labels,
    /// The legend its query gave it.
    pub source_name: Option<String>,
    /// Given by a transformation, above everything else.
    pub renamed: Option<String>,
    pub ref_id: String,
    pub cells: Vec<Cell>,
}

/// Columns of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    pub name: String,
    pub ref_id: String,
    pub fields: Vec<Field>,
}

// === impl Cell ===

impl Cell {
    pub fn number(&self) -> Option<f64> {
        match self {
            Cell::Number(number) => Some(*number),
            Cell::Time(ms) => Some(*ms as f64),
            Cell::Text(text) => text.trim().parse().ok(),
            Cell::Null => None,
        }
    }

    /// A text that is the same for equal cells.
    pub fn key(&self) -> String {
        match self {
            Cell::Null => String::new(),
            Cell::Number(number) => number.to_string(),
            Cell::Text(text) => text.clone(),
            Cell::Time(ms) => ms.to_string(),
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Cell::Null)
    }
}

// === impl Field ===

impl Field {
    pub fn new(name: impl Into<String>, kind: FieldType, cells: Vec<Cell>) -> Field {
        Field {
            name: name.into(),
            kind,
            labels: Labels::empty(),
            source_name: None,
            renamed: None,
            ref_id: String::new(),
            cells,
        }
    }

    /// Its values as numbers; what is none is missing.
    pub fn numbers(&self) -> impl Iterator<Item = Option<f64>> + '_ {
        self.cells.iter().map(|cell| match cell {
            Cell::Number(number) => Some(*number),
            _ => None,
        })
    }
}

// === impl Frame ===

impl Frame {
    pub fn rows(&self) -> usize {
        self.fields.iter().map(|field| field.cells.len()).max().unwrap_or(0)
    }

    pub fn time(&self) -> Option<&Field> {
        self.fields.iter().find(|field| field.kind == FieldType::Time)
    }

    /// A time column and values: a series of a chart.
    pub fn is_series(&self) -> bool {
        self.time().is_some() && self.fields.iter().any(|field| field.kind == FieldType::Number)
    }
}

/// `name{a="1", b="2"}`
pub fn series_name(labels: &Labels) -> String {
    let mut out = labels.metric_name().unwrap_or_default().to_owned();
    let pairs: Vec<String> = labels
        .iter()
        .filter(|(name, _)| *name != "__name__")
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    if !pairs.is_empty() || out.is_empty() {
        out.push_str(&format!("{{{}}}", pairs.join(", ")));
    }
    out
}

/// `{{label}}` replaced by the label's value, by nothing when there is no such label.
fn legend(template: &str, labels: &Labels) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find("{{") {
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let Some(end) = inner.find("}}") else {
            rest = &rest[at..];
            break;
        };
        out.push_str(labels.get(inner[..end].trim()).unwrap_or(""));
        rest = &inner[end + 2..];
    }
    out.push_str(rest);
    out
}

fn name_of(query: &PlannedQuery, labels: &Labels) -> Option<String> {
    let name = match query.legend.as_str() {
        // The label that tells series apart is found when all are known.
        "__auto" if !labels.is_empty() => return None,
        "" | "__auto" => series_name(labels),
        template => legend(template, labels),
    };
    Some(if name == "{}" { query.expr.clone() } else { name })
}

fn number(value: f64) -> Cell {
    Cell::Number(value)
}

/// The frames of one answer. `tables` is how many queries of the panel answer as tables.
pub(crate) fn frames(query: &PlannedQuery, answer: &Answer, tables: usize) -> Vec<Frame> {
    match query.format {
        Format::Table => vec![table(query, answer, tables)],
        Format::Heatmap => buckets(query, answer),
        Format::TimeSeries => series(query, answer),
    }
}

fn series(query: &PlannedQuery, answer: &Answer) -> Vec<Frame> {
    let one = |series: &crate::source::Series| {
        let times = series.times_ms.iter().map(|ms| Cell::Time(*ms)).collect();
        let values = series.values.iter().map(|value| number(*value)).collect();
        let name = name_of(query, &series.labels);
        let mut value = Field::new("Value", FieldType::Number, values);
        value.labels = series.labels.clone();
        value.source_name = name.clone();
        value.ref_id = query.ref_id.clone();
        Frame {
            name: name.unwrap_or_default(),
            ref_id: query.ref_id.clone(),
            fields: vec![Field::new("Time", FieldType::Time, times), value],
        }
    };
    answer.series.iter().map(one).collect()
}

fn table(query: &PlannedQuery, answer: &Answer, tables: usize) -> Frame {
    let mut names: Vec<&str> =
        answer.series.iter().flat_map(|series| series.labels.iter().map(|(name, _)| name)).collect();
    names.sort_unstable();
    names.dedup();
    let rows = answer.series.iter().flat_map(|series| {
        series.times_ms.iter().zip(&series.values).map(move |(time, value)| (series, *time, *value))
    });
    let rows: Vec<_> = rows.collect();
    let mut fields = vec![Field::new(
        "Time",
        FieldType::Time,
        rows.iter().map(|(_, time, _)| Cell::Time(*time)).collect(),
    )];
    for name in names {
        let cells = rows.iter().map(|(series, _, _)| match series.labels.get(name) {
            // Bounds of buckets sort as numbers.
            Some(value) if name == "le" && value.parse::<f64>().is_ok() => {
                number(value.parse().unwrap_or(f64::NAN))
            }
            Some(value) => Cell::Text(value.to_owned()),
            None => Cell::Null,
        });
        let cells: Vec<Cell> = cells.collect();
        let kind = if name == "le" { FieldType::Number } else { FieldType::Text };
        fields.push(Field::new(name, kind, cells));
    }
    let name = if tables > 1 { format!("Value #{}", query.ref_id) } else { "Value".to_owned() };
    let mut value =
        Field::new(name, FieldType::Number, rows.iter().map(|(_, _, value)| number(*value)).collect());
    value.ref_id = query.ref_id.clone();
    fields.push(value);
    Frame { name: String::new(), ref_id: query.ref_id.clone(), fields }
}

/// Cumulative buckets taken apart: one frame per bucket, named by its bound, smallest first.
fn buckets(query: &PlannedQuery, answer: &Answer) -> Vec<Frame> {
    let bound = |labels: &Labels| labels.get("le").and_then(gantry_prom_model::parse_float);
    let mut list: Vec<(f64, &crate::source::Series)> =
        answer.series.iter().map(|series| (bound(&series.labels).unwrap_or(f64::INFINITY), series)).collect();
    let is_cumulative = answer.series.iter().any(|series| series.labels.has("le"));
    list.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut below: std::collections::HashMap<i64, f64> = std::collections::HashMap::new();
    let mut out = Vec::with_capacity(list.len());
    for (_, series) in list {
        let mut own = Vec::with_capacity(series.values.len());
        for (time, value) in series.times_ms.iter().zip(&series.values) {
            let before = if is_cumulative { below.insert(*time, *value).unwrap_or(0.0) } else { 0.0 };
            own.push(number((value - before).max(0.0)));
        }
        let name = match series.labels.get("le") {
            Some(le) => le.to_owned(),
            None => name_of(query, &series.labels).unwrap_or_else(|| series_name(&series.labels)),
        };
        let mut value = Field::new(name.clone(), FieldType::Number, own);
        value.ref_id = query.ref_id.clone();
        value.source_name = Some(name.clone());
        let times = series.times_ms.iter().map(|ms| Cell::Time(*ms)).collect();
        out.push(Frame {
            name,
            ref_id: query.ref_id.clone(),
            fields: vec![Field::new("Time", FieldType::Time, times), value],
        });
    }
    out
}

/// The distance of points, where there is one.
pub(crate) fn step_of(when: When) -> Option<i64> {
    match when {
        When::Range { step_ms, .. } => Some(step_ms),
        When::Instant { .. } => None,
    }
}

/// The names a viewer sees, for every field of every frame.
///
/// What a transformation, a query's legend or the labels say, in this order; alike names within a frame are numbered.
pub(crate) fn display_names(frames: &[Frame]) -> Vec<Vec<String>> {
    let single = single_label(frames);
    let name = |frame: &Frame, field: &Field| -> String {
        if let Some(name) = field.renamed.as_ref().or(field.source_name.as_ref()) {
            return name.clone();
        }
        if field.labels.is_empty() || field.kind == FieldType::Time {
            let is_alone = field.name == "Value" && !frame.name.is_empty();
            return if is_alone { frame.name.clone() } else { field.name.clone() };
        }
        let own_name = field.labels.metric_name();
        if let Some(label) = &single {
            return field.labels.get(label).unwrap_or(&field.name).to_owned();
        }
        let pairs = series_name(&field.labels.without_name());
        match (field.name.as_str(), own_name) {
            ("Value", None) => pairs,
            ("Value", Some(metric)) => format!("{metric}{pairs}"),
            (name, _) => format!("{name} {pairs}"),
        }
    };
    frames
        .iter()
        .map(|frame| {
            let mut names: Vec<String> = frame.fields.iter().map(|field| name(frame, field)).collect();
            number_alike(frame, &mut names);
            names
        })
        .collect()
}

/// `Time 1`, `Time 2`: joined frames bring columns of the same name.
fn number_alike(frame: &Frame, names: &mut [String]) {
    let original = names.to_vec();
    for index in 0..names.len() {
        if frame.fields[index].renamed.is_some() {
            continue;
        }
        let alike: Vec<usize> =
            (0..original.len()).filter(|other| original[*other] == original[index]).collect();
        if alike.len() > 1 {
            let place = alike.iter().position(|other| *other == index).unwrap_or(0) + 1;
            names[index] = format!("{} {place}", original[index]);
        }
    }
}

/// The one label that all labelled fields have and have nothing beside.
fn single_label(frames: &[Frame]) -> Option<String> {
    let mut found: Option<&str> = None;
    for labels in
        frames.iter().flat_map(|frame| &frame.fields).map(|field| &field.labels).filter(|l| !l.is_empty())
    {
        let mut names = labels.iter().map(|(name, _)| name).filter(|name| *name != "__name__");
        let only = names.next()?;
        if names.next().is_some() || found.is_some_and(|found| found != only) {
            return None;
        }
        found = Some(only);
    }
    found.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legends_name_series() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "api"), ("pod", "a")]);
        assert_eq!(series_name(&labels), "up{job=\"api\", pod=\"a\"}");
        assert_eq!(legend("{{ job }}/{{pod}} {{none}}!", &labels), "api/a !");
        assert_eq!(legend("{{open", &labels), "{{open");
        assert_eq!(series_name(&Labels::empty()), "{}");
    }

    #[test]
    fn alike_columns_are_numbered_and_one_label_is_enough() {
        let time = || Field::new("Time", FieldType::Time, Vec::new());
        let frame = Frame { fields: vec![time(), time()], ..Frame::default() };
        assert_eq!(display_names(&[frame]), [["Time 1", "Time 2"]]);
        let value = |pod: &str| {
            let mut field = Field::new("Value", FieldType::Number, Vec::new());
            field.labels = Labels::from_pairs([("pod", pod)]);
            Frame { fields: vec![time(), field], ..Frame::default() }
        };
        assert_eq!(display_names(&[value("a"), value("b")]), [["Time", "a"], ["Time", "b"]]);
    }
}
