//! Tables: what `kubectl get` shows, made here and not in the client.

use bytes::Bytes;
use gantry_apimachinery::{Map, Value, time};

use crate::response;
use crate::rest::Call;
use crate::rest::present_metadata;
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
    let mut table = Map::new();
    table.insert("kind", "Table");
    table.insert("apiVersion", "meta.k8s.io/v1");
    table.insert("metadata", meta.to_value());
    let definitions = [("Name", "string", "name"), ("Age", "string", "")].map(|(name, kind, format)| {
        let mut column = Map::new();
        column.insert("name", name);
        column.insert("type", kind);
        column.insert("format", format);
        column.insert("description", "");
        column.insert("priority", 0i64);
        Value::from(column)
    });
    table.insert(
        "columnDefinitions",
        if columns == Columns::Shown { Value::from(definitions.to_vec()) } else { Value::NULL },
    );
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let value = object.value();
            let age = value.str_at(&["metadata", "creationTimestamp"]).and_then(time::parse_time);
            let age = age
                .map_or("<unknown>".into(), |created| human_duration(call.server.clock.now_ms() - created));
            let mut row = Map::new();
            row.insert("cells", vec![Value::from(object.key.name.as_str()), age.into()]);
            row.insert("object", present_metadata(&value));
            row.into()
        })
        .collect();
    table.insert("rows", rows);
    response::to_json(&table.into()).into()
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
}
