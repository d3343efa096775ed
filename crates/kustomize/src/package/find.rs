//! The values at a path: fields, `[field=pattern]` or `[=pattern]` for items of a list, a number for one, `*` for all.

use regex::Regex;

use super::styled::{Item, Value};
use super::written::on_one_line;
use crate::error::{Error, Result};

/// A value, and what the patterns on the way to it matched, innermost first.
pub(super) struct Found<'i> {
    pub(super) item: &'i Item,
    pub(super) matches: Vec<String>,
}

/// Takes a path apart: `\.` is a dot in a name.
pub(super) fn steps(path: &str) -> Result<Vec<String>> {
    const DOT: char = '\u{0}';
    let mut steps = Vec::new();
    for part in path.replace("\\.", "\u{0}").split('.') {
        let part = part.replace(DOT, ".");
        match part.split_once('[') {
            None => steps.push(part),
            Some((_, inner)) if inner.contains('[') => {
                return Err(Error::new(format!(
                    "unrecognized path element: {part}.  Should be of the form 'list[field=value]'"
                )));
            }
            Some((name, inner)) => steps.extend([name.to_owned(), format!("[{inner}")]),
        }
    }
    Ok(steps)
}

pub(super) fn find<'i>(item: &'i Item, steps: &[String]) -> Result<Vec<Found<'i>>> {
    let Some((step, rest)) = steps.split_first() else {
        return Ok(vec![Found { item, matches: Vec::new() }]);
    };
    if let Ok(index) = step.parse::<usize>() {
        let items = items(item, step)?;
        let number = items.len();
        let item = items
            .get(index)
            .ok_or_else(|| Error::new(format!("index {index} specified but only {number} elements found")))?;
        return find(item, rest);
    }
    if step == "*" {
        return all(items(item, step)?, rest, |_| Some(step.clone()));
    }
    if let Some(inner) = step.strip_prefix('[') {
        let inner = inner.strip_suffix(']').unwrap_or(inner);
        let (field, pattern) = inner.split_once('=').ok_or_else(|| {
            Error::new(format!(
                "unrecognized path element: {step}: it should be '[field=value]' or '[=value]'"
            ))
        })?;
        let pattern = Regex::new(pattern).map_err(|error| Error::new(format!("{step}: {error}")))?;
        return all(items(item, step)?, if field.is_empty() { &[] } else { rest }, |item| {
            let value = if field.is_empty() { Some(item) } else { item.get(field) };
            let text = on_one_line(value?);
            pattern.is_match(&text).then_some(text)
        });
    }
    match &item.value {
        Value::Mapping { .. } => match item.get(step).filter(|value| !value.is_null()) {
            Some(value) => find(value, rest),
            None => Ok(Vec::new()),
        },
        _ if item.is_null() => Ok(Vec::new()),
        _ => Err(Error::new(format!(
            "'{step}' is looked for in a value that has no fields: {}",
            on_one_line(item)
        ))),
    }
}

fn items<'i>(item: &'i Item, step: &str) -> Result<&'i [Item]> {
    match &item.value {
        Value::Sequence { items, .. } => Ok(items),
        _ => Err(Error::new(format!(
            "'{step}' is looked for in a value that is no list: {}",
            on_one_line(item)
        ))),
    }
}

/// What is found in those items of which `matched` says what matched.
fn all<'i>(
    items: &'i [Item],
    rest: &[String],
    matched: impl Fn(&Item) -> Option<String>,
) -> Result<Vec<Found<'i>>> {
    let mut all = Vec::new();
    for item in items {
        let Some(text) = matched(item) else { continue };
        for mut found in find(item, rest)? {
            found.matches.push(text.clone());
            all.push(found);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use gantry_yaml::FileId;

    use super::*;
    use crate::package::styled::documents;

    fn found(text: &str, path: &str) -> Result<Vec<String>> {
        let item = documents(FileId(0), text).unwrap().remove(0);
        let found = find(&item, &steps(path)?)?;
        Ok(found
            .iter()
            .map(|found| format!("{}|{}", on_one_line(found.item), found.matches.join("/")))
            .collect())
    }

    #[test]
    fn a_path_leads_through_fields_and_lists() {
        let text = "a.b:\n- name: x\n  v: {w: 1}\n- name: y\n  v: {w: 2}\nc: [p, 'q']\nd:\n";
        for (path, expected) in [
            ("a\\.b[name=x].v.w", vec!["1|x"]),
            ("a\\.b[name=\\.*].v", vec!["{w: 1}|x", "{w: 2}|y"]),
            ("a\\.b.1.name", vec!["y|"]),
            ("a\\.b.*.v.w", vec!["1|*", "2|*"]),
            ("c[=p]", vec!["p|p"]),
            ("c", vec!["[p, 'q']|"]),
            ("d.e", vec![]),
            ("missing.e", vec![]),
        ] {
            assert_eq!(found(text, path).unwrap(), expected, "{path}");
        }
        for (path, message) in [
            ("c.5", "index 5 specified but only 2 elements found"),
            ("c[a[b=c]", "unrecognized path element: "),
            ("c[=(]", "regex"),
            ("a\\.b.name", "no fields"),
            ("a\\.b[name=x].v.w[x=y]", "no list"),
        ] {
            let error = found(text, path).unwrap_err();
            assert!(error.message().contains(message), "{path}: {error}");
        }
    }
}
