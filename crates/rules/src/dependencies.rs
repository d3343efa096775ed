//! Which rules of a group may run side by side.
//!
//! A rule that reads what an earlier one writes (or the other way round) waits for it, so that the outcome is that of
//! evaluating the rules in the order of the file.

use gantry_prom_model::{METRIC_NAME, Matcher};

use crate::alerting::{ALERT_NAME, ALERT_SERIES, FOR_STATE_SERIES};
use crate::rule::{Kind, Rule};

/// Comparing all pairs of rules in a larger group would take longer than it gains: it is evaluated in order.
const MAX_COMPARED: usize = 2_000;

/// The rules in waves: those of a wave may run side by side, and each wave after the one before.
pub(crate) fn waves(rules: &[Rule]) -> Vec<Vec<usize>> {
    if rules.len() > MAX_COMPARED {
        return (0..rules.len()).map(|index| vec![index]).collect();
    }
    let mut wave_of = vec![0; rules.len()];
    let mut waves: Vec<Vec<usize>> = Vec::new();
    for later in 0..rules.len() {
        let earlier = (0..later).filter(|earlier| is_ordered(&rules[*earlier], &rules[later]));
        wave_of[later] = earlier.map(|earlier| wave_of[earlier] + 1).max().unwrap_or(0);
        if waves.len() <= wave_of[later] {
            waves.push(Vec::new());
        }
        waves[wave_of[later]].push(later);
    }
    waves
}

fn is_ordered(one: &Rule, other: &Rule) -> bool {
    reads(one, other) || reads(other, one) || writes_same(one, other)
}

fn writes_same(one: &Rule, other: &Rule) -> bool {
    one.name == other.name && one.alerting().is_some() == other.alerting().is_some()
}

fn reads(reader: &Rule, writer: &Rule) -> bool {
    asks_in_texts(reader)
        || reader.expr.selectors().iter().any(|selector| may_select(&selector.matchers, writer))
}

/// Whether a template of the rule asks queries of its own, which could be of anything.
fn asks_in_texts(rule: &Rule) -> bool {
    let Some(alerting) = rule.alerting() else { return false };
    let mut texts = alerting.annotations.iter().chain(rule.labels.iter()).map(|(_, text)| text);
    texts.any(|text| text.contains("query"))
}

fn may_select(matchers: &[Matcher], writer: &Rule) -> bool {
    let names: &[&str] = match &writer.kind {
        Kind::Recording => &[&writer.name],
        Kind::Alerting(_) => &[ALERT_SERIES, FOR_STATE_SERIES],
    };
    let is_alert = writer.alerting().is_some();
    names.iter().any(|name| {
        matchers.iter().all(|matcher| match &*matcher.name {
            METRIC_NAME => matcher.matches(name),
            ALERT_NAME if is_alert => matcher.matches(&writer.name),
            _ => true,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{ReadOptions, read_rule_file};

    fn waves_of(rules: &str) -> Vec<Vec<usize>> {
        let text = format!("groups:\n- name: g\n  rules:\n{rules}");
        let file = read_rule_file("r.yml", &text, ReadOptions::default()).expect("a good file");
        let group = file.groups.into_iter().next().expect("one group");
        let rules: Vec<Rule> = group.rules.into_iter().map(|node| Rule::new(node, true)).collect();
        waves(&rules)
    }

    #[test]
    fn a_rule_waits_for_what_it_reads() {
        let rules = "  - {record: a, expr: up}\n  - {record: b, expr: up}\n  - {record: c, expr: 'a + b'}\n  - {record: d, expr: 'c'}\n  - {record: e, expr: 'a'}\n";
        assert_eq!(waves_of(rules), [vec![0, 1], vec![2, 4], vec![3]]);
    }

    #[test]
    fn a_rule_that_reads_a_later_one_still_comes_first() {
        assert_eq!(waves_of("  - {record: a, expr: b}\n  - {record: b, expr: up}\n"), [vec![0], vec![1]]);
    }

    #[test]
    fn a_selector_without_a_name_may_read_anything() {
        let rules =
            "  - {record: a, expr: up}\n  - {record: b, expr: '{job=\"x\"}'}\n  - {record: c, expr: up}\n";
        assert_eq!(waves_of(rules), [vec![0], vec![1], vec![2]]);
    }

    #[test]
    fn alerts_are_told_apart_by_name() {
        let rules = "  - {alert: A, expr: up}\n  - {alert: B, expr: up}\n  - {record: c, expr: 'count(ALERTS{alertname=\"A\"})'}\n  - {record: d, expr: 'ALERTS{alertname=~\"X|Y\"}'}\n  - {alert: Q, expr: up, annotations: {x: '{{ query \"c\" }}'}}\n";
        assert_eq!(waves_of(rules), [vec![0, 1, 3], vec![2], vec![4]]);
    }

    #[test]
    fn the_same_series_is_written_in_the_order_of_the_file() {
        let rules = "  - {record: a, expr: up, labels: {x: '1'}}\n  - {record: a, expr: down}\n";
        assert_eq!(waves_of(rules), [vec![0], vec![1]]);
    }
}
