//! From a rule and a request to PromQL.

use std::collections::BTreeMap;

use gantry_apimachinery::selector::{Op, Selector};
use gantry_gotemplate::{Value, printf};

use super::kinds::{GroupResource, Kinds};
use super::labels::ResourceLabels;
use super::rules::Query;

/// Label matchers as text, and the values asked for by label.
#[derive(Default)]
struct Matchers {
    expressions: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Matchers {
    fn push(&mut self, label: &str, operator: &str, value: &str) {
        let quoted = printf("%q", &[value.into()]);
        self.expressions.push(format!("{label}{operator}{quoted}"));
    }

    fn equal(&mut self, label: &str, value: &str) {
        self.push(label, "=", value);
        self.values.insert(label.to_owned(), value.to_owned());
    }

    /// A selector that cannot be said exactly in PromQL is refused, because a wrong number scales wrongly.
    fn select(&mut self, selector: &Selector) -> Result<(), String> {
        for requirement in &selector.requirements {
            let label = requirement.key.as_str();
            let values: Vec<&str> = requirement.values.iter().map(|value| value.as_str()).collect();
            let joined = values.join("|");
            let operator = match (requirement.op, values.len()) {
                (Op::Exists, _) => "!=",
                (Op::Absent, _) => "=",
                (Op::Equals, 0..=1) => "=",
                (Op::NotEquals, 0..=1) => "!=",
                (Op::In | Op::Equals, _) => "=~",
                (Op::NotIn | Op::NotEquals, _) => "!~",
                (Op::Greater | Op::Less, _) => {
                    return Err(format!("the requirement on {label:?}: operators > and < are not supported"));
                }
            };
            self.push(label, operator, &joined);
            self.values.insert(label.to_owned(), joined);
        }
        Ok(())
    }
}

/// What a query is for.
pub(crate) struct Wanted<'a> {
    pub(crate) series: &'a str,
    pub(crate) resource: &'a GroupResource,
    /// Empty for what has no namespace.
    pub(crate) namespace: &'a str,
    pub(crate) names: &'a [String],
    pub(crate) selector: &'a Selector,
    pub(crate) also_group_by: &'a [&'a str],
}

/// The query for some objects' values.
pub(crate) fn of_objects(
    query: &Query,
    labels: &ResourceLabels,
    kinds: &Kinds,
    wanted: &Wanted<'_>,
) -> Result<String, String> {
    let mut matchers = Matchers::default();
    matchers.select(wanted.selector)?;
    if !wanted.namespace.is_empty() {
        matchers.equal(&labels.label(kinds, &GroupResource::core("namespaces"))?, wanted.namespace);
    }
    let label = labels.label(kinds, wanted.resource)?;
    let names = wanted.names.join("|");
    matchers.push(&label, if wanted.names.len() > 1 { "=~" } else { "=" }, &names);
    matchers.values.insert(label.clone(), names);
    let mut group_by = vec![label];
    group_by.extend(wanted.also_group_by.iter().map(|label| (*label).to_owned()));
    render(query, wanted.series, matchers, &group_by)
}

/// The query for an external metric.
pub(crate) fn external(
    query: &Query,
    labels: &ResourceLabels,
    kinds: &Kinds,
    series: &str,
    namespace: Option<&str>,
    selector: &Selector,
) -> Result<String, String> {
    let mut matchers = Matchers::default();
    matchers.select(selector)?;
    if let Some(namespace) = namespace {
        matchers.equal(&labels.label(kinds, &GroupResource::core("namespaces"))?, namespace);
    }
    render(query, series, matchers, &[])
}

fn render(query: &Query, series: &str, matchers: Matchers, group_by: &[String]) -> Result<String, String> {
    let data = Value::map([
        ("Series", Value::from(series)),
        ("LabelMatchers", Value::from(matchers.expressions.join(","))),
        ("LabelValuesByName", Value::string_map(matchers.values)),
        ("GroupBy", Value::from(group_by.join(","))),
        ("GroupBySlice", Value::list(group_by.iter().map(|label| Value::from(label.as_str())))),
    ]);
    let text = query.0.execute(&data).map_err(|error| error.to_string())?;
    if text.is_empty() {
        return Err("empty query produced by metrics query template".into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::kinds::tests::kinds;
    use super::super::rules::Rules;
    use super::*;
    use gantry_apimachinery::selector::parse_label_selector;

    fn build(
        query: &str,
        resource: &str,
        namespace: &str,
        names: &[&str],
        selector: &str,
    ) -> Result<String, String> {
        let text = format!(
            "rules:\n- seriesQuery: s\n  resources: {{template: '<<.Resource>>'}}\n  metricsQuery: '{query}'\n"
        );
        let rules = Rules::parse("r", &text).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let wanted = Wanted {
            series: "http_requests_total",
            resource: &GroupResource::parse(resource),
            namespace,
            names: &names,
            selector: &parse_label_selector(selector).unwrap(),
            also_group_by: &[],
        };
        of_objects(&rules.custom[0].query, &rules.custom[0].labels, &kinds(), &wanted)
    }

    #[test]
    fn matchers_and_groups_reach_the_template() {
        let query = "sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)";
        assert_eq!(
            build(query, "pods", "shop", &["a", "b"], "").unwrap(),
            "sum(rate(http_requests_total{namespace=\"shop\",pod=~\"a|b\"}[2m])) by (pod)"
        );
        assert_eq!(
            build(query, "nodes", "", &["n"], "verb=GET,code notin (500,502),zone,!old").unwrap(),
            "sum(rate(http_requests_total{verb=\"GET\",code!~\"500|502\",zone!=\"\",old=\"\",node=\"n\"}[2m])) by (node)"
        );
        let by_name = "<<index .LabelValuesByName \"pod\">> <<range .GroupBySlice>><<.>>;<<end>> <<.LabelValuesByName.verb>>";
        assert_eq!(
            build(by_name, "pods", "shop", &["a", "b"], "verb in (GET,PUT)").unwrap(),
            "a|b pod; GET|PUT"
        );
        assert!(build(query, "pods", "shop", &["a"], "n>5").unwrap_err().contains("> and <"));
        assert!(
            build("<<if false>>x<<end>>", "pods", "shop", &["a"], "").unwrap_err().contains("empty query")
        );
    }
}
