//! `prometheus`: the one value of an instant query, from a server or from the store in this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gantry_apimachinery::time::format_time;
use gantry_clock::Clock;
use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::cluster::external_type;
use crate::config::TriggerConfig;
use crate::http::{Ask, Auth, HttpClient, HttpClients, query_escape};
use crate::local::LocalMetrics;
use crate::parameters::{Field, Fields, META, META_AUTH};
use crate::scaler::{Hear, Reading, Scaler, ScalerError, Subscription};
use crate::spec::{Amount, MetricSpec, MetricType, metric_name};

enum Store {
    Server { address: String, auth: Box<Auth>, client: Arc<HttpClient> },
    Local(Arc<dyn LocalMetrics>),
}

pub(crate) struct Prometheus {
    name: String,
    metric_type: MetricType,
    query: String,
    namespace: Option<String>,
    parameters: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    threshold: f64,
    activation: f64,
    ignores_null: bool,
    timeout: Duration,
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Prometheus {
    pub(crate) fn new(
        config: &TriggerConfig,
        clients: &HttpClients,
        local: Option<Arc<dyn LocalMetrics>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Prometheus, ScalerError> {
        let mut fields = Fields::of(config);
        let address: String = fields.required(Field::new(&["serverAddress"], META_AUTH));
        let query: String = fields.required(Field::new(&["query"], META));
        let threshold: f64 = fields.required(Field::new(&["threshold"], META));
        let activation: f64 = fields.required(Field::new(&["activationThreshold"], META).default("0"));
        let parameters = fields.optional(Field::new(&["queryParameters"], META)).unwrap_or_default();
        let headers = fields.optional(Field::new(&["customHeaders"], META_AUTH)).unwrap_or_default();
        let namespace = fields.optional(Field::new(&["namespace"], META));
        let ignores_null = fields.required(Field::new(&["ignoreNullValues"], META).default("true"));
        let timeout = fields.optional(Field::new(&["timeout"], META)).unwrap_or(config.timeout);
        let auth = Auth::read(&mut fields, "bearerToken");
        let metric_type = external_type(&mut fields, config);
        let aws: Option<String> = fields.optional(Field::new(&["awsRegion"], META_AUTH));
        fields.require(aws.is_none(), || "awsRegion: signing requests for AWS is not supported".into());
        fields.finish()?;
        let store = match local.filter(|local| local.answers_for(&address)) {
            Some(local) => Store::Local(local),
            None => {
                let client = clients
                    .client(&auth.tls)
                    .map_err(|message| ScalerError::Metadata { kind: config.kind.clone(), message })?;
                Store::Server { address, auth: Box::new(auth), client }
            }
        };
        Ok(Prometheus {
            name: metric_name(config.index, "prometheus"),
            metric_type,
            query,
            namespace,
            parameters,
            headers,
            threshold,
            activation,
            ignores_null,
            timeout,
            store,
            clock,
        })
    }

    async fn value(&self) -> Result<f64, String> {
        let values = match &self.store {
            Store::Local(local) => local.query(&self.query).await.map_err(|error| error.to_string())?,
            Store::Server { address, auth, client } => self.ask(address, auth, client).await?,
        };
        one_value(&values, self.ignores_null)
    }

    async fn ask(&self, address: &str, auth: &Auth, client: &HttpClient) -> Result<Vec<f64>, String> {
        let time = format_time(self.clock.now_ms());
        let mut uri = format!(
            "{}/api/v1/query?query={}&time={}",
            address.trim_end_matches('/'),
            query_escape(&self.query),
            query_escape(&time)
        );
        if let Some(namespace) = &self.namespace {
            uri.push_str(&format!("&namespace={}", query_escape(namespace)));
        }
        for (name, value) in &self.parameters {
            uri.push_str(&format!("&{}={}", query_escape(name), query_escape(value)));
        }
        let mut headers = http::HeaderMap::new();
        for (name, value) in &self.headers {
            let wrong = || format!("customHeaders: {name:?} is no valid header");
            let header = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            headers.insert(header, HeaderValue::from_str(value).map_err(|_| wrong())?);
        }
        auth.apply(&mut headers, &mut uri)?;
        let body = client.ask(Ask { headers, ..Ask::get(&uri, self.timeout) }).await?;
        values(&body)
    }
}

/// The samples of an answer to an instant query.
fn values(body: &[u8]) -> Result<Vec<f64>, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "the answer is no JSON".to_owned())?;
    let sample = |pair: &Value| -> Result<Option<f64>, String> {
        let Some(text) = pair.get(1) else { return Ok(None) };
        let text = text.as_str().ok_or("a sample's value is no text")?;
        text.parse::<f64>().map(Some).map_err(|_| format!("a sample's value {text:?} is no number"))
    };
    let data = &answer["data"];
    if data["resultType"] == "scalar" {
        return Ok(sample(&data["result"])?.into_iter().collect());
    }
    let mut values = Vec::new();
    for series in data["result"].as_array().map(Vec::as_slice).unwrap_or_default() {
        // A series without a value counts as one that says nothing.
        values.push(sample(&series["value"])?.unwrap_or(f64::NAN));
    }
    Ok(values)
}

/// What the query's values mean: one is wanted, none is zero unless that is to be an error.
fn one_value(values: &[f64], ignores_null: bool) -> Result<f64, String> {
    match values {
        [] if ignores_null => Ok(0.0),
        [] => Err("the query returned no series, the prometheus target may be lost".into()),
        [value] if value.is_finite() => Ok(*value),
        [_] if ignores_null => Ok(0.0),
        [value] => Err(format!("the query returned {value}")),
        more => Err(format!("the query must return one series, it returned {}", more.len())),
    }
}

#[async_trait]
impl Scaler for Prometheus {
    async fn metrics(&self) -> Result<Vec<MetricSpec>, ScalerError> {
        let target = Amount::of(self.threshold);
        Ok(vec![MetricSpec::External { name: self.name.clone(), metric_type: self.metric_type, target }])
    }

    async fn read(&self, _metric: &str) -> Result<Reading, ScalerError> {
        let value = self.value().await.map_err(|error| ScalerError::source("prometheus", error))?;
        Ok(Reading { value, active: value > self.activation })
    }

    fn subscribe(&self, hear: Hear) -> Option<Subscription> {
        match &self.store {
            Store::Local(local) => local.hear(hear),
            Store::Server { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_series_is_a_value_and_none_is_zero_unless_that_is_an_error() {
        let of = |body: &str, ignores_null| one_value(&values(body.as_bytes())?, ignores_null);
        let vector =
            |results: &str| format!("{{\"data\":{{\"resultType\":\"vector\",\"result\":[{results}]}}}}");
        assert_eq!(of(&vector(r#"{"value":[1,"2.5"]}"#), true), Ok(2.5));
        assert_eq!(of("{\"data\":{\"resultType\":\"scalar\",\"result\":[1,\"3\"]}}", true), Ok(3.0));
        assert_eq!(of(&vector(""), true), Ok(0.0));
        assert!(of(&vector(""), false).is_err());
        assert_eq!(of(&vector(r#"{"value":[1,"+Inf"]}"#), true), Ok(0.0));
        assert!(of(&vector(r#"{"value":[1,"NaN"]}"#), false).is_err());
        assert!(of(&vector(r#"{"value":[1,"1"]},{"value":[1,"2"]}"#), true).is_err());
        assert!(of("nonsense", true).is_err());
    }
}
