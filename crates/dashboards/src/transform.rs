//! The steps between answers and picture: joins, renames, groupings. A step of an unknown kind is passed over and named.

mod combine;
mod rows;

use crate::frame::{Frame, display_names};
use crate::json::{list, str_at};
use crate::model::Transformation;
use crate::scope::{Purpose, Scope};
use crate::variables::regex;
use serde_json::Value;

/// Rows of a frame; a join that would make more is cut.
pub(crate) use rows::sort_rows;

pub(crate) const MOST_ROWS: usize = 100_000;

/// Runs the steps in order. Gives the names of those that are not known, too.
pub(crate) fn apply(
    mut frames: Vec<Frame>,
    steps: &[Transformation],
    scope: &Scope,
) -> (Vec<Frame>, Vec<String>) {
    let mut unknown = Vec::new();
    for step in steps {
        let options = &step.options;
        frames = match step.id.as_str() {
            "organize" => organize(frames, options),
            "filterFieldsByName" => filter_fields(frames, options, scope),
            "filterByRefId" | "filterByRefID" => filter_by_ref(frames, options),
            "renameByRegex" => rename_by_regex(frames, options),
            "merge" => combine::merge(frames),
            "joinByField" => {
                combine::join(frames, str_at(options, "/byField"), str_at(options, "/mode") == Some("inner"))
            }
            "seriesToColumns" => combine::join(frames, str_at(options, "/byField"), false),
            "seriesToRows" => combine::series_to_rows(frames),
            "labelsToFields" => combine::labels_to_fields(frames, options),
            "joinByLabels" => combine::join_by_labels(frames, options),
            "groupBy" => rows::group_by(frames, options),
            "reduce" => rows::reduce(frames, options),
            "sortBy" => rows::sort_by(frames, options),
            "limit" => rows::limit(frames, options, scope),
            "filterByValue" => rows::filter_by_value(frames, options),
            "calculateField" => rows::calculate(frames, options),
            other => {
                unknown.push(other.to_owned());
                frames
            }
        };
    }
    (frames, unknown)
}

/// Hides, orders and renames fields by the names they are seen under.
fn organize(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let names = display_names(&frames);
    let at = |group: &str, name: &str| options.get(group).and_then(|map| map.get(name));
    let has_includes =
        options.pointer("/includeByName").and_then(Value::as_object).is_some_and(|map| !map.is_empty());
    let one = |(frame, names): (Frame, Vec<String>)| {
        let mut kept: Vec<(f64, crate::frame::Field)> = Vec::new();
        for (index, (mut field, name)) in frame.fields.into_iter().zip(names).enumerate() {
            let is_excluded = at("excludeByName", &name).and_then(Value::as_bool).unwrap_or(false);
            let is_included =
                !has_includes || at("includeByName", &name).and_then(Value::as_bool).unwrap_or(false);
            if is_excluded || !is_included {
                continue;
            }
            // What the order does not name comes after what it names.
            let place = at("indexByName", &name).and_then(Value::as_f64).unwrap_or(1e6 + index as f64);
            match at("renameByName", &name).and_then(Value::as_str).filter(|new| !new.is_empty()) {
                Some(new) => field.renamed = Some(new.to_owned()),
                None if field.renamed.is_none() && field.source_name.is_none() && field.labels.is_empty() => {
                    field.name = name;
                }
                None => {}
            }
            kept.push((place, field));
        }
        kept.sort_by(|a, b| a.0.total_cmp(&b.0));
        Frame {
            name: frame.name,
            ref_id: frame.ref_id,
            fields: kept.into_iter().map(|(_, field)| field).collect(),
        }
    };
    frames.into_iter().zip(names).map(one).collect()
}

fn filter_fields(frames: Vec<Frame>, options: &Value, scope: &Scope) -> Vec<Frame> {
    let listed = |side: &str| -> Vec<String> {
        let names = list(options, &format!("/{side}/names")).iter().filter_map(Value::as_str);
        names.map(|name| scope.expand(name, None, Purpose::Text)).collect()
    };
    let pattern = |side: &str| {
        let text = str_at(options, &format!("/{side}/pattern")).filter(|text| !text.is_empty())?;
        let text = scope.expand(text, None, Purpose::Text);
        if text.starts_with('/') { regex(&text) } else { fancy_regex::Regex::new(&text).ok() }
    };
    let (include, exclude) = (listed("include"), listed("exclude"));
    let (include_re, exclude_re) = (pattern("include"), pattern("exclude"));
    let fits = |regex: &Option<fancy_regex::Regex>, name: &str| {
        regex.as_ref().is_some_and(|regex| regex.is_match(name).unwrap_or(false))
    };
    let is_all = include.is_empty() && include_re.is_none();
    let names = display_names(&frames);
    let mut out = Vec::new();
    for (frame, names) in frames.into_iter().zip(names) {
        let keep = |name: &String| {
            (is_all || include.contains(name) || fits(&include_re, name))
                && !exclude.contains(name)
                && !fits(&exclude_re, name)
        };
        let fields =
            frame.fields.into_iter().zip(&names).filter(|(_, name)| keep(name)).map(|(field, _)| field);
        let fields: Vec<_> = fields.collect();
        if !fields.is_empty() {
            out.push(Frame { name: frame.name, ref_id: frame.ref_id, fields });
        }
    }
    out
}

fn filter_by_ref(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let Some(wanted) = str_at(options, "/include").or(str_at(options, "/refId")) else { return frames };
    let wanted: Vec<&str> = wanted.split('|').collect();
    frames.into_iter().filter(|frame| wanted.contains(&frame.ref_id.as_str())).collect()
}

fn rename_by_regex(mut frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let Some(pattern) = str_at(options, "/regex") else { return frames };
    let new = str_at(options, "/renamePattern").unwrap_or("");
    let compiled =
        if pattern.starts_with('/') { regex(pattern) } else { fancy_regex::Regex::new(pattern).ok() };
    let Some(compiled) = compiled else { return frames };
    // `$1x` is group 1 and an x there; here it would be a group named "1x".
    let replacement = braced(new);
    let names = display_names(&frames);
    for (frame, names) in frames.iter_mut().zip(names) {
        for (field, name) in frame.fields.iter_mut().zip(names) {
            // One match may be found within the limit of steps and the next, or its groups, not: the name stays then.
            if compiled.is_match(&name).unwrap_or(false)
                && let Ok(renamed) = compiled.try_replacen(&name, 1, replacement.as_str())
            {
                field.renamed = Some(renamed.into_owned());
            }
        }
    }
    frames
}

fn braced(pattern: &str) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(c);
        if c == '$' && chars.peek().is_some_and(char::is_ascii_digit) {
            out.push('{');
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                out.push(digit);
            }
            out.push('}');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Cell, Field, FieldType};
    use serde_json::json;

    fn text(name: &str, cells: &[&str]) -> Field {
        Field::new(name, FieldType::Text, cells.iter().map(|cell| Cell::Text((*cell).to_owned())).collect())
    }

    fn numbers(name: &str, cells: &[f64]) -> Field {
        Field::new(name, FieldType::Number, cells.iter().map(|cell| Cell::Number(*cell)).collect())
    }

    fn frame(fields: Vec<Field>) -> Frame {
        Frame { fields, ..Frame::default() }
    }

    fn run(frames: Vec<Frame>, steps: serde_json::Value) -> Vec<String> {
        let steps: Vec<Transformation> = steps
            .as_array()
            .unwrap()
            .iter()
            .map(|step| Transformation {
                id: step["id"].as_str().unwrap().to_owned(),
                options: step["options"].clone(),
            })
            .collect();
        let (frames, unknown) = apply(frames, &steps, &Scope::default());
        assert!(unknown.is_empty(), "{unknown:?}");
        let names = display_names(&frames);
        frames
            .iter()
            .zip(names)
            .flat_map(|(frame, names)| {
                frame
                    .fields
                    .iter()
                    .zip(names)
                    .map(|(field, name)| {
                        format!("{name}: {}", field.cells.iter().map(Cell::key).collect::<Vec<_>>().join(","))
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn two_tables() -> Vec<Frame> {
        vec![
            frame(vec![
                numbers("Time", &[1.0, 1.0]),
                text("ns", &["a", "b"]),
                numbers("Value #A", &[1.0, 2.0]),
            ]),
            frame(vec![numbers("Time", &[1.0]), text("ns", &["b"]), numbers("Value #B", &[9.0])]),
        ]
    }

    #[test]
    fn tables_are_joined_merged_and_organized() {
        let join = json!([{"id": "joinByField", "options": {"byField": "ns", "mode": "outer"}},
            {"id": "organize", "options": {"excludeByName": {"Time 1": true, "Time 2": true},
             "indexByName": {"Value #B": 0, "ns": 1}, "renameByName": {"Value #B": "B", "ns": "Namespace"}}}]);
        assert_eq!(run(two_tables(), join), ["B: ,9", "Namespace: a,b", "Value #A: 1,2"]);
        let merge = json!([{"id": "merge", "options": {}}]);
        assert_eq!(run(two_tables(), merge), ["Time: 1,1", "ns: a,b", "Value #A: 1,2", "Value #B: ,9"]);
        let inner = json!([{"id": "joinByField", "options": {"byField": "ns", "mode": "inner"}},
            {"id": "filterFieldsByName", "options": {"include": {"names": ["ns"], "pattern": "Value.*"}}}]);
        assert_eq!(run(two_tables(), inner), ["ns: b", "Value #A: 2", "Value #B: 9"]);
    }

    #[test]
    fn rows_are_grouped_sorted_and_reduced() {
        let table = || vec![frame(vec![text("ns", &["a", "b", "a"]), numbers("v", &[1.0, 5.0, 3.0])])];
        let group = json!([{"id": "groupBy", "options": {"fields": {"ns": {"operation": "groupby"},
            "v": {"operation": "aggregate", "aggregations": ["sum", "max"]}}}},
            {"id": "sortBy", "options": {"sort": [{"field": "v (sum)", "desc": true}]}}]);
        assert_eq!(run(table(), group), ["ns: b,a", "v (sum): 5,4", "v (max): 5,3"]);
        let reduce = json!([{"id": "reduce", "options": {"reducers": ["mean", "lastNotNull"]}}]);
        assert_eq!(run(table(), reduce), ["Field: v", "Mean: 3", "Last *: 3"]);
        let calc = json!([{"id": "calculateField", "options": {"mode": "binary", "alias": "twice",
            "binary": {"left": "v", "operator": "*", "right": "2"}}}]);
        assert_eq!(run(table(), calc)[2], "twice: 2,10,6");
    }

    #[test]
    fn fields_are_renamed_by_a_regex() {
        let steps = json!([{"id": "renameByRegex", "options": {"regex": "(.*) \\((.*)\\)", "renamePattern": "$2x-$1"}}]);
        assert_eq!(run(vec![frame(vec![numbers("cpu (a)", &[1.0])])], steps), ["ax-cpu: 1"]);
    }

    #[test]
    fn a_regex_that_takes_too_long_renames_nothing() {
        // The first match is found at once; looking for the one after it does not end within the limit.
        let name = format!("x{}", "ab".repeat(26));
        for new in ["y", "$1"] {
            let options = json!({"regex": "x|(a|b|ab)*(?=c)", "renamePattern": new});
            let steps = json!([{"id": "renameByRegex", "options": options}]);
            assert_eq!(run(vec![frame(vec![numbers(&name, &[1.0])])], steps), [format!("{name}: 1")]);
        }
    }
}
