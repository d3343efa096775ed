//! Which metrics there are: the store's series, read through the rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::kinds::{GroupResource, Kinds};
use super::rules::{Rule, Rules};
use crate::query::{MetricsQuery, QueryError};

/// A store may have more series than anyone wants to scale by.
const MOST_METRICS: usize = 20_000;

/// A metric as discovery names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Metric {
    pub(crate) resource: GroupResource,
    pub(crate) namespaced: bool,
    pub(crate) name: String,
}

/// The rule of a metric, by its place among its kind, and the series it is computed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) rule: usize,
    pub(crate) series: String,
}

/// What is known at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) kinds: Kinds,
    pub(crate) metrics: BTreeMap<Metric, Source>,
    pub(crate) external: BTreeMap<String, Source>,
}

/// A series without its labels' values.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    name: String,
    labels: Vec<String>,
}

/// Asks the store for the series of every rule.
pub(crate) async fn list(
    rules: &Rules,
    kinds: Kinds,
    queries: &dyn MetricsQuery,
) -> Result<Known, QueryError> {
    let mut shapes: HashMap<&str, BTreeSet<Shape>> = HashMap::new();
    for rule in rules.custom.iter().chain(&rules.external) {
        if !shapes.contains_key(rule.series_query.as_str()) {
            let found = queries.query(&rule.series_query).await?;
            let shape = |labels: &gantry_prom_model::Labels| Shape {
                name: labels.metric_name().unwrap_or_default().to_owned(),
                labels: labels
                    .iter()
                    .map(|(name, _)| name)
                    .filter(|n| *n != "__name__")
                    .map(str::to_owned)
                    .collect(),
            };
            shapes.insert(&rule.series_query, found.iter().map(|(labels, _)| shape(labels)).collect());
        }
    }
    let of = |rule: &Rule| shapes.get(rule.series_query.as_str()).into_iter().flatten();
    let mut known = Known::default();
    for (index, rule) in rules.custom.iter().enumerate() {
        for shape in of(rule).filter(|shape| rule.filters.iter().all(|filter| filter.keeps(&shape.name))) {
            let Some(name) = rule.name.of(&shape.name).filter(|name| !name.is_empty()) else { continue };
            let resources: Vec<GroupResource> =
                shape.labels.iter().filter_map(|label| rule.labels.resource(&kinds, label)).collect();
            let in_namespace = resources.iter().any(GroupResource::is_namespaces);
            for resource in resources {
                let rooted = resource.group.is_empty()
                    && matches!(resource.resource.as_str(), "namespaces" | "nodes" | "persistentvolumes");
                let metric = Metric { resource, namespaced: in_namespace && !rooted, name: name.clone() };
                if known.metrics.len() < MOST_METRICS || known.metrics.contains_key(&metric) {
                    known.metrics.insert(metric, Source { rule: index, series: shape.name.clone() });
                }
            }
        }
    }
    for (index, rule) in rules.external.iter().enumerate() {
        for shape in of(rule).filter(|shape| rule.filters.iter().all(|filter| filter.keeps(&shape.name))) {
            let Some(name) = rule.name.of(&shape.name).filter(|name| !name.is_empty()) else { continue };
            if known.external.len() < MOST_METRICS || known.external.contains_key(&name) {
                known.external.insert(name, Source { rule: index, series: shape.name.clone() });
            }
        }
    }
    known.kinds = kinds;
    Ok(known)
}
