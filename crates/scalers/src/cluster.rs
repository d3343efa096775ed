//! Sources in the cluster itself, through a door: pods that match a selector, numbers in ConfigMaps and Secrets.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use gantry_apimachinery::quantity::Quantity;
use gantry_apimachinery::selector::{Selector, parse_label_selector};

use crate::config::TriggerConfig;
use crate::parameters::{Field, Fields, META};
use crate::path;
use crate::scaler::{Hear, Reading, Scaler, ScalerError, Subscription};
use crate::spec::{Amount, MetricSpec, MetricType, metric_name};

/// What is asked about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlace {
    pub phase: String,
    /// Empty until it is scheduled.
    pub node: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    ConfigMap,
    Secret,
}

/// The cluster as a source of numbers.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// The pods of a namespace that the selector matches.
    fn pods(&self, namespace: &str, selector: &Selector) -> Vec<PodPlace>;

    /// Calls `hear` when pods of the namespace change.
    fn hear_pods(&self, namespace: &str, hear: Hear) -> Option<Subscription>;

    /// The value of a key; the error says what was not found.
    async fn value(
        &self,
        kind: ResourceKind,
        namespace: &str,
        name: &str,
        key: &str,
    ) -> Result<String, String>;
}

/// `kubernetes-workload`: how many pods match a selector, or on how many nodes they are.
pub(crate) struct Workload {
    name: String,
    metric_type: MetricType,
    namespace: String,
    selector: Selector,
    target: f64,
    activation: f64,
    by_node: bool,
    cluster: Arc<dyn Cluster>,
}

/// `kubernetes-resource`: a number in a ConfigMap or Secret.
pub(crate) struct StoredNumber {
    name: String,
    metric_type: MetricType,
    namespace: String,
    kind: ResourceKind,
    object: String,
    key: String,
    format: String,
    location: String,
    value_type: String,
    target: f64,
    activation: f64,
    cluster: Arc<dyn Cluster>,
}

impl Workload {
    pub(crate) fn new(config: &TriggerConfig, cluster: Arc<dyn Cluster>) -> Result<Workload, ScalerError> {
        let mut fields = Fields::of(config);
        let selector_text: String = fields.required(Field::new(&["podSelector"], META));
        let target: f64 = fields.required(Field::new(&["value"], META).default("0"));
        let activation: f64 = fields.required(Field::new(&["activationValue"], META).default("0"));
        let by_node: bool = fields.required(Field::new(&["groupByNode"], META).default("false"));
        let selector = parse_label_selector(&selector_text);
        fields.require(selector.is_ok(), || format!("invalid pod selector {selector_text:?}"));
        fields.require(target > 0.0, || "value must be a float greater than 0".into());
        let metric_type = external_type(&mut fields, config);
        fields.finish()?;
        Ok(Workload {
            name: metric_name(config.index, &format!("workload-{}", config.namespace)),
            metric_type,
            namespace: config.namespace.clone(),
            selector: selector.unwrap_or_default(),
            target,
            activation,
            by_node,
            cluster,
        })
    }
}

/// The metric type of an external metric; noted as a mistake when there is none such.
pub(crate) fn external_type(fields: &mut Fields<'_>, config: &TriggerConfig) -> MetricType {
    match MetricType::external(config.metric_type) {
        Ok(metric_type) => metric_type,
        Err(message) => {
            fields.require(false, || message);
            MetricType::AverageValue
        }
    }
}

#[async_trait]
impl Scaler for Workload {
    async fn metrics(&self) -> Result<Vec<MetricSpec>, ScalerError> {
        let target = Amount::of(self.target);
        Ok(vec![MetricSpec::External { name: self.name.clone(), metric_type: self.metric_type, target }])
    }

    async fn read(&self, _metric: &str) -> Result<Reading, ScalerError> {
        let pods = self.cluster.pods(&self.namespace, &self.selector);
        let alive = pods.iter().filter(|pod| !matches!(pod.phase.as_str(), "Succeeded" | "Failed"));
        let count = if self.by_node {
            alive.map(|pod| pod.node.as_str()).filter(|node| !node.is_empty()).collect::<HashSet<_>>().len()
        } else {
            alive.count()
        };
        let value = count as f64;
        Ok(Reading { value, active: value > self.activation })
    }

    fn subscribe(&self, hear: Hear) -> Option<Subscription> {
        self.cluster.hear_pods(&self.namespace, hear)
    }
}

impl StoredNumber {
    pub(crate) fn new(
        config: &TriggerConfig,
        cluster: Arc<dyn Cluster>,
    ) -> Result<StoredNumber, ScalerError> {
        let mut fields = Fields::of(config);
        let kind: String =
            fields.required(Field::new(&["resourceKind"], META).one_of(&["ConfigMap", "Secret"]));
        let object: String = fields.required(Field::new(&["resourceName"], META));
        let key: String = fields.required(Field::new(&["key"], META));
        let format: String = fields
            .required(Field::new(&["format"], META).default("number").one_of(&["number", "json", "yaml"]));
        let location: Option<String> = fields.optional(Field::new(&["valueLocation"], META));
        let value_type: String = fields.required(
            Field::new(&["valueType"], META).default("float64").one_of(&["float64", "int64", "quantity"]),
        );
        let target: f64 = fields.required(Field::new(&["targetValue"], META));
        let activation: f64 = fields.required(Field::new(&["activationTargetValue"], META).default("0"));
        fields.require(format != "number" || location.is_none(), || {
            "valueLocation must not be set when format is number".into()
        });
        fields.require(format == "number" || location.is_some(), || {
            format!("valueLocation is required when format is {format}")
        });
        let metric_type = external_type(&mut fields, config);
        fields.finish()?;
        let kind = if kind == "Secret" { ResourceKind::Secret } else { ResourceKind::ConfigMap };
        let word = if kind == ResourceKind::Secret { "secret" } else { "configmap" };
        Ok(StoredNumber {
            name: metric_name(config.index, &format!("{word}-{object}-{key}")),
            metric_type,
            namespace: config.namespace.clone(),
            kind,
            object,
            key,
            format,
            location: location.unwrap_or_default(),
            value_type,
            target,
            activation,
            cluster,
        })
    }

    fn number(&self, text: &str) -> Result<f64, String> {
        let found = match self.format.as_str() {
            "number" => text.trim().to_owned(),
            format => path::text_at(format, text, &self.location)?,
        };
        let parsed = match self.value_type.as_str() {
            "quantity" => Quantity::parse(&found).map(Quantity::as_f64),
            "int64" => found.parse::<i64>().ok().map(|number| number as f64),
            _ => found.parse::<f64>().ok().filter(|number| number.is_finite()),
        };
        // The value may be that of a Secret, so it is not shown.
        parsed.ok_or_else(|| format!("error parsing the value of key {} as {}", self.key, self.value_type))
    }
}

#[async_trait]
impl Scaler for StoredNumber {
    async fn metrics(&self) -> Result<Vec<MetricSpec>, ScalerError> {
        let target = Amount::of(self.target);
        Ok(vec![MetricSpec::External { name: self.name.clone(), metric_type: self.metric_type, target }])
    }

    async fn read(&self, _metric: &str) -> Result<Reading, ScalerError> {
        let failed = |error: String| ScalerError::source(format!("{:?} {}", self.kind, self.object), error);
        let text =
            self.cluster.value(self.kind, &self.namespace, &self.object, &self.key).await.map_err(failed)?;
        let value = self.number(&text).map_err(failed)?;
        Ok(Reading { value, active: value > self.activation })
    }
}
