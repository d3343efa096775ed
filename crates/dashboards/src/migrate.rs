//! Brings older dashboards to the newest schema: rows to the grid, and what each retired panel became.
//!
//! Every step looks at the shape it changes, not at `schemaVersion`, which hand-made files often get wrong.

mod graph;
mod panels;

use serde_json::{Value, json};

use crate::json::{flag, is_set, list, str_at, text, whole};

const COLUMNS: i64 = 24;
/// Pixels of one grid row with its gap.
const ROW_PIXELS: i64 = 38;
const DEFAULT_SPAN: i64 = 4;

/// Rewrites `dashboard` in place.
pub(crate) fn upgrade(dashboard: &mut Value) {
    if !list(dashboard, "/rows").is_empty() && list(dashboard, "/panels").is_empty() {
        rows_to_grid(dashboard);
    }
    let Some(panels) = dashboard.pointer_mut("/panels").and_then(Value::as_array_mut) else { return };
    let mut used: Vec<i64> = Vec::new();
    let mut bottom = 0;
    for panel in panels.iter_mut() {
        upgrade_panel(panel, &mut used, &mut bottom);
        if let Some(nested) = panel.pointer_mut("/panels").and_then(Value::as_array_mut) {
            let mut bottom = bottom;
            for panel in nested {
                upgrade_panel(panel, &mut used, &mut bottom);
            }
        }
    }
    // The grid is read from top to bottom, whatever the order of the file.
    panels.sort_by_key(|panel| {
        (whole(panel, "/gridPos/y").unwrap_or(0), whole(panel, "/gridPos/x").unwrap_or(0))
    });
}

fn upgrade_panel(panel: &mut Value, used: &mut Vec<i64>, bottom: &mut i64) {
    if !panel.is_object() {
        *panel = json!({ "type": "" });
    }
    let id = whole(panel, "/id").filter(|id| *id > 0 && !used.contains(id));
    let id = id.unwrap_or_else(|| used.iter().max().copied().unwrap_or(0) + 1);
    used.push(id);
    panel["id"] = json!(id);
    if panel.pointer("/gridPos").is_none_or(|grid| !grid.is_object()) {
        let height = if str_at(panel, "/type") == Some("row") { 1 } else { 8 };
        panel["gridPos"] = json!({ "x": 0, "y": *bottom, "w": 12, "h": height });
    }
    *bottom = (*bottom)
        .max(whole(panel, "/gridPos/y").unwrap_or(0).saturating_add(whole(panel, "/gridPos/h").unwrap_or(1)));
    match str_at(panel, "/type").unwrap_or_default() {
        "graph" => graph::to_time_series(panel),
        "singlestat" | "grafana-singlestat-panel" => panels::single_stat(panel),
        "table-old" => panels::old_table(panel),
        "table"
            if panel.pointer("/styles").is_some()
                && panel.pointer("/fieldConfig/defaults/custom").is_none() =>
        {
            panels::old_table(panel);
        }
        "text" => panels::text_panel(panel),
        "heatmap" | "heatmap-new" => panels::heatmap(panel),
        "grafana-piechart-panel" | "piechart" => panels::pie(panel),
        _ => {}
    }
    panels::field_options(panel);
    panels::value_mappings(panel);
    panels::cell_options(panel);
    panels::legend(panel);
}

/// `250px`, `250`, 250 to grid rows.
fn grid_height(value: Option<String>) -> i64 {
    let pixels =
        value.and_then(|text| text.trim_end_matches("px").trim().parse::<f64>().ok()).unwrap_or(250.0);
    ((pixels as i64).clamp(30, 5000) + ROW_PIXELS - 1) / ROW_PIXELS
}

fn rows_to_grid(dashboard: &mut Value) {
    let rows = dashboard["rows"].take();
    let rows = rows.as_array().cloned().unwrap_or_default();
    let is_headed = |row: &Value| {
        is_set(row, "/showTitle")
            || is_set(row, "/collapse")
            || is_set(row, "/collapsed")
            || text(row, "/repeat").is_some()
    };
    let show_rows = rows.iter().any(is_headed);
    let mut out = Vec::new();
    let mut y = 0;
    for row in rows {
        let collapsed = flag(&row, "/collapse").or(flag(&row, "/collapsed")).unwrap_or(false);
        let height = grid_height(text(&row, "/height"));
        let mut header = json!({
            "type": "row", "title": row["title"], "collapsed": collapsed, "repeat": row["repeat"],
            "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 }, "panels": [],
        });
        if show_rows {
            y += 1;
        }
        let (placed, below) = place(list(&row, "/panels"), y, height);
        if !show_rows {
            out.extend(placed);
            y = below;
            continue;
        }
        if collapsed {
            header["panels"] = Value::Array(placed);
            out.push(header);
        } else {
            out.push(header);
            out.extend(placed);
            y = below;
        }
    }
    dashboard["panels"] = Value::Array(out);
}

/// Panels of a row from left to right, in as many lines as they need; gives the first free grid row.
fn place(panels: &[Value], top: i64, row_height: i64) -> (Vec<Value>, i64) {
    let (mut x, mut y, mut line_height) = (0, top, 0);
    let mut out = Vec::new();
    for panel in panels {
        let mut panel = panel.clone();
        if !panel.is_object() {
            continue;
        }
        let span =
            crate::json::number(&panel, "/span").map_or(DEFAULT_SPAN * 2, |span| (span * 2.0).floor() as i64);
        let width = span.clamp(1, COLUMNS);
        let height = match text(&panel, "/height") {
            Some(height) => grid_height(Some(height)),
            None => row_height,
        };
        if x + width > COLUMNS {
            (x, y, line_height) = (0, y + line_height, 0);
        }
        panel["gridPos"] = json!({ "x": x, "y": y, "w": width, "h": height });
        if let Some(least) = whole(&panel, "/minSpan").filter(|least| *least > 0) {
            panel["maxPerRow"] = json!((12 / least).max(1));
        }
        x += width;
        line_height = line_height.max(height);
        out.push(panel);
    }
    (out, y + line_height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_a_grid() {
        let mut dashboard = json!({"rows": [
            {"title": "a", "showTitle": true, "height": "250px", "panels": [
                {"span": 6, "type": "graph"}, {"span": 6, "type": "text", "content": "x"}, {"span": 4, "type": "graph"}]},
            {"title": "b", "collapse": true, "panels": [{"type": "graph"}]},
        ]});
        upgrade(&mut dashboard);
        let panels = list(&dashboard, "/panels");
        let kinds: Vec<_> = panels.iter().filter_map(|panel| str_at(panel, "/type")).collect();
        assert_eq!(kinds, ["row", "timeseries", "text", "timeseries", "row"]);
        assert_eq!(panels[3]["gridPos"], json!({"x": 0, "y": 8, "w": 8, "h": 7}));
        assert_eq!(panels[4]["panels"][0]["gridPos"]["y"], 16);
        let mut ids: Vec<_> = panels.iter().map(|panel| panel["id"].as_i64()).collect();
        ids.dedup();
        assert_eq!(ids.len(), 5);
    }

    #[test]
    fn odd_shapes_do_no_harm() {
        for text in [
            "{\"rows\": [null, {\"panels\": [1, {\"span\": \"x\", \"height\": \"-5px\"}]}]}",
            "{\"panels\": [3, {\"type\": \"graph\", \"yaxes\": 7, \"gridPos\": 1}]}",
            "{\"panels\": {}}",
        ] {
            upgrade(&mut serde_json::from_str(text).unwrap());
        }
    }
}
