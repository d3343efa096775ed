//! `rules`, `alerts` and `alertmanagers`.

use std::collections::HashSet;

use axum::extract::State;
use gantry_prom_model::{Labels, Matcher};
use gantry_promql::parse_selector;
use gantry_rules::{Alert, AlertState, Group, Kind, Rule};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::PrometheusApi;
use super::answer::{Answer, ApiError};
use super::params::{Params, format_rfc3339};

/// What Go prints for a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn object(labels: &Labels) -> Value {
    Value::Object(labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect())
}

fn time(ms: Option<i64>) -> Value {
    ms.map_or_else(|| NEVER.into(), |ms| format_rfc3339(ms).into())
}

/// As Go's `%e` with as many digits as it takes: `1e+00`.
fn exponent_form(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn alert_value(alert: &Alert) -> Value {
    let mut shown = Map::new();
    shown.insert("labels".into(), object(&alert.labels));
    shown.insert("annotations".into(), object(&alert.annotations));
    shown.insert("state".into(), alert.state.as_str().into());
    shown.insert("activeAt".into(), format_rfc3339(alert.active_at_ms).into());
    if let Some(since) = alert.keep_firing_since_ms {
        shown.insert("keepFiringSince".into(), format_rfc3339(since).into());
    }
    shown.insert("value".into(), exponent_form(alert.value).into());
    Value::Object(shown)
}

pub(super) async fn alerts(State(api): State<PrometheusApi>) -> Answer {
    let groups = api.shared.rules.as_ref().map(|rules| rules.groups()).unwrap_or_default();
    let alerts: Vec<Value> = groups
        .iter()
        .flat_map(|group| &group.rules)
        .filter_map(Rule::alerting)
        .flat_map(|alerting| alerting.alerts())
        .map(|alert| alert_value(&alert))
        .collect();
    Answer::value(&json!({"alerts": alerts}))
}

pub(super) async fn alertmanagers(State(api): State<PrometheusApi>) -> Answer {
    let (active, dropped) = match &api.shared.notifier {
        Some(notifier) => (notifier.active(), notifier.dropped()),
        None => (Vec::new(), Vec::new()),
    };
    let active: Vec<Value> = active.into_iter().map(|url| json!({"url": url})).collect();
    let dropped: Vec<Value> = dropped
        .iter()
        .map(|labels| {
            let part = |name: &str| labels.get(name).unwrap_or("").to_owned();
            let url = format!("{}://{}{}", part("__scheme__"), part("__address__"), part("__alerts_path__"));
            json!({"url": url})
        })
        .collect();
    Answer::value(&json!({"activeAlertmanagers": active, "droppedAlertmanagers": dropped}))
}

/// What of the rules a request wants.
struct Filter<'p> {
    recording: bool,
    alerting: bool,
    names: HashSet<&'p str>,
    groups: HashSet<&'p str>,
    files: HashSet<&'p str>,
    /// Any of them has to match a rule's own labels.
    matchers: Vec<Vec<Matcher>>,
    with_alerts: bool,
}

impl<'p> Filter<'p> {
    fn read(params: &'p Params) -> Result<Filter<'p>, ApiError> {
        let kind = params.get("type").unwrap_or("").to_lowercase();
        if !matches!(kind.as_str(), "" | "alert" | "record") {
            return Err(ApiError::invalid("type", &format!("not supported value {kind:?}")));
        }
        let matchers = params
            .all("match[]")
            .map(|text| {
                parse_selector(text).map_err(|error| ApiError::invalid("match[]", &error.to_string()))
            })
            .collect::<Result<_, _>>()?;
        let excluded = params.get("exclude_alerts").unwrap_or("false");
        let with_alerts = match excluded {
            "0" | "f" | "F" | "false" | "FALSE" | "False" => true,
            "1" | "t" | "T" | "true" | "TRUE" | "True" => false,
            other => {
                let reason = format!("error converting exclude_alerts: {other:?} is neither true nor false");
                return Err(ApiError::invalid("exclude_alerts", &reason));
            }
        };
        Ok(Filter {
            recording: kind != "alert",
            alerting: kind != "record",
            names: params.all("rule_name[]").collect(),
            groups: params.all("rule_group[]").collect(),
            files: params.all("file[]").collect(),
            matchers,
            with_alerts,
        })
    }

    fn wants_group(&self, group: &Group) -> bool {
        (self.groups.is_empty() || self.groups.contains(group.name.as_str()))
            && (self.files.is_empty() || self.files.contains(group.file.as_str()))
    }

    fn wants(&self, rule: &Rule) -> bool {
        let of_kind = if rule.alerting().is_some() { self.alerting } else { self.recording };
        let matches = |set: &Vec<Matcher>| set.iter().all(|matcher| matcher.matches_labels(&rule.labels));
        of_kind
            && (self.names.is_empty() || self.names.contains(rule.name.as_str()))
            && (self.matchers.is_empty() || self.matchers.iter().any(matches))
    }
}

/// How many groups a page has, and the token of the first.
fn page(params: &Params) -> Result<(Option<usize>, Option<&str>), ApiError> {
    let token = params.get("group_next_token");
    let Some(text) = params.get("group_limit") else {
        return match token {
            None => Ok((None, None)),
            Some(_) => Err(ApiError::invalid(
                "group_limit",
                "group_limit needs to be present in order to paginate over the groups",
            )),
        };
    };
    match text.parse::<i32>() {
        Ok(limit) if limit > 0 => Ok((usize::try_from(limit).ok(), token)),
        Ok(_) => Err(ApiError::invalid("group_limit", "group_limit needs to be greater than 0")),
        Err(error) => {
            Err(ApiError::invalid("group_limit", &format!("group_limit needs to be a valid number: {error}")))
        }
    }
}

/// Names a group in a request for the page that begins with it.
fn next_token(group: &Group) -> String {
    use std::fmt::Write;
    let digest = Sha256::digest(group.key().as_bytes());
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn rule_value(rule: &Rule, with_alerts: bool) -> Value {
    let status = rule.status();
    let mut shown = Map::new();
    if let Kind::Alerting(alerting) = &rule.kind {
        let state = if status.last_evaluation_ms.is_none() { AlertState::Unknown } else { alerting.state() };
        shown.insert("state".into(), state.as_str().into());
    }
    shown.insert("name".into(), rule.name.as_str().into());
    shown.insert("query".into(), rule.query.as_str().into());
    if let Kind::Alerting(alerting) = &rule.kind {
        shown.insert("duration".into(), seconds(alerting.hold_ms));
        shown.insert("keepFiringFor".into(), seconds(alerting.keep_firing_ms));
    }
    match &rule.kind {
        Kind::Recording if rule.labels.is_empty() => {}
        _ => {
            shown.insert("labels".into(), object(&rule.labels));
        }
    }
    if let Kind::Alerting(alerting) = &rule.kind {
        shown.insert("annotations".into(), object(&alerting.annotations));
        let alerts: Vec<Value> = match with_alerts {
            true => alerting.alerts().iter().map(alert_value).collect(),
            false => Vec::new(),
        };
        shown.insert("alerts".into(), alerts.into());
    }
    shown.insert("health".into(), status.health.as_str().into());
    if let Some(error) = status.last_error {
        shown.insert("lastError".into(), error.into());
    }
    shown.insert("evaluationTime".into(), status.evaluation_seconds.into());
    shown.insert("lastEvaluation".into(), time(status.last_evaluation_ms));
    let kind = if rule.alerting().is_some() { "alerting" } else { "recording" };
    shown.insert("type".into(), kind.into());
    Value::Object(shown)
}

/// Whole seconds without a fraction, as Go prints a float.
fn seconds(ms: i64) -> Value {
    if ms % 1000 == 0 { (ms / 1000).into() } else { (ms as f64 / 1000.0).into() }
}

pub(super) async fn rules(State(api): State<PrometheusApi>, params: Params) -> Result<Answer, ApiError> {
    let filter = Filter::read(&params)?;
    let (limit, token) = page(&params)?;
    let groups = api.shared.rules.as_ref().map(|rules| rules.groups()).unwrap_or_default();
    let first = match token {
        None => 0,
        Some(token) => groups.iter().position(|group| next_token(group) == token).ok_or_else(|| {
            let reason = format!("invalid group_next_token '{token}'. were rule groups changed?");
            ApiError::invalid("group_next_token", &reason)
        })?,
    };
    let mut shown = Vec::new();
    let mut next = None;
    for group in groups[first..].iter().filter(|group| filter.wants_group(group)) {
        let rules: Vec<Value> = group
            .rules
            .iter()
            .filter(|rule| filter.wants(rule))
            .map(|rule| rule_value(rule, filter.with_alerts))
            .collect();
        if rules.is_empty() {
            continue;
        }
        if limit.is_some_and(|limit| shown.len() == limit) {
            next = Some(next_token(group));
            break;
        }
        let (evaluation_seconds, last_evaluation_ms) = group.last_evaluation();
        shown.push(json!({
            "name": group.name,
            "file": group.file,
            "rules": rules,
            "interval": seconds(group.interval_ms),
            "limit": group.limit,
            "evaluationTime": evaluation_seconds,
            "lastEvaluation": time(last_evaluation_ms),
        }));
    }
    let mut data = Map::new();
    data.insert("groups".into(), shown.into());
    if let Some(token) = next {
        data.insert("groupNextToken".into(), token.into());
    }
    Ok(Answer::value(&Value::Object(data)))
}

#[cfg(test)]
mod tests {
    use super::exponent_form;

    #[test]
    fn values_of_alerts_are_in_gos_form() {
        for (value, text) in [
            (1.0, "1e+00"),
            (0.0, "0e+00"),
            (12_345.678, "1.2345678e+04"),
            (-1e-7, "-1e-07"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(exponent_form(value), text);
        }
    }
}
