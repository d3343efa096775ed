//! Log lines as users of Kopf know them, for what the engine says; the worker process writes its own the same way.

use std::fmt::Write as _;
use std::io::Write as _;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::flags::LogFlags;

/// Where the engine tells of objects.
const OBJECTS: &str = "objects";

/// Begins to write log lines to standard error.
pub(crate) fn to_stderr(flags: &LogFlags) {
    // A larger program may have set up logging already: then that stays.
    let _ = tracing_subscriber::registry().with(Lines { flags: flags.clone() }).try_init();
}

struct Lines {
    flags: LogFlags,
}

impl Lines {
    fn wants(&self, level: &Level, target: &str) -> bool {
        let most = match (self.flags.debug || self.flags.verbose, self.flags.quiet) {
            (true, _) => Level::DEBUG,
            (_, true) => Level::WARN,
            _ => Level::INFO,
        };
        let ours = target == OBJECTS || target.starts_with("gantry");
        *level <= most && (ours || self.flags.debug || *level <= Level::WARN)
    }

    fn line(&self, now: Timestamp, level: &Level, target: &str, seen: &Seen) -> String {
        let name = if target == OBJECTS { "kopf.objects" } else { "kopf.engine" };
        let mut message = String::new();
        if self.flags.prefixed() && !seen.name.is_empty() {
            match seen.namespace.as_str() {
                "" => write!(message, "[{}] ", seen.name),
                namespace => write!(message, "[{namespace}/{}] ", seen.name),
            }
            .unwrap_or_default();
        }
        message.push_str(&seen.message);
        for (field, value) in &seen.others {
            write!(message, " {field}={value}").unwrap_or_default();
        }
        if self.flags.format == "json" {
            return self.json_line(now, level, &message, seen);
        }
        let details = if seen.details.is_empty() { String::new() } else { format!("\n{}", seen.details) };
        if self.flags.format == "plain" {
            return format!("{message}{details}\n");
        }
        let level = if *level == Level::WARN { "WARNING" } else { level.as_str() };
        let time = now.strftime("%Y-%m-%d %H:%M:%S");
        let ms = now.as_millisecond().rem_euclid(1000);
        format!("[{time},{ms:03}] {name:<20.20} [{level:<8.8}] {message}{details}\n")
    }

    fn json_line(&self, now: Timestamp, level: &Level, message: &str, seen: &Seen) -> String {
        let mut line = Map::new();
        line.insert("message".into(), json!(message));
        if !seen.details.is_empty() {
            line.insert("exc_info".into(), json!(seen.details));
        }
        line.insert("timestamp".into(), json!(now.to_string()));
        if !seen.name.is_empty() {
            let mut object = Map::new();
            for (key, value) in [
                ("apiVersion", &seen.api),
                ("kind", &seen.kind),
                ("name", &seen.name),
                ("uid", &seen.uid),
                ("namespace", &seen.namespace),
            ] {
                if !value.is_empty() {
                    object.insert(key.into(), json!(value));
                }
            }
            let key = self.flags.refkey.as_deref().unwrap_or("object");
            line.insert(key.into(), Value::Object(object));
        }
        let severity = match *level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        line.insert("severity".into(), json!(severity));
        format!("{}\n", Value::Object(line))
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if !self.wants(metadata.level(), metadata.target()) {
            return;
        }
        let mut seen = Seen::default();
        event.record(&mut seen);
        let line = self.line(Timestamp::now(), metadata.level(), metadata.target(), &seen);
        // There is nowhere to tell that the log cannot be written.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// The fields of one event.
#[derive(Default)]
struct Seen {
    message: String,
    namespace: String,
    name: String,
    kind: String,
    api: String,
    uid: String,
    details: String,
    others: Vec<(&'static str, String)>,
}

impl Seen {
    fn take(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "namespace" => self.namespace = value,
            "name" => self.name = value,
            "kind" => self.kind = value,
            "api" => self.api = value,
            "uid" => self.uid = value,
            "details" => self.details = value,
            other => self.others.push((other, value)),
        }
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_as_kopf_writes_them() {
        let flags = |format: &str| LogFlags {
            verbose: false,
            debug: false,
            quiet: false,
            format: format.to_owned(),
            refkey: None,
            prefix: None,
        };
        let seen = Seen {
            message: "Handler 'x' succeeded.".into(),
            namespace: "default".into(),
            name: "one".into(),
            kind: "Widget".into(),
            details: "trace".into(),
            ..Seen::default()
        };
        let now = Timestamp::from_millisecond(1_600_000_000_123).expect("a time");
        let line = |format| Lines { flags: flags(format) }.line(now, &Level::INFO, OBJECTS, &seen);
        assert_eq!(
            line("full"),
            "[2020-09-13 12:26:40,123] kopf.objects         [INFO    ] [default/one] Handler 'x' succeeded.\ntrace\n"
        );
        assert_eq!(line("plain"), "[default/one] Handler 'x' succeeded.\ntrace\n");
        let json: Value = serde_json::from_str(&line("json")).expect("JSON");
        assert_eq!(
            (&json["message"], &json["severity"], &json["object"]),
            (
                &json!("Handler 'x' succeeded."),
                &json!("info"),
                &json!({ "kind": "Widget", "name": "one", "namespace": "default" })
            )
        );
    }
}
