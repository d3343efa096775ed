//! Alerts as the Alertmanager's API v2 takes them.

use std::sync::Arc;

use gantry_prom_model::Labels;
use serde_json::{Map, Value, json};

use crate::alerting::Alert;
use crate::humanize::rfc3339;

/// One alert on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at_ms: i64,
    /// When it ended, or when it is to count as ended if nobody says otherwise.
    pub ends_at_ms: i64,
    /// Where its expression can be looked at.
    pub generator_url: Arc<str>,
}

impl Notification {
    pub(crate) fn of(alert: Alert, generator_url: Arc<str>) -> Notification {
        Notification {
            starts_at_ms: alert.fired_at_ms.unwrap_or(alert.active_at_ms),
            ends_at_ms: alert.resolved_at_ms.unwrap_or(alert.valid_until_ms),
            labels: alert.labels,
            annotations: alert.annotations,
            generator_url,
        }
    }
}

fn object(labels: &Labels) -> Map<String, Value> {
    labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

/// The body of a delivery.
pub fn to_json(alerts: &[Notification]) -> String {
    let list: Vec<Value> = alerts
        .iter()
        .map(|alert| {
            json!({
                "annotations": object(&alert.annotations),
                "endsAt": rfc3339(alert.ends_at_ms),
                "startsAt": rfc3339(alert.starts_at_ms),
                "generatorURL": &*alert.generator_url,
                "labels": object(&alert.labels),
            })
        })
        .collect();
    Value::Array(list).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_that_of_the_api() {
        let alert = Notification {
            labels: Labels::from_pairs([("alertname", "Down")]),
            annotations: Labels::from_pairs([("summary", "it is \"down\"")]),
            starts_at_ms: 1_000,
            ends_at_ms: 61_500,
            generator_url: "http://h/graph".into(),
        };
        assert_eq!(
            to_json(&[alert]),
            r#"[{"annotations":{"summary":"it is \"down\""},"endsAt":"1970-01-01T00:01:01.500Z","startsAt":"1970-01-01T00:00:01.000Z","generatorURL":"http://h/graph","labels":{"alertname":"Down"}}]"#
        );
    }
}
