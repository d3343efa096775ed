//! How far each handler of an object has come: kept in annotations while handlers are at work, removed after.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Reason;
use super::annotations::{KeyNames, ascii_json};

/// The record of one handler.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) started_ms: i64,
    pub(crate) stopped_ms: Option<i64>,
    pub(crate) delayed_ms: Option<i64>,
    pub(crate) purpose: Option<String>,
    pub(crate) retries: u32,
    pub(crate) success: bool,
    pub(crate) failure: bool,
    pub(crate) message: Option<String>,
    /// Ids of sub-handlers of all depths, whose records end with this one.
    pub(crate) subrefs: Vec<String>,
}

/// What came of calling a handler once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Done,
    Failed(String),
    Again { delay_ms: i64, message: String },
}

impl Record {
    pub(crate) fn new(now_ms: i64, purpose: Reason) -> Record {
        Record { started_ms: now_ms, purpose: Some(purpose.as_str().to_owned()), ..Record::default() }
    }

    /// True when it was made for `reason`, or before reasons were noted.
    pub(crate) fn is_for(&self, reason: Reason) -> bool {
        self.purpose.as_deref().is_none_or(|purpose| purpose == reason.as_str())
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.success || self.failure
    }

    pub(crate) fn is_awake(&self, now_ms: i64) -> bool {
        !self.is_finished() && self.delayed_ms.is_none_or(|delayed| delayed <= now_ms)
    }

    pub(crate) fn after(&self, outcome: &Outcome, now_ms: i64) -> Record {
        let mut record = self.clone();
        record.retries = record.retries.saturating_add(1);
        record.delayed_ms = None;
        match outcome {
            Outcome::Done => {
                record.success = true;
                record.message = None;
                record.stopped_ms = record.stopped_ms.or(Some(now_ms));
            }
            Outcome::Failed(message) => {
                record.failure = true;
                record.message = Some(message.clone());
                record.stopped_ms = record.stopped_ms.or(Some(now_ms));
            }
            Outcome::Again { delay_ms, message } => {
                record.message = Some(message.clone());
                record.delayed_ms = Some(now_ms.saturating_add(*delay_ms));
            }
        }
        record
    }

    /// Adds sub-handlers that were called on the way.
    pub(crate) fn with_subrefs(mut self, ids: impl IntoIterator<Item = String>) -> Record {
        self.subrefs.extend(ids);
        self.subrefs.sort();
        self.subrefs.dedup();
        self
    }

    /// The annotation's text.
    pub(crate) fn encode(&self) -> String {
        let mut fields = Map::new();
        fields.insert("started".into(), json!(iso(self.started_ms)));
        if let Some(stopped) = self.stopped_ms {
            fields.insert("stopped".into(), json!(iso(stopped)));
        }
        if let Some(delayed) = self.delayed_ms {
            fields.insert("delayed".into(), json!(iso(delayed)));
        }
        if let Some(purpose) = &self.purpose {
            fields.insert("purpose".into(), json!(purpose));
        }
        fields.insert("retries".into(), json!(self.retries));
        fields.insert("success".into(), json!(self.success));
        fields.insert("failure".into(), json!(self.failure));
        if let Some(message) = &self.message {
            fields.insert("message".into(), json!(message));
        }
        if !self.subrefs.is_empty() {
            fields.insert("subrefs".into(), json!(self.subrefs));
        }
        ascii_json(&Value::Object(fields))
    }

    /// Reads an annotation's text; nothing when it is not a record.
    pub(crate) fn decode(text: &str, now_ms: i64) -> Option<Record> {
        let fields: Map<String, Value> = serde_json::from_str(text).ok()?;
        Some(Record::from_fields(&fields, now_ms))
    }

    pub(crate) fn from_fields(fields: &Map<String, Value>, now_ms: i64) -> Record {
        let moment = |name: &str| fields.get(name).and_then(Value::as_str).and_then(parse_iso);
        let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let flag = |name: &str| fields.get(name).and_then(Value::as_bool).unwrap_or(false);
        let retries = fields.get("retries").and_then(Value::as_u64).unwrap_or(0);
        Record {
            started_ms: moment("started").unwrap_or(now_ms),
            stopped_ms: moment("stopped"),
            delayed_ms: moment("delayed"),
            purpose: text("purpose").map(str::to_owned),
            retries: u32::try_from(retries).unwrap_or(u32::MAX),
            success: flag("success"),
            failure: flag("failure"),
            message: text("message").map(str::to_owned),
            subrefs: fields
                .get("subrefs")
                .and_then(Value::as_array)
                .map(|ids| ids.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                .unwrap_or_default(),
        }
    }
}

/// The record of `handler` on an object, wherever earlier versions may have left it.
pub(crate) fn fetch(body: &Value, names: &KeyNames, handler: &str, now_ms: i64) -> Option<Record> {
    let annotations = body.pointer("/metadata/annotations").and_then(Value::as_object);
    let texts = names.keys(handler).into_iter().filter_map(|key| annotations?.get(&key)?.as_str());
    if let Some(record) = texts.into_iter().find_map(|text| Record::decode(text, now_ms)) {
        return Some(record);
    }
    let in_status = body.pointer("/status/kopf/progress")?.get(handler)?.as_object()?;
    Some(Record::from_fields(in_status, now_ms))
}

fn iso(ms: i64) -> String {
    let moment = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{moment:.6}").replace('Z', "+00:00")
}

fn parse_iso(text: &str) -> Option<i64> {
    // Old records have no time zone; they are meant in UTC.
    let zoned = text.parse::<Timestamp>().or_else(|_| format!("{text}Z").parse::<Timestamp>());
    zoned.ok().map(|moment| moment.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_written_and_read() {
        let record = Record::new(1_600_000_000_123, Reason::Create);
        let again =
            record.after(&Outcome::Again { delay_ms: 60_000, message: "not yet".into() }, 1_600_000_001_000);
        assert_eq!(
            again.encode(),
            "{\"started\":\"2020-09-13T12:26:40.123000+00:00\",\"delayed\":\"2020-09-13T12:27:41.000000+00:00\",\
             \"purpose\":\"create\",\"retries\":1,\"success\":false,\"failure\":false,\"message\":\"not yet\"}"
        );
        assert_eq!(Record::decode(&again.encode(), 0), Some(again.clone()));
        assert!(!again.is_awake(1_600_000_061_000 - 1) && again.is_awake(1_600_000_061_000));
        let done = again.after(&Outcome::Done, 1_600_000_062_000);
        assert!(done.is_finished() && done.message.is_none() && done.retries == 2);
    }

    #[test]
    fn sub_handlers_are_noted_once_and_in_order() {
        let record = Record::new(0, Reason::Create).with_subrefs(["a/y".into(), "a/x".into(), "a/y".into()]);
        assert!(record.encode().ends_with("\"subrefs\":[\"a/x\",\"a/y\"]}"), "{}", record.encode());
        assert_eq!(Record::decode(&record.encode(), 0), Some(record));
    }

    #[test]
    fn records_of_older_versions_are_found() {
        let body = json!({ "status": { "kopf": { "progress": { "make": {
            "started": "2020-01-01T00:00:00.000000", "retries": 3
        }}}}});
        let record = fetch(&body, &KeyNames::new("kopf.zalando.org", true), "make", 0);
        assert_eq!(record.map(|record| (record.started_ms, record.retries)), Some((1_577_836_800_000, 3)));
    }
}
