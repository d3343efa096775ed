//! The other retired panels, and settings that moved or changed their form.

use serde_json::{Map, Value, json};

use crate::json::{flag, is_set, list, number, object_mut, str_at, text};

/// The retired single stat as a stat or, where it drew one, a gauge.
pub(super) fn single_stat(panel: &mut Value) {
    let is_gauge = is_set(panel, "/gauge/show");
    panel["type"] = json!(if is_gauge { "gauge" } else { "stat" });
    let calc = match str_at(panel, "/valueName").unwrap_or("avg") {
        "avg" => "mean",
        "current" => "lastNotNull",
        "total" => "sum",
        "first" => "firstNotNull",
        "delta" => "delta",
        "diff" => "diff",
        "range" => "range",
        "min" => "min",
        "max" => "max",
        "name" => "lastNotNull",
        _ => "lastNotNull",
    };
    let mut defaults =
        panel.pointer("/fieldConfig/defaults").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut set = |key: &str, value: Value| drop(defaults.insert(key.to_owned(), value));
    if let Some(unit) = text(panel, "/format") {
        set("unit", json!(unit));
    }
    if let Some(decimals) = number(panel, "/decimals") {
        set("decimals", json!(decimals));
    }
    if let Some(text) = text(panel, "/nullText").filter(|text| !text.is_empty()) {
        set("noValue", json!(text));
    }
    if is_gauge {
        set("min", json!(number(panel, "/gauge/minValue").unwrap_or(0.0)));
        set("max", json!(number(panel, "/gauge/maxValue").unwrap_or(100.0)));
    }
    let limits = match panel.pointer("/thresholds") {
        Some(Value::String(text)) => {
            text.split(',').filter_map(|part| part.trim().parse::<f64>().ok()).collect()
        }
        _ => Vec::new(),
    };
    let colours: Vec<String> =
        list(panel, "/colors").iter().filter_map(|colour| Some(colour.as_str()?.to_owned())).collect();
    if !colours.is_empty() {
        let values = std::iter::once(Value::Null).chain(limits.into_iter().map(|limit| json!(limit)));
        let steps: Vec<Value> = colours
            .iter()
            .zip(values)
            .map(|(color, value)| json!({ "color": color, "value": value }))
            .collect();
        set("thresholds", json!({ "mode": "absolute", "steps": steps }));
    }
    let mappings = old_mappings(panel);
    if !mappings.is_empty() {
        set("mappings", json!(mappings));
    }
    set("color", json!({ "mode": "thresholds" }));
    panel["fieldConfig"] = json!({ "defaults": defaults, "overrides": [] });
    let colour_mode = if is_set(panel, "/colorBackground") {
        "background"
    } else if is_set(panel, "/colorValue") {
        "value"
    } else {
        "none"
    };
    panel["options"] = json!({
        "reduceOptions": { "calcs": [calc], "fields": "", "values": false },
        "colorMode": colour_mode,
        "graphMode": if is_set(panel, "/sparkline/show") { "area" } else { "none" },
        "textMode": if str_at(panel, "/valueName") == Some("name") { "name" } else { "auto" },
        "orientation": "horizontal",
        "showThresholdMarkers": flag(panel, "/gauge/thresholdMarkers").unwrap_or(true),
        "showThresholdLabels": is_set(panel, "/gauge/thresholdLabels"),
        "prefix": text(panel, "/prefix"),
        "postfix": text(panel, "/postfix"),
    });
}

fn old_mappings(panel: &Value) -> Vec<Value> {
    let mut mappings = Vec::new();
    if number(panel, "/mappingType").unwrap_or(1.0) == 2.0 {
        for range in list(panel, "/rangeMaps") {
            mappings.push(range_mapping(number(range, "/from"), number(range, "/to"), text(range, "/text")));
        }
        return mappings;
    }
    for map in list(panel, "/valueMaps") {
        let (Some(value), Some(text)) = (text(map, "/value"), text(map, "/text")) else { continue };
        mappings.push(value_mapping(&value, text));
    }
    mappings
}

fn value_mapping(value: &str, text: String) -> Value {
    if value == "null" {
        return json!({ "type": "special", "options": { "match": "null", "result": { "text": text } } });
    }
    let mut options = Map::new();
    options.insert(value.to_owned(), json!({ "text": text }));
    json!({ "type": "value", "options": options })
}

fn range_mapping(from: Option<f64>, to: Option<f64>, text: Option<String>) -> Value {
    json!({ "type": "range", "options": { "from": from, "to": to, "result": { "text": text } } })
}

/// A table of before version 7: its column styles become overrides.
pub(super) fn old_table(panel: &mut Value) {
    panel["type"] = json!("table");
    let mut overrides = Vec::new();
    for style in list(panel, "/styles") {
        let Some(pattern) = text(style, "/pattern") else { continue };
        let matcher = if pattern.starts_with('/') { "byRegexp" } else { "byName" };
        let mut properties = Vec::new();
        let mut set = |id: &str, value: Value| properties.push(json!({ "id": id, "value": value }));
        match str_at(style, "/type") {
            Some("hidden") => set("custom.hidden", json!(true)),
            Some("date") => {
                let pattern = text(style, "/dateFormat").unwrap_or_else(|| "YYYY-MM-DD HH:mm:ss".to_owned());
                set("unit", json!(format!("time:{pattern}")));
            }
            _ => {
                if let Some(unit) = text(style, "/unit") {
                    set("unit", json!(unit));
                }
                if let Some(decimals) = number(style, "/decimals") {
                    set("decimals", json!(decimals));
                }
            }
        }
        if let Some(name) = text(style, "/alias").filter(|name| !name.is_empty()) {
            set("displayName", json!(name));
        }
        if let Some(align) = text(style, "/align").filter(|align| align != "auto") {
            set("custom.align", json!(align));
        }
        if is_set(style, "/link")
            && let Some(url) = text(style, "/linkUrl")
        {
            let title = text(style, "/linkTooltip").unwrap_or_default();
            set("links", json!([{ "title": title, "url": url }]));
        }
        overrides.push(json!({ "matcher": { "id": matcher, "options": pattern }, "properties": properties }));
    }
    overrides.extend(list(panel, "/fieldConfig/overrides").to_vec());
    let defaults = panel.pointer("/fieldConfig/defaults").cloned().unwrap_or(json!({}));
    panel["fieldConfig"] = json!({ "defaults": defaults, "overrides": overrides });
    // How rows were made of answers.
    let targets = list(panel, "/targets").len();
    let steps = match str_at(panel, "/transform") {
        Some("timeseries_to_columns") => json!([{ "id": "joinByField", "options": { "byField": "Time" } }]),
        Some("timeseries_to_rows") => json!([{ "id": "seriesToRows", "options": {} }]),
        Some("timeseries_aggregations") => {
            json!([{ "id": "reduce", "options": { "reducers": ["mean", "min", "max", "lastNotNull"] } }])
        }
        _ if targets > 1 => json!([{ "id": "merge", "options": {} }]),
        _ => json!([]),
    };
    if list(panel, "/transformations").is_empty() {
        panel["transformations"] = steps;
    }
}

pub(super) fn text_panel(panel: &mut Value) {
    let (content, mode) = (panel["content"].take(), panel["mode"].take());
    let options = object_mut(panel, "options");
    if !options.contains_key("content") {
        options.insert("content".to_owned(), content);
    }
    if !options.contains_key("mode") {
        options.insert("mode".to_owned(), mode);
    }
}

pub(super) fn heatmap(panel: &mut Value) {
    panel["type"] = json!("heatmap");
    if panel.pointer("/options/yAxis").is_some() || panel.pointer("/yAxis").is_none() {
        return;
    }
    let is_buckets = str_at(panel, "/dataFormat") == Some("tsbuckets");
    let options = json!({
        "calculate": !is_buckets,
        "yAxis": {
            "unit": text_or(panel, "/yAxis/format", "short"),
            "decimals": panel.pointer("/yAxis/decimals"),
            "reverse": is_set(panel, "/reverseYBuckets"),
        },
        "color": {
            "mode": if str_at(panel, "/color/mode") == Some("opacity") { "opacity" } else { "scheme" },
            "fill": text_or(panel, "/color/cardColor", "dark-orange"),
            "scheme": text_or(panel, "/color/colorScheme", "interpolateOranges").trim_start_matches("interpolate"),
        },
        "legend": { "show": is_set(panel, "/legend/show") },
    });
    panel["options"] = options;
}

fn text_or(value: &Value, pointer: &str, default: &str) -> String {
    text_of(value, pointer).unwrap_or_else(|| default.to_owned())
}

fn text_of(value: &Value, pointer: &str) -> Option<String> {
    crate::json::text(value, pointer).filter(|text| !text.is_empty())
}

/// The pie chart that was a plugin.
pub(super) fn pie(panel: &mut Value) {
    let is_old = str_at(panel, "/type") == Some("grafana-piechart-panel");
    if !is_old && panel.pointer("/valueName").is_none() {
        return;
    }
    panel["type"] = json!("piechart");
    let calc = match str_at(panel, "/valueName") {
        Some("avg") => "mean",
        Some("total") => "sum",
        Some("min") => "min",
        Some("max") => "max",
        _ => "lastNotNull",
    };
    if panel.pointer("/options/reduceOptions").is_none() {
        let pie = text_or(panel, "/pieType", "pie");
        let options = object_mut(panel, "options");
        options.insert("reduceOptions".to_owned(), json!({ "calcs": [calc] }));
        options.entry("pieType").or_insert(json!(pie));
    }
    if let Some(unit) = text_of(panel, "/format")
        && panel.pointer("/fieldConfig/defaults/unit").is_none()
    {
        crate::json::set_path(panel, "fieldConfig.defaults.unit", json!(unit));
    }
}

/// `options.fieldOptions` of version 6 as field configuration.
pub(super) fn field_options(panel: &mut Value) {
    let Some(old) = panel.pointer("/options/fieldOptions").cloned() else { return };
    if let Some(defaults) = old.pointer("/defaults").filter(|defaults| defaults.is_object())
        && panel.pointer("/fieldConfig/defaults").and_then(Value::as_object).is_none_or(Map::is_empty)
    {
        crate::json::set_path(panel, "fieldConfig.defaults", defaults.clone());
    }
    if let Some(overrides) = old.pointer("/overrides").filter(|overrides| overrides.is_array())
        && list(panel, "/fieldConfig/overrides").is_empty()
    {
        crate::json::set_path(panel, "fieldConfig.overrides", overrides.clone());
    }
    if panel.pointer("/options/reduceOptions").is_none() {
        let calcs = old.pointer("/calcs").cloned().unwrap_or(json!(["mean"]));
        let reduce = json!({ "calcs": calcs, "values": is_set(&old, "/values"), "fields": "" });
        crate::json::set_path(panel, "options.reduceOptions", reduce);
    }
}

/// Value mappings that name their kind by a number.
pub(super) fn value_mappings(panel: &mut Value) {
    let upgrade = |mappings: &mut Value| {
        let Some(list) = mappings.as_array_mut() else { return };
        for mapping in list {
            let new = match number(mapping, "/type") {
                Some(2.0) => {
                    range_mapping(number(mapping, "/from"), number(mapping, "/to"), text_of(mapping, "/text"))
                }
                Some(_) => value_mapping(
                    &text_of(mapping, "/value").unwrap_or_default(),
                    text_of(mapping, "/text").unwrap_or_default(),
                ),
                None => continue,
            };
            *mapping = new;
        }
    };
    if let Some(mappings) = panel.pointer_mut("/fieldConfig/defaults/mappings") {
        upgrade(mappings);
    }
    for property in override_properties(panel) {
        if str_at(property, "/id") == Some("mappings") {
            upgrade(&mut property["value"]);
        }
    }
}

/// Every property of every override.
fn override_properties(panel: &mut Value) -> impl Iterator<Item = &mut Value> {
    let overrides = panel.pointer_mut("/fieldConfig/overrides").and_then(Value::as_array_mut);
    overrides
        .into_iter()
        .flatten()
        .filter_map(|one| one.pointer_mut("/properties").and_then(Value::as_array_mut))
        .flatten()
        .filter(|property| property.is_object())
}

/// A table's `displayMode` as `cellOptions`.
pub(super) fn cell_options(panel: &mut Value) {
    if str_at(panel, "/type") != Some("table") {
        return;
    }
    if let Some(mode) = text_of(panel, "/fieldConfig/defaults/custom/displayMode") {
        let custom = &mut panel["fieldConfig"]["defaults"]["custom"];
        if custom.pointer("/cellOptions").is_none() {
            custom["cellOptions"] = cell(&mode);
        }
    }
    for property in override_properties(panel) {
        if str_at(property, "/id") == Some("custom.displayMode")
            && let Some(mode) = text_of(property, "/value")
        {
            *property = json!({ "id": "custom.cellOptions", "value": cell(&mode) });
        }
    }
}

fn cell(mode: &str) -> Value {
    match mode {
        "basic" | "gradient-gauge" | "lcd-gauge" => {
            json!({ "type": "gauge", "mode": mode.trim_end_matches("-gauge") })
        }
        "color-background" => json!({ "type": "color-background", "mode": "gradient" }),
        "color-background-solid" => json!({ "type": "color-background", "mode": "basic" }),
        other => json!({ "type": other }),
    }
}

/// A legend that is hidden by its display mode.
pub(super) fn legend(panel: &mut Value) {
    if str_at(panel, "/options/legend/displayMode") == Some("hidden") {
        panel["options"]["legend"]["showLegend"] = json!(false);
        panel["options"]["legend"]["displayMode"] = json!("list");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_stat_becomes_a_stat() {
        let mut panel = json!({"type": "singlestat", "format": "s", "valueName": "current", "colorBackground": true,
            "thresholds": "1,2", "colors": ["green", "orange", "red"], "mappingType": 1,
            "valueMaps": [{"op": "=", "text": "N/A", "value": "null"}, {"text": "up", "value": "1"}]});
        single_stat(&mut panel);
        assert_eq!(panel["type"], "stat");
        assert_eq!(panel["options"]["colorMode"], "background");
        let defaults = &panel["fieldConfig"]["defaults"];
        assert_eq!(defaults["thresholds"]["steps"][2], json!({"color": "red", "value": 2.0}));
        assert_eq!(defaults["mappings"][1]["options"]["1"]["text"], "up");
    }

    #[test]
    fn numbered_mappings_and_display_modes_are_renewed() {
        let mut panel = json!({"type": "table", "fieldConfig": {"defaults": {"mappings": [{"type": 2, "from": "1", "to": "5", "text": "few"}],
            "custom": {"displayMode": "lcd-gauge"}}, "overrides": [{"properties": [{"id": "custom.displayMode", "value": "color-text"}]}]}});
        value_mappings(&mut panel);
        cell_options(&mut panel);
        assert_eq!(panel["fieldConfig"]["defaults"]["mappings"][0]["options"]["to"], 5.0);
        assert_eq!(
            panel["fieldConfig"]["defaults"]["custom"]["cellOptions"],
            json!({"type": "gauge", "mode": "lcd"})
        );
        assert_eq!(panel["fieldConfig"]["overrides"][0]["properties"][0]["value"]["type"], "color-text");
    }
}
