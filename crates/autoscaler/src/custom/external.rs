//! External metrics by the rules of prometheus-adapter.

use std::collections::BTreeMap;

use async_trait::async_trait;
use gantry_apimachinery::selector::{Op, Requirement, Selector};

use super::CustomMetrics;
use super::provider::in_milli;
use super::query;
use crate::external::ExternalMetrics;

#[async_trait]
impl ExternalMetrics for CustomMetrics {
    async fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &BTreeMap<String, String>,
    ) -> Option<Result<Vec<i64>, String>> {
        if self.rules().external.is_empty() {
            return None;
        }
        let known = self.known_with(|known| known.external.contains_key(metric)).await;
        let source = known.external.get(metric)?;
        let rule = self.rules().external.get(source.rule)?;
        let requirement = |(key, value): (&String, &String)| Requirement {
            key: key.as_str().into(),
            op: Op::Equals,
            values: vec![value.as_str().into()],
        };
        let selector = Selector { requirements: selector.iter().map(requirement).collect() };
        let namespace = Some(namespace).filter(|namespace| rule.namespaced && !namespace.is_empty());
        let built =
            query::external(&rule.query, &rule.labels, &known.kinds, &source.series, namespace, &selector);
        let promql = match built {
            Ok(promql) => promql,
            Err(error) => return Some(Err(error)),
        };
        let values = self.ask(&promql).await.map_err(|error| error.to_string());
        Some(values.map(|values| values.into_iter().map(|(_, value)| in_milli(value)).collect()))
    }
}
