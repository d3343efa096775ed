//! Every kind of panel over invented data: as a view, as pictures, as text.

use std::sync::Arc;

use async_trait::async_trait;
use gantry_dashboards::{
    Answer, Body, Dashboard, DashboardView, DataSource, Locale, Request, Scene, Series, SourceError,
    SourceInfo, Sources, Theme, ViewOptions, terminal, view,
};
use gantry_prom_model::Labels;
use serde_json::json;

const NOW: Locale = Locale { now_ms: 1_795_861_230_000, utc_offset_min: 0 };

struct Waves;

#[async_trait]
impl DataSource for Waves {
    async fn range(
        &self,
        expr: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Answer, SourceError> {
        if expr.contains("broken") {
            return Err(SourceError("the source is out of order".to_owned()));
        }
        let times_ms: Vec<i64> =
            (0..).map(|n| start_ms + n * step_ms).take_while(|time| *time <= end_ms).collect();
        let one = |n: usize| Series {
            labels: Labels::from_pairs([("pod", format!("web-{n}")), ("le", (n as f64 / 4.0).to_string())]),
            values: times_ms
                .iter()
                .map(|time| 40.0 + 30.0 * ((time / 60_000 + 7 * n as i64) as f64 / 5.0).sin() + n as f64)
                .collect(),
            times_ms: times_ms.clone(),
        };
        Ok(Answer { series: (0..4).map(one).collect(), warnings: Vec::new() })
    }

    async fn instant(&self, expr: &str, time_ms: i64) -> Result<Answer, SourceError> {
        self.range(expr, time_ms, time_ms, 1000).await
    }

    async fn label_values(
        &self,
        _: &str,
        _: Option<&str>,
        _: i64,
        _: i64,
    ) -> Result<Vec<String>, SourceError> {
        Ok(["web-0", "web-1"].map(str::to_owned).to_vec())
    }

    async fn label_names(&self, _: i64, _: i64) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }

    async fn series(&self, _: &str, _: i64, _: i64) -> Result<Vec<Labels>, SourceError> {
        Ok(Vec::new())
    }
}

struct One;

impl Sources for One {
    fn list(&self) -> Vec<SourceInfo> {
        vec![SourceInfo {
            uid: "w".into(),
            name: "Waves".into(),
            kind: "prometheus".into(),
            is_default: true,
            interval_ms: 15_000,
        }]
    }

    fn open(&self, _: &str) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(Waves))
    }
}

async fn seen(theme: Theme) -> DashboardView {
    let target = |expr: &str| json!([{ "expr": expr, "legendFormat": "{{pod}}" }]);
    let panel = |id: u32, kind: &str, title: &str, more: serde_json::Value| {
        let mut panel = json!({ "id": id, "type": kind, "title": title, "targets": target("x"), "gridPos": { "x": 0, "y": id * 8, "w": 12, "h": 8 } });
        for (key, value) in more.as_object().into_iter().flatten() {
            panel[key] = value.clone();
        }
        panel
    };
    let percent = json!({ "defaults": { "unit": "percent", "max": 100, "min": 0 }, "overrides": [] });
    let dashboard = json!({ "uid": "all", "title": "All", "time": { "from": "now-1h", "to": "now" }, "panels": [
        panel(1, "timeseries", "Stacked areas", json!({ "fieldConfig": { "defaults": { "unit": "bytes", "custom": { "fillOpacity": 60, "stacking": { "mode": "normal" } } } },
            "options": { "legend": { "displayMode": "table", "placement": "right", "calcs": ["mean", "max"] } } })),
        panel(2, "graph", "Old bars", json!({ "bars": true, "lines": false, "stack": true, "yaxes": [{ "format": "short" }, {}] })),
        panel(3, "stat", "Values", json!({ "fieldConfig": percent })),
        panel(4, "gauge", "Gauges", json!({ "fieldConfig": percent })),
        panel(5, "bargauge", "Bars", json!({ "fieldConfig": percent, "options": { "orientation": "horizontal" } })),
        panel(6, "table", "Table", json!({ "targets": [{ "expr": "x", "instant": true, "format": "table" }] })),
        panel(7, "piechart", "Pie", json!({ "options": { "displayLabels": ["percent"] } })),
        panel(8, "heatmap", "Heat", json!({ "targets": [{ "expr": "x", "format": "heatmap" }] })),
        panel(9, "text", "Text", json!({ "options": { "content": "# Hello\nSome **bold** words and a [link](https://example.org)." } })),
        panel(10, "timeseries", "Broken", json!({ "targets": target("broken") })),
        panel(11, "nodeGraph", "Unknown", json!({})),
        panel(12, "timeseries", "Lines", json!({ "fieldConfig": { "defaults": { "unit": "s", "custom": { "lineInterpolation": "smooth", "lineWidth": 2, "thresholdsStyle": { "mode": "line+area" } },
            "thresholds": { "steps": [{ "color": "transparent", "value": null }, { "color": "red", "value": 60 }] } } } })),
    ] });
    let dashboard = Dashboard::from_value(dashboard).expect("a dashboard");
    let options = ViewOptions {
        request: Request { locale: NOW, ..Request::default() },
        theme,
        width: 1200,
        ..ViewOptions::default()
    };
    view(&dashboard, &options, &One).await
}

#[tokio::test]
async fn every_kind_has_its_view_and_a_failure_its_words() {
    let seen = seen(Theme::Dark).await;
    assert_eq!(seen.panels.len(), 12);
    for panel in &seen.panels {
        let fine = match (panel.id, &panel.body) {
            (1 | 2 | 12, Body::Chart(chart)) => {
                chart.series.len() == 4 && chart.series[0].values.iter().all(Option::is_some)
            }
            (3, Body::Stat(stats)) | (4, Body::Gauge(stats)) | (5, Body::BarGauge(stats)) => {
                stats.items.len() == 4
            }
            (6, Body::Table(table)) => table.rows.len() == 4 && table.columns.len() == 4,
            (7, Body::Pie(pie)) => pie.slices.len() == 4,
            (8, Body::Heatmap(heat)) => heat.buckets.len() == 4,
            (9, Body::Text { blocks }) => blocks.len() == 2,
            (10, Body::Chart(chart)) => {
                chart.series.is_empty() && panel.error.as_ref().is_some_and(|e| e.contains("out of order"))
            }
            (11, Body::Nothing { text }) => text.contains("nodeGraph"),
            _ => false,
        };
        assert!(fine, "{panel:?}");
    }
    // Panels that ask the same ask once: a range (of two widths of answers) and two instants.
    assert!(seen.queries <= 4, "{}", seen.queries);
}

/// Pictures and views are left in the target folder, to be looked at.
#[tokio::test]
async fn every_kind_is_drawn() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("panels");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (theme, name) in [(Theme::Dark, "dark"), (Theme::Light, "light")] {
        let seen = seen(theme).await;
        let json = serde_json::to_vec(&seen).expect("plain data");
        std::fs::write(folder.join(format!("view-{name}.json")), json).expect("a file");
        for panel in seen.panels {
            let scene = Scene::of(&panel, 600, 320, theme, NOW);
            let png = scene.png(1.0).expect("a picture");
            assert!(png.starts_with(b"\x89PNG"));
            std::fs::write(folder.join(format!("{}-{name}.png", panel.id)), &png).expect("a file");
            let svg = scene.svg();
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
            let text = terminal(&panel, 80, 12, false, NOW);
            assert!(text.contains(&panel.title) && !text.contains('\u{1b}'), "{text}");
            for size in [(1, 1), (60, 4000), (4000, 60)] {
                Scene::of(&panel, size.0, size.1, theme, NOW).png(1.0).expect("any size can be drawn");
            }
        }
    }
}
