//! The retired graph panel as a time series panel.

use serde_json::{Map, Value, json};

use crate::json::{flag, is_set, list, number, object_mut, str_at, text};

/// Rewrites a graph panel in place.
pub(super) fn to_time_series(panel: &mut Value) {
    panel["type"] = json!("timeseries");
    let legend = legend(panel);
    let options = object_mut(panel, "options");
    options.insert("legend".to_owned(), legend);
    let tooltip =
        json!({ "mode": if flag(panel, "/tooltip/shared").unwrap_or(true) { "multi" } else { "single" } });
    object_mut(panel, "options").insert("tooltip".to_owned(), tooltip);

    let axis = panel.pointer("/yaxes/0").cloned().unwrap_or_default();
    let mut defaults = Map::new();
    let mut custom = lines(panel);
    axis_settings(&axis, &mut defaults, &mut custom);
    if let Some(decimals) = number(panel, "/decimals") {
        defaults.insert("decimals".to_owned(), json!(decimals));
    }
    thresholds(panel, &mut defaults, &mut custom);
    // What the panel was given in the newer form stays.
    let given =
        panel.pointer("/fieldConfig/defaults").and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, value) in given {
        if key == "custom" {
            continue;
        }
        let is_empty =
            value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
        if !is_empty && !defaults.contains_key(&key) {
            defaults.insert(key, value);
        }
    }
    defaults.insert("custom".to_owned(), Value::Object(custom));
    let mut overrides = list(panel, "/fieldConfig/overrides").to_vec();
    overrides.extend(alias_colours(panel));
    overrides.extend(series_overrides(panel));
    panel["fieldConfig"] = json!({ "defaults": defaults, "overrides": overrides });
}

fn legend(panel: &Value) -> Value {
    let calcs: Vec<&str> =
        [("min", "min"), ("max", "max"), ("avg", "mean"), ("current", "lastNotNull"), ("total", "sum")]
            .into_iter()
            .filter(|(old, _)| is_set(panel, "/legend/values") && is_set(panel, &format!("/legend/{old}")))
            .map(|(_, new)| new)
            .collect();
    let sort = str_at(panel, "/legend/sort").map(|sort| match sort {
        "avg" => "Mean",
        "current" => "Last *",
        "total" => "Total",
        "min" => "Min",
        "max" => "Max",
        _ => "",
    });
    json!({
        "showLegend": flag(panel, "/legend/show").unwrap_or(true),
        "displayMode": if is_set(panel, "/legend/alignAsTable") { "table" } else { "list" },
        "placement": if is_set(panel, "/legend/rightSide") { "right" } else { "bottom" },
        "calcs": calcs,
        "sortBy": sort,
        "sortDesc": is_set(panel, "/legend/sortDesc"),
    })
}

/// How series are drawn, for the whole panel or for what an override says about one.
fn lines(panel: &Value) -> Map<String, Value> {
    let mut custom = Map::new();
    let mut set = |key: &str, value: Value| drop(custom.insert(key.to_owned(), value));
    let has_lines = flag(panel, "/lines").unwrap_or(true);
    let (bars, points) = (is_set(panel, "/bars"), is_set(panel, "/points"));
    let style = if bars {
        "bars"
    } else if has_lines {
        "line"
    } else {
        "points"
    };
    set("drawStyle", json!(style));
    set("lineWidth", json!(number(panel, "/linewidth").unwrap_or(1.0)));
    set("fillOpacity", json!(if bars { 100.0 } else { number(panel, "/fill").unwrap_or(1.0) * 10.0 }));
    if number(panel, "/fillGradient").is_some_and(|gradient| gradient > 0.0) {
        set("gradientMode", json!("opacity"));
    }
    set("showPoints", json!(if points { "always" } else { "never" }));
    if let Some(radius) = number(panel, "/pointradius") {
        set("pointSize", json!(2.0 + radius * 2.0));
    }
    set("lineInterpolation", json!(if is_set(panel, "/steppedLine") { "stepAfter" } else { "linear" }));
    match str_at(panel, "/nullPointMode") {
        Some("connected") => set("spanNulls", json!(true)),
        Some("null as zero") => set("nullsAreZero", json!(true)),
        _ => set("spanNulls", json!(false)),
    }
    if is_set(panel, "/stack") {
        let mode = if is_set(panel, "/percentage") { "percent" } else { "normal" };
        set("stacking", json!({ "mode": mode, "group": "A" }));
    }
    if is_set(panel, "/dashes") {
        set("lineStyle", json!({ "fill": "dash", "dash": [10, 10] }));
    }
    custom
}

fn axis_settings(axis: &Value, defaults: &mut Map<String, Value>, custom: &mut Map<String, Value>) {
    if let Some(unit) = text(axis, "/format") {
        defaults.insert("unit".to_owned(), json!(unit));
    }
    for bound in ["min", "max"] {
        if let Some(value) = number(axis, &format!("/{bound}")) {
            defaults.insert(bound.to_owned(), json!(value));
        }
    }
    if let Some(decimals) = number(axis, "/decimals") {
        defaults.insert("decimals".to_owned(), json!(decimals));
    }
    if let Some(base) = number(axis, "/logBase").filter(|base| *base > 1.0) {
        custom.insert("scaleDistribution".to_owned(), json!({ "type": "log", "log": base }));
    }
    if let Some(label) = text(axis, "/label").filter(|label| !label.is_empty()) {
        custom.insert("axisLabel".to_owned(), json!(label));
    }
    if flag(axis, "/show") == Some(false) {
        custom.insert("axisPlacement".to_owned(), json!("hidden"));
    }
}

fn thresholds(panel: &Value, defaults: &mut Map<String, Value>, custom: &mut Map<String, Value>) {
    let colour = |threshold: &Value| match str_at(threshold, "/colorMode") {
        Some("warning") => "orange".to_owned(),
        Some("ok") => "green".to_owned(),
        Some("custom") => {
            text(threshold, "/lineColor").or_else(|| text(threshold, "/fillColor")).unwrap_or_default()
        }
        _ => "red".to_owned(),
    };
    let mut steps: Vec<(f64, String)> = Vec::new();
    let (mut area, mut line) = (false, false);
    for threshold in list(panel, "/thresholds") {
        let Some(value) = number(threshold, "/value") else { continue };
        area |= is_set(threshold, "/fill");
        line |= is_set(threshold, "/line");
        steps.push((value, colour(threshold)));
    }
    if steps.is_empty() {
        return;
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let steps: Vec<Value> = std::iter::once(json!({ "color": "transparent", "value": null }))
        .chain(steps.into_iter().map(|(value, color)| json!({ "color": color, "value": value })))
        .collect();
    defaults.insert("thresholds".to_owned(), json!({ "mode": "absolute", "steps": steps }));
    let mode = match (line, area) {
        (true, true) => "line+area",
        (true, false) => "line",
        (false, true) => "area",
        (false, false) => "off",
    };
    custom.insert("thresholdsStyle".to_owned(), json!({ "mode": mode }));
}

fn alias_colours(panel: &Value) -> Vec<Value> {
    let colours = panel.pointer("/aliasColors").and_then(Value::as_object);
    let one = |(name, colour): (&String, &Value)| {
        json!({
            "matcher": { "id": "byName", "options": name },
            "properties": [{ "id": "color", "value": { "mode": "fixed", "fixedColor": colour } }],
        })
    };
    colours.into_iter().flatten().map(one).collect()
}

fn series_overrides(panel: &Value) -> Vec<Value> {
    let right = panel.pointer("/yaxes/1").cloned().unwrap_or_default();
    list(panel, "/seriesOverrides").iter().filter_map(|old| series_override(old, &right)).collect()
}

fn series_override(old: &Value, right: &Value) -> Option<Value> {
    let alias = text(old, "/alias")?;
    let matcher = if alias.len() > 1 && alias.starts_with('/') { "byRegexp" } else { "byName" };
    let mut properties = Vec::new();
    let mut set = |id: &str, value: Value| properties.push(json!({ "id": id, "value": value }));
    for (key, value) in old.as_object()? {
        match key.as_str() {
            "yaxis" if crate::json::as_number(value) == Some(2.0) => {
                set("custom.axisPlacement", json!("right"));
                let (mut defaults, mut custom) = (Map::new(), Map::new());
                axis_settings(right, &mut defaults, &mut custom);
                custom.remove("axisPlacement");
                defaults.into_iter().for_each(|(key, value)| set(&key, value));
                custom.into_iter().for_each(|(key, value)| set(&format!("custom.{key}"), value));
            }
            "color" => set("color", json!({ "mode": "fixed", "fixedColor": value })),
            "fill" => set("custom.fillOpacity", json!(crate::json::as_number(value).unwrap_or(0.0) * 10.0)),
            "linewidth" => set("custom.lineWidth", value.clone()),
            "dashes" if value == &json!(true) => {
                set("custom.lineStyle", json!({ "fill": "dash", "dash": [10, 10] }))
            }
            "steppedLine" if value == &json!(true) => set("custom.lineInterpolation", json!("stepAfter")),
            "bars" if value == &json!(true) => set("custom.drawStyle", json!("bars")),
            "lines" if value == &json!(false) && !is_set(old, "/bars") => set("custom.lineWidth", json!(0)),
            "lines" if value == &json!(true) && !is_set(old, "/bars") => {
                set("custom.drawStyle", json!("line"))
            }
            "points" if value == &json!(true) => set("custom.showPoints", json!("always")),
            "transform" if value == &json!("negative-Y") => set("custom.transform", json!("negative-Y")),
            "stack" => match value {
                Value::Bool(false) => set("custom.stacking", json!({ "mode": "none" })),
                Value::Bool(true) => set("custom.stacking", json!({ "mode": "normal", "group": "A" })),
                Value::String(group) => set("custom.stacking", json!({ "mode": "normal", "group": group })),
                _ => {}
            },
            "nullPointMode" if value == &json!("connected") => set("custom.spanNulls", json!(true)),
            "legend" if value == &json!(false) => {
                set("custom.hideFrom", json!({ "legend": true, "tooltip": false, "viz": false }));
            }
            "hiddenSeries" if value == &json!(true) => {
                set("custom.hideFrom", json!({ "legend": false, "tooltip": false, "viz": true }));
            }
            "fillBelowTo" => set("custom.fillBelowTo", value.clone()),
            _ => {}
        }
    }
    Some(json!({ "matcher": { "id": matcher, "options": alias }, "properties": properties }))
}
