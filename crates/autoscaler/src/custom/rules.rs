//! The rules file of prometheus-adapter, read unchanged.

use std::collections::BTreeMap;

use gantry_clock::{DurationError, parse_prometheus_duration};
use gantry_gotemplate::Template;
use regex::Regex;
use serde::{Deserialize, Deserializer};

use super::labels::ResourceLabels;
use super::names::{Filter, MetricName};

/// Why a rules file is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("{0}")]
    Yaml(#[from] gantry_yaml::Error),
    #[error("{file}: {rule}: {message}")]
    Rule { file: String, rule: String, message: String },
}

/// Compiled rules, in the file's order.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub(crate) custom: Vec<Rule>,
    pub(crate) external: Vec<Rule>,
    pub(crate) resources: Option<ResourceRules>,
}

/// Which series are metrics, of which objects, under which name, and how their value is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) series_query: String,
    pub(crate) filters: Vec<Filter>,
    pub(crate) name: MetricName,
    pub(crate) labels: ResourceLabels,
    pub(crate) query: Query,
    /// Whether an external metric is one of the namespace that asks for it.
    pub(crate) namespaced: bool,
}

/// How usage is asked for, instead of being read from the nodes.
#[derive(Clone, Debug)]
pub(crate) struct ResourceRules {
    pub(crate) cpu: ResourceRule,
    pub(crate) memory: ResourceRule,
    pub(crate) window_ms: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct ResourceRule {
    pub(crate) containers: Query,
    pub(crate) nodes: Query,
    pub(crate) labels: ResourceLabels,
    pub(crate) container_label: String,
}

/// A query's template.
#[derive(Clone)]
pub(crate) struct Query(pub(crate) Template);

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Query")
    }
}

// === the file ===

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    #[serde(default, deserialize_with = "or_default")]
    rules: Vec<RuleText>,
    #[serde(default, deserialize_with = "or_default")]
    external_rules: Vec<RuleText>,
    #[serde(default)]
    resource_rules: Option<ResourceRulesText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleText {
    series_query: String,
    #[serde(default, deserialize_with = "or_default")]
    series_filters: Vec<FilterText>,
    #[serde(default, deserialize_with = "or_default")]
    resources: ResourcesText,
    #[serde(default, deserialize_with = "or_default")]
    name: NameText,
    #[serde(default, deserialize_with = "or_default")]
    metrics_query: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FilterText {
    #[serde(default, deserialize_with = "or_default")]
    is: String,
    #[serde(default, deserialize_with = "or_default")]
    is_not: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ResourcesText {
    #[serde(default, deserialize_with = "or_default")]
    template: String,
    #[serde(default, deserialize_with = "or_default")]
    overrides: BTreeMap<String, GroupResourceText>,
    #[serde(default)]
    namespaced: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupResourceText {
    #[serde(default, deserialize_with = "or_default")]
    group: String,
    resource: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NameText {
    #[serde(default, deserialize_with = "or_default")]
    matches: String,
    #[serde(default, rename = "as", deserialize_with = "or_default")]
    name_as: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceRulesText {
    cpu: ResourceRuleText,
    memory: ResourceRuleText,
    #[serde(default, deserialize_with = "or_default")]
    window: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ResourceRuleText {
    container_query: String,
    node_query: String,
    #[serde(default, deserialize_with = "or_default")]
    resources: ResourcesText,
    container_label: String,
}

/// `key:` without a value is the empty value, as Go reads it.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

// === impl Rules ===

impl Rules {
    /// Reads a rules file; `file` is its name in errors.
    pub fn parse(file: &str, text: &str) -> Result<Rules, RulesError> {
        let read: File = gantry_yaml::from_str(file, text)?;
        let compile = |list: &[RuleText], field: &str| -> Result<Vec<Rule>, RulesError> {
            let compiled = list.iter().enumerate().map(|(index, rule)| {
                let name = format!("{field}[{index}] ({:?})", rule.series_query);
                compile(rule).map_err(|message| RulesError::Rule { file: file.into(), rule: name, message })
            });
            compiled.collect()
        };
        let resources = read.resource_rules.as_ref().map(|rules| {
            compile_resources(rules).map_err(|message| RulesError::Rule {
                file: file.into(),
                rule: "resourceRules".into(),
                message,
            })
        });
        Ok(Rules {
            custom: compile(&read.rules, "rules")?,
            external: compile(&read.external_rules, "externalRules")?,
            resources: resources.transpose()?,
        })
    }

    /// Whether usage of pods and nodes comes from queries.
    pub fn has_resources(&self) -> bool {
        self.resources.is_some()
    }
}

fn compile(rule: &RuleText) -> Result<Rule, String> {
    if rule.metrics_query.is_empty() {
        return Err("metricsQuery is missing".into());
    }
    let regex = |text: &str, field: &str| Regex::new(text).map_err(|error| format!("{field}: {error}"));
    let mut filters = Vec::new();
    for (index, filter) in rule.series_filters.iter().enumerate() {
        let field = format!("seriesFilters[{index}]");
        filters.push(match (filter.is.as_str(), filter.is_not.as_str()) {
            ("", "") => return Err(format!("{field}: one of `is` and `isNot` must be given")),
            (is, "") => Filter { regex: regex(is, &field)?, wanted: true },
            ("", is_not) => Filter { regex: regex(is_not, &field)?, wanted: false },
            _ => return Err(format!("{field}: only one of `is` and `isNot` may be given")),
        });
    }
    let matches = if rule.name.matches.is_empty() { ".*" } else { &rule.name.matches };
    let name = MetricName::new(regex(matches, "name.matches")?, &rule.name.name_as)?;
    if !rule.name.matches.is_empty() {
        filters.push(Filter { regex: regex(matches, "name.matches")?, wanted: true });
    }
    Ok(Rule {
        series_query: rule.series_query.clone(),
        filters,
        name,
        labels: labels(&rule.resources)?,
        query: query("metricsQuery", &rule.metrics_query)?,
        namespaced: rule.resources.namespaced.unwrap_or(true),
    })
}

fn compile_resources(rules: &ResourceRulesText) -> Result<ResourceRules, String> {
    let rule = |rule: &ResourceRuleText| -> Result<ResourceRule, String> {
        Ok(ResourceRule {
            containers: query("containerQuery", &rule.container_query)?,
            nodes: query("nodeQuery", &rule.node_query)?,
            labels: labels(&rule.resources)?,
            container_label: rule.container_label.clone(),
        })
    };
    let window = if rules.window.is_empty() { "0s" } else { &rules.window };
    let window_ms =
        parse_prometheus_duration(window).map_err(|error: DurationError| format!("window: {error}"))?;
    Ok(ResourceRules {
        cpu: rule(&rules.cpu).map_err(|error| format!("cpu.{error}"))?,
        memory: rule(&rules.memory).map_err(|error| format!("memory.{error}"))?,
        window_ms,
    })
}

fn labels(text: &ResourcesText) -> Result<ResourceLabels, String> {
    let overrides =
        text.overrides.iter().map(|(label, to)| (label.clone(), to.group.clone(), to.resource.clone()));
    ResourceLabels::new(&text.template, overrides.collect())
        .map_err(|error| format!("resources.template: {error}"))
}

fn query(field: &str, text: &str) -> Result<Query, String> {
    Template::new(field).delimiters("<<", ">>").parse(text).map(Query).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "rules:\n- seriesQuery: 'up'\n  resources: {template: '<<.Resource>>'}\n";

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| Rules::parse("rules.yaml", text).unwrap_err().to_string();
        assert!(error("rules:\n- seriesquery: up\n").contains("rules.yaml:2:3"));
        assert_eq!(error(RULE), "rules.yaml: rules[0] (\"up\"): metricsQuery is missing");
        let with = |more: &str| error(&format!("{RULE}  metricsQuery: 'x'\n{more}"));
        assert!(with("  seriesFilters: [{}]\n").contains("seriesFilters[0]: one of `is` and `isNot`"));
        assert!(with("  seriesFilters: [{is: '('}]\n").contains("seriesFilters[0]: regex parse error"));
        assert!(with("  name: {matches: '(a)(b)'}\n").contains("must say what `as` is"));
        let query = error(&format!("{RULE}  metricsQuery: '<<.Series'\n"));
        assert!(query.contains("template: metricsQuery:1:9: unclosed action"), "{query}");
    }

    #[test]
    fn empty_values_are_defaults() {
        let rules = Rules::parse("r", "rules:\nexternalRules:\n").unwrap();
        assert!(rules.custom.is_empty() && rules.external.is_empty() && !rules.has_resources());
        let text = format!("{RULE}  metricsQuery: x\n  name:\n  seriesFilters:\n");
        assert_eq!(Rules::parse("r", &text).unwrap().custom.len(), 1);
    }
}
