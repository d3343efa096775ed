//! Rule files: groups of recording and alerting rules, read strictly.

use std::collections::{BTreeMap, BTreeSet};

use gantry_prom_model::{Labels, METRIC_NAME};
use gantry_promql::ast::Expr;
use gantry_yaml::{Node, Span};

use crate::fields::{Fields, FileError, get};
use crate::template;

/// Which names labels, annotations and metrics may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameScheme {
    /// Any text that is not empty.
    #[default]
    Utf8,
    /// Letters, digits and underscores (for metrics also colons), as before Prometheus 3.
    Legacy,
}

impl NameScheme {
    fn is_label_name(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => is_legacy(name, |c| c == '_'),
        }
    }

    fn is_metric_name(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => is_legacy(name, |c| c == '_' || c == ':'),
        }
    }
}

fn is_legacy(name: &str, also: impl Fn(char) -> bool) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || also(c))
}

/// How a rule file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadOptions {
    pub names: NameScheme,
    /// Whether fields that nobody knows are passed over.
    pub ignore_unknown_fields: bool,
}

/// A rule file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleFile {
    pub groups: Vec<RuleGroup>,
    /// What is not wrong but probably not meant.
    pub warnings: Vec<String>,
}

/// A group of a rule file.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleGroup {
    pub name: String,
    /// Between two evaluations; the global interval when absent.
    pub interval_ms: Option<i64>,
    /// How far back the rules look; the global offset when absent.
    pub query_offset_ms: Option<i64>,
    /// More series or alerts of one rule fail it; 0 is no limit.
    pub limit: usize,
    pub rules: Vec<RuleNode>,
}

/// A rule of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleNode {
    /// The series that is recorded, or the alert.
    pub name: String,
    /// The expression as written.
    pub query: String,
    pub expr: Expr,
    /// Those of the group with the rule's own on top.
    pub labels: Labels,
    pub kind: RecordingOrAlerting,
}

/// What only one kind of rule has.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordingOrAlerting {
    Recording,
    Alerting {
        /// How long a result has to last before the alert fires.
        hold_ms: i64,
        /// How long the alert goes on firing without a result.
        keep_firing_ms: i64,
        annotations: Labels,
    },
}

/// Reads a rule file's text; `file` is its name in messages.
///
/// # Errors
/// Every mistake in it, each with its place.
pub fn read_rule_file(file: &str, text: &str, options: ReadOptions) -> Result<RuleFile, Vec<FileError>> {
    let mut fields = Fields::new(file, options.ignore_unknown_fields);
    let documents = fields.documents(text);
    let mut read = RuleFile::default();
    if let Some(second) = documents.get(1) {
        read.warnings.push(format!(
            "{file}:{}:{}: only the first document of the file is read, this one is not",
            second.span.line(),
            second.span.column()
        ));
    }
    if let Some(document) = documents.first() {
        let entries = fields.mapping(document, &["groups"]);
        let mut names = BTreeSet::new();
        for node in fields.list(get(entries, "groups")) {
            if let Some(group) = read_group(&mut fields, node, options, &mut names) {
                read.groups.push(group);
            }
        }
    }
    if fields.errors.is_empty() { Ok(read) } else { Err(fields.errors) }
}

fn read_group(
    fields: &mut Fields<'_>,
    node: &Node,
    options: ReadOptions,
    names: &mut BTreeSet<String>,
) -> Option<RuleGroup> {
    let known = ["name", "interval", "query_offset", "limit", "labels", "rules"];
    let entries = fields.mapping(node, &known);
    let name = fields.text(get(entries, "name"));
    if name.is_empty() {
        fields.fail(node.span, "groupname must not be empty");
    } else if !names.insert(name.clone()) {
        fields.fail(node.span, format!("groupname: {name:?} is repeated in the same file"));
    }
    let interval_ms = fields.duration(get(entries, "interval")).filter(|interval| *interval > 0);
    let query_offset_ms = fields.duration(get(entries, "query_offset"));
    let limit = read_limit(fields, get(entries, "limit"));
    let labels = read_labels(fields, get(entries, "labels"), options.names, &format!("group {name:?}"));
    let mut rules = Vec::new();
    for (index, rule) in fields.list(get(entries, "rules")).iter().enumerate() {
        let place = (name.as_str(), index + 1);
        rules.extend(read_rule(fields, rule, options.names, &labels, place));
    }
    Some(RuleGroup { name, interval_ms, query_offset_ms, limit, rules })
}

fn read_limit(fields: &mut Fields<'_>, node: Option<&Node>) -> usize {
    let Some(node) = node.filter(|node| !node.is_null()) else { return 0 };
    match node.text().and_then(|text| text.parse::<i64>().ok()) {
        Some(limit) => usize::try_from(limit).unwrap_or(0),
        None => {
            fields.fail(node.span, "expected a whole number");
            0
        }
    }
}

fn read_labels(
    fields: &mut Fields<'_>,
    node: Option<&Node>,
    names: NameScheme,
    place: &str,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, value, span) in fields.texts(node) {
        if !names.is_label_name(&name) || name == METRIC_NAME {
            fields.fail(span, format!("{place}: invalid label name: {name}"));
        }
        labels.insert(name, value);
    }
    labels
}

fn read_rule(
    fields: &mut Fields<'_>,
    node: &Node,
    names: NameScheme,
    group_labels: &BTreeMap<String, String>,
    (group, number): (&str, usize),
) -> Option<RuleNode> {
    let mistakes_before = fields.errors.len();
    let known = ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"];
    let entries = fields.mapping(node, &known);
    let record = fields.text(get(entries, "record"));
    let alert = fields.text(get(entries, "alert"));
    let name = if alert.is_empty() { record.clone() } else { alert.clone() };
    let place = format!("group {group:?}, rule {number}, {name:?}");
    let span_of = |field: &str| get(entries, field).map_or(node.span, |value| value.span);
    match (record.is_empty(), alert.is_empty()) {
        (false, false) => {
            fields.fail(span_of("record"), format!("{place}: only one of 'record' and 'alert' must be set"));
        }
        (true, true) => fields.fail(node.span, format!("{place}: one of 'record' or 'alert' must be set")),
        _ => {}
    }
    let query = fields.text(get(entries, "expr"));
    let expr = read_expression(fields, &query, span_of("expr"), &place);
    let hold_ms = fields.duration(get(entries, "for"));
    let keep_firing_ms = fields.duration(get(entries, "keep_firing_for"));
    let own_labels = read_labels(fields, get(entries, "labels"), names, &place);
    let annotations = fields.texts(get(entries, "annotations"));
    for (annotation, _, span) in &annotations {
        if !names.is_label_name(annotation) {
            fields.fail(*span, format!("{place}: invalid annotation name: {annotation}"));
        }
    }
    if !record.is_empty() {
        let not_of_records = [
            ("annotations", !annotations.is_empty()),
            ("for", hold_ms.is_some_and(|hold| hold != 0)),
            ("keep_firing_for", keep_firing_ms.is_some_and(|keep| keep != 0)),
        ];
        for (field, given) in not_of_records {
            if given {
                fields.fail(span_of(field), format!("{place}: invalid field '{field}' in recording rule"));
            }
        }
        if !names.is_metric_name(&record) {
            fields.fail(span_of("record"), format!("{place}: invalid recording rule name: {record}"));
        } else if record.contains(['{', '}']) {
            let message = format!(
                "{place}: braces present in the recording rule name; should it be in expr?: {record}"
            );
            fields.fail(span_of("record"), message);
        }
    } else {
        let label_spans = fields.texts(get(entries, "labels"));
        check_templates(fields, "label", &label_spans, &name, &place);
        check_templates(fields, "annotation", &annotations, &name, &place);
    }
    if fields.errors.len() > mistakes_before {
        return None;
    }
    let mut labels = group_labels.clone();
    labels.extend(own_labels);
    let kind = if record.is_empty() {
        RecordingOrAlerting::Alerting {
            hold_ms: hold_ms.unwrap_or(0),
            keep_firing_ms: keep_firing_ms.unwrap_or(0),
            annotations: Labels::from_pairs(annotations.iter().map(|(name, text, _)| (name, text))),
        }
    } else {
        RecordingOrAlerting::Recording
    };
    Some(RuleNode { name, query, expr: expr?, labels: Labels::from_pairs(&labels), kind })
}

fn read_expression(fields: &mut Fields<'_>, query: &str, span: Span, place: &str) -> Option<Expr> {
    if query.is_empty() {
        fields.fail(span, format!("{place}: field 'expr' must be set in rule"));
        return None;
    }
    match gantry_promql::parse(query) {
        Ok(expr) => Some(expr),
        Err(error) => {
            fields.fail(span, format!("{place}: could not parse expression: {error}"));
            None
        }
    }
}

fn check_templates(
    fields: &mut Fields<'_>,
    what: &str,
    texts: &[(String, String, Span)],
    alert: &str,
    place: &str,
) {
    for (name, text, span) in texts {
        if let Err(error) = template::check(alert, text) {
            fields.fail(*span, format!("{place}: {what} {name:?}: {error}"));
        }
    }
}

/// The rules that record or raise the same under the same labels: name and labels of each, once.
pub fn duplicate_rules<'r>(groups: impl IntoIterator<Item = &'r RuleGroup>) -> Vec<(String, Labels)> {
    let mut seen: BTreeMap<(&str, &Labels), usize> = BTreeMap::new();
    for rule in groups.into_iter().flat_map(|group| &group.rules) {
        *seen.entry((&rule.name, &rule.labels)).or_default() += 1;
    }
    seen.into_iter()
        .filter(|(_, count)| *count > 1)
        .map(|((name, labels), _)| (name.to_owned(), labels.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        read_rule_file("r.yml", text, ReadOptions::default())
            .expect_err("the file is wrong")
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_file_is_read_with_what_its_groups_lend() {
        let text = "groups:\n- name: g\n  interval: 30s\n  query_offset: 1m\n  limit: 3\n  labels: {team: a, zone: x}\n  rules:\n  - record: r\n    expr: sum(up)\n    labels: {zone: y}\n  - alert: Down\n    expr: up == 0\n    for: 5m\n    keep_firing_for: 1m\n    annotations: {summary: '{{ $labels.job }} is down'}\n";
        let file = read_rule_file("r.yml", text, ReadOptions::default()).expect("a good file");
        let group = &file.groups[0];
        assert_eq!((group.interval_ms, group.query_offset_ms, group.limit), (Some(30_000), Some(60_000), 3));
        assert_eq!(group.rules[0].labels.to_string(), r#"{team="a", zone="y"}"#);
        assert_eq!(group.rules[0].kind, RecordingOrAlerting::Recording);
        let RecordingOrAlerting::Alerting { hold_ms, keep_firing_ms, annotations } = &group.rules[1].kind
        else {
            panic!("the second rule is an alert");
        };
        assert_eq!((*hold_ms, *keep_firing_ms), (300_000, 60_000));
        assert_eq!(annotations.get("summary"), Some("{{ $labels.job }} is down"));
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let text = "groups:\n- name: g\n  rules:\n  - record: a\n    expr: rate(hi)\n    for: 1m\n  - alert: B\n    expr: up\n    annotation: {}\n  - expr: 1\n- name: g\n  intervall: 1m\n";
        assert_eq!(
            errors(text),
            [
                r#"r.yml:5:11: group "g", rule 1, "a": could not parse expression: 1:6: parse error: expected type range vector in call to function "rate", got instant vector"#,
                r#"r.yml:6:10: group "g", rule 1, "a": invalid field 'for' in recording rule"#,
                "r.yml:9:5: unknown field `annotation`, did you mean `annotations`?",
                r#"r.yml:10:5: group "g", rule 3, "": one of 'record' or 'alert' must be set"#,
                "r.yml:12:3: unknown field `intervall`, did you mean `interval`?",
                r#"r.yml:11:3: groupname: "g" is repeated in the same file"#,
            ]
        );
    }

    #[test]
    fn templates_are_checked_where_they_are_written() {
        let text = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up\n    annotations:\n      summary: '{{ $label.foo }}'\n";
        let found = errors(text);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with(r#"r.yml:7:7: group "g", rule 1, "A": annotation "summary": "#),
            "{found:?}"
        );
        assert!(found[0].contains("undefined variable \"$label\""), "{found:?}");
    }

    #[test]
    fn old_names_are_kept_where_they_are_asked_for() {
        let text = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up\n    annotations: {a-b: x}\n";
        assert!(read_rule_file("r.yml", text, ReadOptions::default()).is_ok());
        let legacy = ReadOptions { names: NameScheme::Legacy, ..ReadOptions::default() };
        let found = read_rule_file("r.yml", text, legacy).expect_err("a dash is not of the old names");
        assert!(found[0].message.ends_with("invalid annotation name: a-b"), "{found:?}");
    }
}
