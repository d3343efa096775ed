//! What went wrong, in the words and with the codes of Kong's Admin API.

use gantry_kong_model::{Faults, summary};
use http::StatusCode;
use serde_json::{Value, json};

#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    code: Option<u16>,
    name: &'static str,
    pub(super) message: String,
    fields: Option<Value>,
    pub(super) flattened: Option<Vec<Value>>,
}

impl Problem {
    pub(super) fn message(status: StatusCode, message: impl Into<String>) -> Problem {
        Problem { status, code: None, name: "", message: message.into(), fields: None, flattened: None }
    }

    fn coded(status: StatusCode, code: u16, name: &'static str, message: String, fields: Value) -> Problem {
        Problem { status, code: Some(code), name, message, fields: Some(fields), flattened: None }
    }

    pub(super) fn not_found() -> Problem {
        Problem::message(StatusCode::NOT_FOUND, "Not found")
    }

    pub(super) fn not_found_named(message: String) -> Problem {
        Problem::message(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn method() -> Problem {
        Problem::message(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
    }

    pub(super) fn schema(faults: &Faults) -> Problem {
        Problem::coded(StatusCode::BAD_REQUEST, 2, "schema violation", summary(faults), faults.to_json())
    }

    /// A change that the gateway cannot carry out.
    pub(super) fn refused(reason: String) -> Problem {
        let fields = json!({"@entity": [reason]});
        Problem::coded(
            StatusCode::BAD_REQUEST,
            2,
            "schema violation",
            format!("schema violation ({reason})"),
            fields,
        )
    }

    pub(super) fn unique(fields: Value) -> Problem {
        let shown: Vec<String> = fields
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| match value {
                Value::String(text) => format!("{name}=\"{text}\""),
                other => format!("{name}={other}"),
            })
            .collect();
        let message = format!("UNIQUE violation detected on '{{{}}}'", shown.join(","));
        Problem::coded(StatusCode::CONFLICT, 5, "unique constraint violation", message, fields)
    }

    pub(super) fn primary_key(id: &str) -> Problem {
        let message = format!("primary key violation on key '{{id=\"{id}\"}}'");
        Problem::coded(StatusCode::BAD_REQUEST, 3, "primary key violation", message, json!({"id": id}))
    }

    pub(super) fn foreign(field: &str, id: &str, target: &str) -> Problem {
        let message =
            format!("the foreign key '{{id=\"{id}\"}}' does not reference an existing '{target}' entity.");
        let fields = json!({field: {"id": id}, "@referenced_by": target});
        Problem::coded(StatusCode::BAD_REQUEST, 3, "foreign key violation", message, fields)
    }

    pub(super) fn referenced(by: &str, target: &str) -> Problem {
        let message = format!("an existing '{by}' entity references this '{target}' entity");
        Problem::coded(
            StatusCode::BAD_REQUEST,
            4,
            "foreign key violation",
            message,
            json!({"@referenced_by": by}),
        )
    }

    pub(super) fn without_database(what: &str, collection: &str) -> Problem {
        let message = format!("cannot {what} '{collection}' entities when not using a database");
        let mut problem =
            Problem::coded(StatusCode::METHOD_NOT_ALLOWED, 12, "operation unsupported", message, Value::Null);
        problem.fields = None;
        problem
    }

    pub(super) fn declarative(shown: &str, fields: Value) -> Problem {
        let message = format!("declarative config is invalid: {shown}");
        Problem::coded(StatusCode::BAD_REQUEST, 14, "invalid declarative configuration", message, fields)
    }

    pub(super) fn size(given: &str) -> Problem {
        let message = format!("size must be an integer between 1 and 1000, found {given:?}");
        Problem::coded(StatusCode::BAD_REQUEST, 9, "invalid size", message, json!({}))
    }

    pub(super) fn offset(given: &str) -> Problem {
        let message = format!("'{given}' is not a valid offset: bad base64 encoding");
        Problem::coded(StatusCode::BAD_REQUEST, 7, "invalid offset", message, json!({}))
    }

    pub(super) fn body(&self) -> Value {
        let mut body = serde_json::Map::new();
        if let Some(code) = self.code {
            body.insert("code".into(), Value::from(code));
            body.insert("name".into(), Value::from(self.name));
        }
        body.insert("message".into(), Value::from(self.message.clone()));
        if let Some(fields) = &self.fields {
            body.insert("fields".into(), fields.clone());
        }
        if let Some(flattened) = &self.flattened {
            body.insert("flattened_errors".into(), Value::Array(flattened.clone()));
        }
        Value::Object(body)
    }
}
