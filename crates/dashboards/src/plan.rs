//! From a panel to the queries it sends: which source, which expression, which times.

use crate::dates::parse_duration;
use crate::interval::{Intervals, Wish};
use crate::model::{Format, Panel, Target};
use crate::resolve::find_source;
use crate::scope::{Purpose, Scope};
use crate::source::SourceInfo;

/// When an expression is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
    Instant { time_ms: i64 },
}

/// One query as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedQuery {
    pub ref_id: String,
    pub source: SourceInfo,
    pub expr: String,
    pub when: When,
    pub format: Format,
    pub legend: String,
    pub intervals: Intervals,
}

/// What a panel asks.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub queries: Vec<PlannedQuery>,
    /// Of the panel, after `timeFrom` and `timeShift`.
    pub from_ms: i64,
    pub to_ms: i64,
    /// Why some targets are not asked.
    pub errors: Vec<String>,
    pub notices: Vec<String>,
}

/// The queries of `panel`, drawn `width` pixels wide.
pub fn plan(panel: &Panel, scope: &Scope, infos: &[SourceInfo], width: u32) -> Plan {
    let (from_ms, to_ms) = panel_range(panel, scope);
    let mut plan = Plan { from_ms, to_ms, ..Plan::default() };
    let mut scope = scope.clone();
    (scope.from_ms, scope.to_ms) = (from_ms, to_ms);
    let say = |list: &mut Vec<String>, text: String| {
        if !list.contains(&text) {
            list.push(text);
        }
    };
    for target in panel.targets.iter().filter(|target| !target.hide) {
        let own = target.datasource.as_ref();
        let is_mixed =
            panel.datasource.as_ref().is_none_or(|reference| reference.name.starts_with("-- Mixed"));
        let reference = if is_mixed || own.is_some() {
            own.or(panel.datasource.as_ref())
        } else {
            panel.datasource.as_ref()
        };
        if target.expr.trim().is_empty() {
            continue;
        }
        let found = match find_source(reference, &scope, infos) {
            Ok(found) if found.info.kind == "prometheus" => found,
            Ok(found) => {
                say(&mut plan.errors, crate::resolve::not_askable(&found.info));
                continue;
            }
            Err(error) => {
                say(&mut plan.errors, error);
                continue;
            }
        };
        if let Some(notice) = found.notice {
            say(&mut plan.notices, notice);
        }
        plan.queries.extend(queries(panel, target, &scope, &found.info, width));
    }
    plan
}

fn panel_range(panel: &Panel, scope: &Scope) -> (i64, i64) {
    let length = |text: &str| parse_duration(&scope.expand(text, None, Purpose::Text));
    let (mut from, mut to) = (scope.from_ms, scope.to_ms);
    if let Some(own) = length(panel.time_from.trim_start_matches("now-")) {
        from = to - own.max(1000);
    }
    if let Some(shift) = length(panel.time_shift.trim_start_matches("now-")) {
        (from, to) = (from - shift, to - shift);
    }
    (from, to)
}

fn queries(
    panel: &Panel,
    target: &Target,
    scope: &Scope,
    info: &SourceInfo,
    width: u32,
) -> Vec<PlannedQuery> {
    let intervals = intervals(panel, target, scope, info, width);
    let expr = scope.expand(&target.expr, Some(intervals), Purpose::PromQl);
    let step_ms = intervals.step_ms;
    let floor = |ms: i64| ms.div_euclid(step_ms) * step_ms;
    let query = |when: When| PlannedQuery {
        ref_id: target.ref_id.clone(),
        source: info.clone(),
        expr: expr.clone(),
        when,
        format: target.format,
        legend: scope.expand(&target.legend, Some(intervals), Purpose::Text),
        intervals,
    };
    let range = When::Range { start_ms: floor(scope.from_ms), end_ms: floor(scope.to_ms), step_ms };
    let mut out = Vec::new();
    if target.range {
        out.push(query(range));
    }
    if target.instant {
        out.push(query(When::Instant { time_ms: scope.to_ms }));
    }
    out
}

fn intervals(panel: &Panel, target: &Target, scope: &Scope, info: &SourceInfo, width: u32) -> Intervals {
    let source_ms = (info.interval_ms > 0).then_some(info.interval_ms);
    let least = [&target.interval, &panel.interval].into_iter().find_map(|text| least(text, scope));
    let least = least.or(target.step.filter(|_| target.interval.is_empty()).map(|_| 0)).filter(|ms| *ms > 0);
    let wish = Wish {
        range_ms: scope.to_ms - scope.from_ms,
        points: i64::from(panel.max_data_points.unwrap_or(width)),
        least_ms: least,
        source_ms,
        factor: i64::from(target.interval_factor),
    };
    let intervals = wish.intervals();
    // A least step that is itself a built-in takes the length that the range asks for.
    if target.interval.contains("__rate_interval") {
        return Intervals { step_ms: intervals.rate_interval_ms * wish.factor.max(1), ..intervals };
    }
    intervals
}

/// `30s`, `>30s`, `$interval`
fn least(text: &str, scope: &Scope) -> Option<i64> {
    let expanded = scope.expand(text, None, Purpose::Text);
    let trimmed = expanded.trim().trim_start_matches(['>', '=']);
    parse_duration(trimmed)
        .or_else(|| trimmed.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Dashboard;
    use serde_json::json;

    fn planned(panel: serde_json::Value) -> Plan {
        let dashboard = Dashboard::from_value(json!({ "panels": [panel] })).unwrap();
        let scope = Scope { from_ms: 1_700_000_001_234, to_ms: 1_700_003_601_234, ..Scope::default() };
        let info = SourceInfo {
            uid: "p".into(),
            name: "Prom".into(),
            kind: "prometheus".into(),
            is_default: true,
            interval_ms: 0,
        };
        plan(&dashboard.panels[0], &scope, &[info], 600)
    }

    #[test]
    fn a_range_query_is_aligned_to_its_step() {
        let plan = planned(json!({"type": "timeseries", "targets": [{"expr": "rate(x[$__rate_interval])"}]}));
        let [query] = plan.queries.as_slice() else { panic!("{plan:?}") };
        assert_eq!(query.expr, "rate(x[1m])");
        let range = When::Range {
            start_ms: 1_700_000_000_000 / 15_000 * 15_000,
            end_ms: 1_700_003_600_000 / 15_000 * 15_000,
            step_ms: 15_000,
        };
        assert_eq!(query.when, range);
    }

    #[test]
    fn instant_hidden_and_foreign_targets() {
        let plan = planned(json!({"type": "table", "interval": "2m", "targets": [
            {"expr": "up", "instant": true, "format": "table"},
            {"expr": "up", "hide": true},
            {"expr": "$__interval", "interval": "5m", "intervalFactor": 2},
            {"expr": "{app=\"x\"}", "datasource": {"type": "loki", "uid": "l"}},
            {"expr": "both", "instant": true, "range": true, "datasource": {"type": "prometheus", "uid": "elsewhere"}}]}));
        let exprs: Vec<&str> = plan.queries.iter().map(|query| query.expr.as_str()).collect();
        assert_eq!(exprs, ["up", "5m", "both", "both"]);
        assert_eq!(plan.queries[0].when, When::Instant { time_ms: 1_700_003_601_234 });
        assert_eq!(plan.queries[1].intervals.step_ms, 600_000);
        assert_eq!(plan.queries[2].intervals.interval_ms, 120_000);
        assert!(plan.errors[0].contains("loki") && plan.notices[0].contains("elsewhere"), "{plan:?}");
    }
}
