//! Real dashboards: each loads, every panel that is drawn sends its queries with nothing unresolved, each is PromQL,
//! and what comes back becomes a view.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use gantry_dashboards::{
    Answer, Body, Dashboard, DataSource, DatasourceRef, Locale, Panel, Request, Series, SourceError,
    SourceInfo, Sources, VariableKind, ViewOptions, expand, is_supported, plan, resolve, view,
};
use gantry_prom_model::Labels;

use super::Case;

const NOW_MS: i64 = 1_795_861_230_000;

/// One Prometheus that has an answer to everything.
struct Anything;

#[async_trait]
impl DataSource for Anything {
    async fn range(
        &self,
        expr: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Answer, SourceError> {
        gantry_promql::parse(expr).map_err(|error| SourceError(error.to_string()))?;
        let times_ms: Vec<i64> =
            (0..20).map(|n| start_ms + n * step_ms).take_while(|time| *time <= end_ms).collect();
        let one = |name: &str| Series {
            labels: Labels::from_pairs([("le", "0.5"), ("namespace", name), ("pod", "web-1")]),
            values: times_ms.iter().map(|time| (time / 1000 % 97) as f64).collect(),
            times_ms: times_ms.clone(),
        };
        Ok(Answer { series: vec![one("a"), one("b")], warnings: Vec::new() })
    }

    async fn instant(&self, expr: &str, time_ms: i64) -> Result<Answer, SourceError> {
        let mut answer = self.range(expr, time_ms, time_ms, 1000).await?;
        answer.series.iter_mut().for_each(|series| {
            series.times_ms.truncate(1);
            series.values.truncate(1);
        });
        Ok(answer)
    }

    async fn label_values(
        &self,
        _: &str,
        selector: Option<&str>,
        _: i64,
        _: i64,
    ) -> Result<Vec<String>, SourceError> {
        if let Some(selector) = selector {
            gantry_promql::parse_selector(selector)
                .map_err(|error| SourceError(format!("{selector}: {error}")))?;
        }
        Ok(["web-1.example", "10.0.0.1:9100", "db (old)"].map(str::to_owned).to_vec())
    }

    async fn label_names(&self, _: i64, _: i64) -> Result<Vec<String>, SourceError> {
        Ok(vec!["job".to_owned()])
    }

    async fn series(&self, selector: &str, _: i64, _: i64) -> Result<Vec<Labels>, SourceError> {
        gantry_promql::parse_selector(selector).map_err(|error| SourceError(error.to_string()))?;
        Ok(vec![Labels::from_pairs([("__name__", "up"), ("job", "api")])])
    }
}

struct OneSource;

impl Sources for OneSource {
    fn list(&self) -> Vec<SourceInfo> {
        let info = |uid: &str, kind: &str| SourceInfo {
            uid: uid.to_owned(),
            name: uid.to_owned(),
            kind: kind.to_owned(),
            is_default: kind == "prometheus",
            interval_ms: 15_000,
        };
        vec![info("prometheus", "prometheus"), info("logs", "loki")]
    }

    fn open(&self, uid: &str) -> Option<Arc<dyn DataSource>> {
        (uid == "prometheus").then(|| Arc::new(Anything) as _)
    }
}

/// `dashboards/*.json`: a case is a dashboard.
pub(crate) fn cases(data: &Path) -> Option<Vec<Case>> {
    let mut paths: Vec<_> = std::fs::read_dir(data.join("dashboards"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
    let one = |path: &std::path::PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let outcome = std::fs::read_to_string(path)
            .map_err(|error| error.to_string())
            .and_then(|text| runtime.block_on(check(&text)));
        Case::new(name, outcome)
    };
    Some(paths.iter().map(one).collect())
}

/// Whether another plugin than Prometheus is meant, by what the dashboard says: its type, or that of the variable.
fn is_foreign(reference: Option<&DatasourceRef>, dashboard: &Dashboard) -> bool {
    let Some(reference) = reference else { return false };
    if !reference.kind.is_empty() {
        // `datasource` is Grafana's own: several sources, or another panel's answers.
        return !matches!(reference.kind.as_str(), "prometheus" | "datasource");
    }
    let name = reference.name.trim_start_matches('$').trim_start_matches('{').trim_end_matches('}');
    reference.name.starts_with('$')
        && dashboard.variables.iter().any(|own| {
            own.name == name
                && matches!(&own.kind, VariableKind::Datasource { plugin } if plugin != "prometheus")
        })
}

/// Whether the panel, or one of its queries, is another plugin's.
fn asks_others(panel: &Panel, dashboard: &Dashboard) -> bool {
    is_foreign(panel.datasource.as_ref(), dashboard)
        || panel
            .targets
            .iter()
            .filter(|target| !target.hide)
            .any(|target| is_foreign(target.datasource.as_ref(), dashboard))
}

async fn check(text: &str) -> Result<(), String> {
    let dashboard = Dashboard::parse(text).map_err(|error| error.to_string())?;
    let request = Request { locale: Locale { now_ms: NOW_MS, utc_offset_min: 0 }, ..Request::default() };
    let resolved = resolve(&dashboard, &request, &OneSource).await;
    let infos = OneSource.list();
    let mut wrong: Vec<String> = Vec::new();
    for variable in &resolved.variables {
        let is_others = dashboard.variables.iter().any(|own| {
            own.name == variable.name
                && match &own.kind {
                    VariableKind::Query { datasource, .. } => is_foreign(datasource.as_ref(), &dashboard),
                    VariableKind::Datasource { plugin } => plugin != "prometheus",
                    _ => false,
                }
        });
        if let Some(error) = variable.error.as_ref().filter(|_| !is_others) {
            wrong.push(format!("variable {}: {error}", variable.name));
        }
    }
    let collapsed: BTreeSet<i64> =
        dashboard.panels.iter().filter(|panel| panel.collapsed).map(|panel| panel.id).collect();
    for placed in expand(&dashboard, &resolved.scope, &collapsed) {
        if !is_supported(&placed.panel.kind) || matches!(placed.panel.kind.as_str(), "row" | "text") {
            continue;
        }
        let scope = placed.scope(&resolved.scope);
        let plan = plan(placed.panel, &scope, &infos, 600);
        let asked = placed
            .panel
            .targets
            .iter()
            .filter(|target| !target.hide && !target.expr.trim().is_empty())
            .count();
        if plan.errors.is_empty() && plan.queries.len() < asked {
            wrong.push(format!("panel {}: {} of {asked} queries", placed.panel.title, plan.queries.len()));
        }
        for query in &plan.queries {
            // A name that the dashboard itself does not define is sent as it is written.
            let is_defined = |name: &String| {
                dashboard.variables.iter().any(|own| own.name == *name) || name.starts_with("__")
            };
            let open: Vec<String> = scope.unknown(&query.expr).into_iter().filter(is_defined).collect();
            if !open.is_empty() {
                wrong.push(format!("panel {}: {open:?} not resolved in {}", placed.panel.title, query.expr));
            }
            if let Err(error) = gantry_promql::parse(&query.expr) {
                wrong.push(format!("panel {}: {}: {error}", placed.panel.title, query.expr));
            }
        }
    }
    let options = ViewOptions { request, width: 1400, toggled_rows: collapsed, ..ViewOptions::default() };
    for panel in view(&dashboard, &options, &OneSource).await.panels {
        let is_others = dashboard.all_panels().any(|own| own.id == panel.id && asks_others(own, &dashboard));
        if let Some(error) = panel.error.filter(|_| !is_others) {
            wrong.push(format!("panel {}: {error}", panel.title));
        }
        let is_empty = match &panel.body {
            Body::Chart(chart) => chart.series.is_empty(),
            Body::Table(table) => table.columns.is_empty(),
            _ => false,
        };
        let kind = dashboard.all_panels().find(|own| own.id == panel.id);
        // Transformations pick labels that this source does not have.
        let asks = kind.is_some_and(|own| {
            own.transformations.is_empty()
                && own.targets.iter().any(|target| !target.hide && !target.expr.trim().is_empty())
        });
        if is_empty && asks && !is_others {
            wrong.push(format!("panel {}: nothing is drawn of its answers", panel.title));
        }
    }
    wrong.dedup();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::{Dashboard, asks_others};

    #[test]
    fn what_is_another_plugins_is_said_by_the_dashboard() {
        let text = r#"{"title": "t", "schemaVersion": 39,
            "templating": {"list": [
                {"name": "logs", "type": "datasource", "query": "loki"},
                {"name": "metrics", "type": "datasource", "query": "prometheus"}]},
            "panels": [
                {"id": 1, "type": "stat", "datasource": {"type": "postgres", "uid": "x"}},
                {"id": 2, "type": "stat", "datasource": "$logs"},
                {"id": 3, "type": "stat", "datasource": {"uid": "${metrics}"}, "targets": [{"expr": "up"}]},
                {"id": 4, "type": "stat", "datasource": {"type": "datasource", "uid": "-- Mixed --"},
                 "targets": [{"expr": "up", "datasource": {"type": "loki", "uid": "y"}}]}]}"#;
        let dashboard = Dashboard::parse(text).unwrap();
        let others = dashboard.all_panels().filter(|panel| asks_others(panel, &dashboard));
        assert_eq!(others.map(|panel| panel.id).collect::<Vec<_>>(), [1, 2, 4]);
    }
}
