//! Tables: what `kubectl get` shows, made here and not in the client.
//!
//! Invariant: a row's cells but its age depend on the object alone, so they are kept with it and made once.

mod custom;
mod kinds;
mod pods;

use std::sync::Arc;

use bytes::Bytes;
use gantry_apimachinery::{Map, Value, time};

use crate::query::Query;
use crate::response;
use crate::rest::{Call, present_metadata};
use crate::store::Object;

/// The metadata of a list.
#[derive(Default)]
pub(crate) struct ListMeta {
    pub(crate) revision: String,
    pub(crate) continuation: String,
    pub(crate) remaining: Option<usize>,
}

/// Whether a table describes its columns; within a watch only the first one does.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Columns {
    Shown,
    Hidden,
}

/// One column of a built-in kind.
pub(crate) struct Column {
    name: &'static str,
    /// 1 for what only `-o wide` shows.
    priority: i64,
    cell: Cell,
}

/// How a cell is made.
#[derive(Clone, Copy)]
enum Cell {
    Name,
    /// Time since a timestamp at this path; the path is that of the creation for most kinds.
    Age(&'static [&'static str]),
    /// Time since a timestamp that must be looked for; the text is shown where there is none.
    Since(for<'v> fn(&'v Value) -> Option<&'v str>, fn(&Value) -> Value),
    Of(fn(&Value) -> Value),
}

const CREATED: &[&str] = &["metadata", "creationTimestamp"];
const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";

const fn column(name: &'static str, cell: fn(&Value) -> Value) -> Column {
    Column { name, priority: 0, cell: Cell::Of(cell) }
}

const fn wide(name: &'static str, cell: fn(&Value) -> Value) -> Column {
    Column { name, priority: 1, cell: Cell::Of(cell) }
}

const NAME: Column = Column { name: "Name", priority: 0, cell: Cell::Name };
const AGE: Column = Column { name: "Age", priority: 0, cell: Cell::Age(CREATED) };

impl ListMeta {
    pub(crate) fn to_value(&self) -> Value {
        let mut meta = Map::new();
        meta.insert("resourceVersion", self.revision.as_str());
        if !self.continuation.is_empty() {
            meta.insert("continue", self.continuation.as_str());
        }
        if let Some(remaining) = self.remaining {
            meta.insert("remainingItemCount", remaining as i64);
        }
        meta.into()
    }
}

pub(crate) fn render(call: &Call, objects: &[&Object], meta: &ListMeta, columns: Columns) -> Bytes {
    let now_ms = call.server.clock.now_ms();
    let custom = call.resource.custom.as_deref();
    let built_in = kinds::columns(call.resource.id());
    let mut head = Map::new();
    head.insert("kind", "Table");
    head.insert("apiVersion", "meta.k8s.io/v1");
    head.insert("metadata", meta.to_value());
    let definitions = match (columns, custom) {
        (Columns::Hidden, _) => Value::NULL,
        (Columns::Shown, Some(custom)) => custom::definitions(custom),
        (Columns::Shown, None) => built_in.iter().map(definition).collect::<Vec<_>>().into(),
    };
    head.insert("columnDefinitions", definitions);
    let mut out = response::to_json(&head.into());
    out.pop();
    out.extend_from_slice(b",\"rows\":[");
    let include = Include::parse(&call.query);
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"cells\":");
        let cells = cells(object, built_in, custom);
        write_cells(&mut out, &cells, now_ms);
        match include {
            Include::None => {}
            Include::Metadata => {
                out.extend_from_slice(b",\"object\":");
                out.extend_from_slice(&response::to_json(&present_metadata(&object.value())));
            }
            Include::Object => {
                out.extend_from_slice(b",\"object\":");
                out.extend_from_slice(&crate::rest::object_json(&call.resource, object));
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}\n");
    out.into()
}

/// What of the object comes with a row.
#[derive(Clone, Copy)]
enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    fn parse(query: &Query) -> Include {
        match query.get("includeObject") {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        }
    }
}

fn definition(column: &Column) -> Value {
    let mut definition = Map::new();
    definition.insert("name", column.name);
    definition.insert("type", "string");
    definition.insert("format", if matches!(column.cell, Cell::Name) { "name" } else { "" });
    definition.insert("description", "");
    definition.insert("priority", column.priority);
    definition.into()
}

/// A row's cells as JSON, with a mark where an age goes. Kept with the object, whose version it holds for.
fn cells(object: &Object, built_in: &[Column], custom: Option<&crate::resources::Custom>) -> Arc<str> {
    if let Some(custom) = custom {
        // Several versions can show different columns, so these are not kept.
        return custom::cells(custom, &object.value()).into();
    }
    object.cells.get_or_init(|| built_in_cells(object, built_in).into()).clone()
}

/// Stands for an age: the timestamp in milliseconds follows, up to the next one. Cannot occur in JSON.
const AGE_MARK: char = '\u{1}';
/// The same within a text, where JSON escapes it.
const AGE_MARK_IN_TEXT: &str = "\\u0002";

fn age_cell(timestamp: Option<&str>) -> String {
    match timestamp.and_then(time::parse_time) {
        Some(ms) => format!("{AGE_MARK}{ms}{AGE_MARK}"),
        None => format!("\"{UNKNOWN}\""),
    }
}

fn built_in_cells(object: &Object, columns: &[Column]) -> String {
    let value = object.value();
    let mut out = String::from("[");
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        match column.cell {
            Cell::Name => out.push_str(&json_text(&object.key.name)),
            Cell::Age(path) => out.push_str(&age_cell(value.str_at(path))),
            Cell::Since(since, otherwise) => match since(&value) {
                Some(timestamp) => out.push_str(&age_cell(Some(timestamp))),
                None => out.push_str(&serde_json::to_string(&otherwise(&value)).unwrap_or_default()),
            },
            Cell::Of(cell) => out.push_str(&serde_json::to_string(&cell(&value)).unwrap_or_default()),
        }
    }
    out.push(']');
    out
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn write_cells(out: &mut Vec<u8>, cells: &str, now_ms: i64) {
    if cells.contains(AGE_MARK_IN_TEXT) {
        let parts = cells.split(AGE_MARK_IN_TEXT).enumerate();
        let filled: String = parts
            .map(|(index, part)| if index % 2 == 0 { part.to_owned() } else { age_text(part, now_ms) })
            .collect();
        return write_cells(out, &filled, now_ms);
    }
    for (index, part) in cells.split(AGE_MARK).enumerate() {
        if index % 2 == 0 {
            out.extend_from_slice(part.as_bytes());
        } else {
            out.push(b'"');
            out.extend_from_slice(age_text(part, now_ms).as_bytes());
            out.push(b'"');
        }
    }
}

fn age_text(timestamp_ms: &str, now_ms: i64) -> String {
    timestamp_ms.parse().map_or_else(|_| UNKNOWN.to_owned(), |ms: i64| human_duration(now_ms - ms))
}

/// `5d3h`, `12m`, `40s`: two units where the second still tells something.
pub(crate) fn human_duration(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    if seconds < -1 {
        return "<invalid>".into();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => pair(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 8 * 365 => pair(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (2 * 86_400, "2d"),
            (2 * 86_400 + 3600, "2d1h"),
            (9 * 86_400, "9d"),
            (-5, "<invalid>"),
        ] {
            assert_eq!(human_duration(seconds * 1000), expected);
        }
    }

    #[test]
    fn an_age_is_filled_in_when_the_row_is_written() {
        let mut out = Vec::new();
        let cells = format!("[\"a\",{}]", age_cell(Some("1970-01-01T00:00:10Z")));
        write_cells(&mut out, &cells, 15_000);
        assert_eq!(out, br#"["a","5s"]"#);
    }
}
