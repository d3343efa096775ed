//! Objects by the value of a field: a pattern, or a quantity compared with another.

use std::cmp::Ordering;

use gantry_apimachinery::quantity;
use regex::Regex;

use super::Object;
use super::find::{find, steps};
use super::written::shown;
use crate::error::{Error, Result};

/// `path`, `path=pattern`, or `path` compared by `<`, `<=`, `>`, `>=` with a quantity.
#[derive(Debug)]
pub struct Query {
    steps: Vec<String>,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    Matching(Regex),
    Compared { with: String, holds: fn(Ordering) -> bool },
}

/// A comparison as it is written, and when it holds.
type Comparison = (&'static str, fn(Ordering) -> bool);

/// Longer ones first: one is a part of another.
const COMPARISONS: [Comparison; 4] =
    [(">=", Ordering::is_ge), ("<=", Ordering::is_le), (">", Ordering::is_gt), ("<", Ordering::is_lt)];

// === impl Query ===

impl Query {
    pub fn parse(text: &str) -> Result<Query> {
        let mut steps = steps(text)?;
        let last = steps.pop().unwrap_or_default();
        let comparison = COMPARISONS.iter().find(|(mark, _)| last.contains(mark));
        let mark = comparison.map_or("=", |(mark, _)| *mark);
        let parts: Vec<&str> = if last.starts_with('[') { vec![&last] } else { last.split(mark).collect() };
        let (name, value) = match parts[..] {
            [name] => (name, ""),
            [name, value] => (name, value),
            _ => {
                return Err(Error::new(format!(
                    "ambiguous match -- multiple of ['<', '>', '<=', '>=', '='] in final path element: {last}"
                )));
            }
        };
        let wanted = match comparison {
            Some((_, holds)) => Wanted::Compared { with: value.to_owned(), holds: *holds },
            None => Wanted::Matching(
                Regex::new(value).map_err(|error| Error::new(format!("pattern '{value}': {error}")))?,
            ),
        };
        steps.push(name.to_owned());
        Ok(Query { steps, wanted })
    }

    /// Whether one of the values at the path is as it is wanted.
    pub fn selects(&self, object: &Object) -> Result<bool> {
        for found in find(&object.item, &self.steps)? {
            let selected = match &self.wanted {
                Wanted::Matching(pattern) => pattern.is_match(&shown(found.item).replace('"', "")),
                Wanted::Compared { with, holds } => match found.item.text().filter(|text| !text.is_empty()) {
                    None => false,
                    Some(text) => holds(quantity::compare(text, with).ok_or_else(|| {
                        Error::new(format!("'{text}' and '{with}' are not both quantities, as 500m or 1Gi"))
                    })?),
                },
            };
            if selected {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::read_stream;

    fn selected(query: &str) -> Vec<String> {
        let text = "kind: A\nspec: {replicas: 3, image: \"web:1.7.9\", memory: 1Gi}\n---\nkind: B\nspec:\n  replicas: 1\n  \
                    image: web:1.8\n---\nkind: C\n";
        let query = Query::parse(query).unwrap();
        let objects = read_stream(text).unwrap();
        let selected = objects.iter().filter(|object| query.selects(object).unwrap());
        selected.map(|object| object.kind().to_owned()).collect()
    }

    #[test]
    fn objects_are_selected_by_pattern_and_by_quantity() {
        for (query, expected) in [
            ("spec.replicas", vec!["A", "B"]),
            ("kind=A", vec!["A"]),
            ("spec.image=web:1\\.7", vec!["A"]),
            ("spec.replicas>1", vec!["A"]),
            ("spec.replicas>=1", vec!["A", "B"]),
            ("spec.replicas<3", vec!["B"]),
            ("spec.memory<=1024Mi", vec!["A"]),
        ] {
            assert_eq!(selected(query), expected, "{query}");
        }
    }

    #[test]
    fn a_query_that_cannot_be_read_is_refused() {
        for (query, message) in [
            ("a=b=c", "ambiguous match"),
            ("a=(", "pattern '('"),
            ("a[b[c=d].e", "unrecognized path element"),
        ] {
            let error = Query::parse(query).unwrap_err();
            assert!(error.message().contains(message), "{query}: {error}");
        }
        let object = &read_stream("a: x\n").unwrap()[0];
        assert!(Query::parse("a>1").unwrap().selects(object).is_err());
    }
}
