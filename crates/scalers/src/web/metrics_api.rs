//! `metrics-api`: a number in the JSON, YAML or Prometheus text that any HTTP service answers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gantry_prom_model::{Entry, ExpositionFormat, ExpositionParser, Labels, LabelsBuilder};

use crate::cluster::external_type;
use crate::config::TriggerConfig;
use crate::http::{Ask, Auth, HttpClient, HttpClients};
use crate::parameters::{Field, Fields, META};
use crate::path;
use crate::scaler::{Reading, Scaler, ScalerError};
use crate::spec::{Amount, MetricSpec, MetricType, metric_name};

pub(crate) struct MetricsApi {
    name: String,
    metric_type: MetricType,
    url: String,
    format: String,
    location: String,
    target: f64,
    activation: f64,
    timeout: Duration,
    auth: Auth,
    client: Arc<HttpClient>,
}

impl MetricsApi {
    pub(crate) fn new(config: &TriggerConfig, clients: &HttpClients) -> Result<MetricsApi, ScalerError> {
        let mut fields = Fields::of(config);
        let url: String = fields.required(Field::new(&["url"], META));
        let format: String = fields.required(Field::new(&["format"], META).default("json").one_of(&[
            "prometheus",
            "json",
            "xml",
            "yaml",
        ]));
        let location: String = fields.required(Field::new(&["valueLocation"], META));
        let target: f64 = fields.required(Field::new(&["targetValue"], META));
        let activation: f64 = fields.required(Field::new(&["activationTargetValue"], META).default("0"));
        let spread: bool =
            fields.required(Field::new(&["aggregateFromKubeServiceEndpoints"], META).default("false"));
        let timeout = fields.optional(Field::new(&["timeout"], META)).unwrap_or(config.timeout);
        let auth = Auth::read(&mut fields, "token");
        let metric_type = external_type(&mut fields, config);
        fields.require(!spread, || "aggregateFromKubeServiceEndpoints is not supported".into());
        fields
            .require(format != "xml", || "format xml is not supported; json, yaml and prometheus are".into());
        fields.finish()?;
        let metadata = |message| ScalerError::Metadata { kind: config.kind.clone(), message };
        let client = clients.client(&auth.tls).map_err(metadata)?;
        let name = metric_name(config.index, &format!("metric-api-{location}"));
        Ok(MetricsApi { name, metric_type, url, format, location, target, activation, timeout, auth, client })
    }

    async fn value(&self) -> Result<f64, String> {
        let (mut uri, mut headers) = (self.url.clone(), http::HeaderMap::new());
        self.auth.apply(&mut headers, &mut uri)?;
        let body = self.client.ask(Ask { headers, ..Ask::get(&uri, self.timeout) }).await?;
        let text = std::str::from_utf8(&body).map_err(|_| "the answer is no UTF-8 text".to_owned())?;
        value_in(&self.format, text, &self.location)
    }
}

/// The number that `location` names in an answer.
pub(crate) fn value_in(format: &str, text: &str, location: &str) -> Result<f64, String> {
    match format {
        "prometheus" => series_value(text, location),
        format => path::number_at(format, text, location),
    }
}

/// The first series with the wanted name and at least the wanted labels.
fn series_value(text: &str, location: &str) -> Result<f64, String> {
    let no_series = || format!("valueLocation {location:?} is no series");
    let (wanted, _) =
        samples(&format!("{location} 0\n")).map_err(|_| no_series())?.pop().ok_or_else(no_series)?;
    // Lines may be indented, which the format itself does not know.
    let text: String = text.lines().flat_map(|line| [line.trim(), "\n"]).collect();
    let found = samples(&text)?
        .into_iter()
        .find(|(labels, _)| wanted.iter().all(|(name, value)| labels.get(name) == Some(value)));
    match found {
        Some((_, value)) if value.is_finite() => Ok(value),
        // As an amount it would be 0, and a source that cannot tell would count as empty.
        Some((_, value)) => Err(format!("series {location} is {value}")),
        None => Err(format!("the answer has no series {location}")),
    }
}

fn samples(text: &str) -> Result<Vec<(Labels, f64)>, String> {
    let mut parser = ExpositionParser::new(text, ExpositionFormat::Classic);
    let mut samples = Vec::new();
    let mut labels = LabelsBuilder::new();
    while let Some(entry) =
        parser.next_entry().map_err(|error| format!("the answer is no Prometheus text: {error}"))?
    {
        if let Entry::Sample(sample) = entry {
            parser.read_labels(&mut labels);
            samples.push((labels.build(), sample.value));
        }
    }
    Ok(samples)
}

#[async_trait]
impl Scaler for MetricsApi {
    async fn metrics(&self) -> Result<Vec<MetricSpec>, ScalerError> {
        let target = Amount::of(self.target);
        Ok(vec![MetricSpec::External { name: self.name.clone(), metric_type: self.metric_type, target }])
    }

    async fn read(&self, _metric: &str) -> Result<Reading, ScalerError> {
        let value = self.value().await.map_err(|error| ScalerError::source("metrics-api", error))?;
        Ok(Reading { value, active: value > self.activation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_without_a_number_is_an_error() {
        let text = "depth{q=\"a\"} 3\ndepth{q=\"b\"} NaN\ndepth{q=\"c\"} +Inf\n";
        assert_eq!(value_in("prometheus", text, "depth{q=\"a\"}"), Ok(3.0));
        let error = value_in("prometheus", text, "depth{q=\"b\"}").unwrap_err();
        assert!(error.contains("is NaN"), "{error}");
        let error = value_in("prometheus", text, "depth{q=\"c\"}").unwrap_err();
        assert!(error.contains("is inf"), "{error}");
    }
}
