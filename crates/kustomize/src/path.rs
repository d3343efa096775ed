//! Dotted paths to fields (`spec.containers.[name=web].image`, `ports[0]`), as replacements and variables write them.

use gantry_yaml::{Data, Node, Span};

use crate::error::{Error, Result};

/// Splits at dots, except escaped ones and those inside brackets.
pub(crate) fn split_dotted(path: &str) -> Vec<String> {
    let mut steps = Vec::new();
    let mut step = String::new();
    let mut in_brackets = false;
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'.') => {
                step.push('.');
                chars.next();
            }
            '[' => {
                in_brackets = true;
                step.push(c);
            }
            ']' => {
                in_brackets = false;
                step.push(c);
            }
            '.' if !in_brackets => {
                if !step.is_empty() {
                    steps.push(std::mem::take(&mut step));
                }
            }
            _ => step.push(c),
        }
    }
    if !step.is_empty() {
        steps.push(step);
    }
    // `name[0]` is two steps.
    steps.into_iter().flat_map(apart).collect()
}

fn apart(step: String) -> Vec<String> {
    match step.find('[') {
        // The key of a mapping, in brackets for its dots.
        Some(0) if step.ends_with(']') && step.contains('.') && !step.contains('=') => {
            vec![step.trim_matches(['[', ']']).to_owned()]
        }
        Some(at) if at > 0 && step.ends_with(']') => {
            let (name, bracket) = step.split_at(at);
            let inner = bracket.trim_start_matches('[').trim_end_matches(']');
            let bracket = if inner.contains('=') { bracket.to_owned() } else { inner.to_owned() };
            vec![name.to_owned(), bracket]
        }
        _ => vec![step],
    }
}

/// `[key=value]` as its two parts; the key is empty for a list of scalars.
fn condition(step: &str) -> Option<(&str, &str)> {
    let (key, value) = step.strip_prefix('[')?.strip_suffix(']')?.split_once('=')?;
    let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    Some((key, value))
}

fn meets(item: &Node, key: &str, value: &str) -> bool {
    if key.is_empty() {
        item.text() == Some(value)
    } else {
        item.get(key).and_then(Node::text) == Some(value)
    }
}

/// The one field at the end of a path.
pub(crate) fn lookup<'a>(node: &'a Node, steps: &[String]) -> Option<&'a Node> {
    let Some((step, rest)) = steps.split_first() else { return Some(node) };
    let next = match &node.data {
        Data::Mapping(_) => node.get(step),
        Data::Sequence(items) => match condition(step) {
            Some((key, value)) => items.iter().find(|item| meets(item, key, value)),
            None if step == "-" => items.last(),
            None => items.get(step.trim_matches(['[', ']']).parse::<usize>().ok()?),
        },
        Data::Scalar(_) => None,
    };
    lookup(next?, rest)
}

/// What to make where a path ends in nothing.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Make {
    Nothing,
    Scalar,
    Mapping,
    Sequence,
}

/// Calls `set` on every field that a path leads to (`*` is any). Returns how many there were.
pub(crate) fn each(
    node: &mut Node,
    steps: &[String],
    make: Make,
    set: &mut dyn FnMut(&mut Node) -> Result<()>,
) -> Result<usize> {
    let Some((step, rest)) = steps.split_first() else {
        set(node)?;
        return Ok(1);
    };
    let span = node.span;
    let made = |rest: &[String]| -> Option<Node> {
        if make == Make::Nothing {
            return None;
        }
        let Some(next) = rest.first() else {
            return Some(match make {
                Make::Mapping => Node::mapping(span),
                Make::Sequence => Node::new(Data::Sequence(Vec::new()), span),
                _ => Node::null(span),
            });
        };
        let is_list = condition(next).is_some() || next == "-" || next.parse::<usize>().is_ok();
        Some(if is_list { Node::new(Data::Sequence(Vec::new()), span) } else { Node::mapping(span) })
    };
    if node.is_null() && make != Make::Nothing {
        let is_list = condition(step).is_some() || step == "-" || step.parse::<usize>().is_ok();
        *node = if is_list { Node::new(Data::Sequence(Vec::new()), span) } else { Node::mapping(span) };
    }
    match &mut node.data {
        Data::Mapping(entries) if step == "*" => {
            let mut count = 0;
            for (_, value) in entries {
                count += each(value, rest, make, set)?;
            }
            Ok(count)
        }
        Data::Mapping(_) => {
            if node.get(step).is_none() {
                match made(rest) {
                    Some(field) => node.set(step, field),
                    None => return Ok(0),
                }
            }
            node.get_mut(step).map_or(Ok(0), |field| each(field, rest, make, set))
        }
        Data::Sequence(items) => {
            if step == "*" {
                return items.iter_mut().try_fold(0, |count, item| Ok(count + each(item, rest, make, set)?));
            }
            if let Some((key, value)) = condition(step) {
                if !items.iter().any(|item| meets(item, key, value)) && make != Make::Nothing {
                    let mut item = Node::mapping(span);
                    if key.is_empty() {
                        item = Node::string(value, span);
                    } else {
                        item.set(key, Node::plain(value, span));
                    }
                    items.push(item);
                }
                let mut count = 0;
                for item in items.iter_mut().filter(|item| meets(item, key, value)) {
                    count += each(item, rest, make, set)?;
                }
                return Ok(count);
            }
            if step == "-" {
                items.push(made(rest).unwrap_or_else(|| Node::null(span)));
                return items.last_mut().map_or(Ok(0), |item| each(item, rest, make, set));
            }
            if let Ok(place) = step.parse::<usize>() {
                let length = items.len();
                if place == length
                    && let Some(item) = made(rest)
                {
                    items.push(item);
                }
                return match items.get_mut(place) {
                    Some(item) => each(item, rest, make, set),
                    None => Err(index_error(place, length, span)),
                };
            }
            Ok(0)
        }
        Data::Scalar(_) => Ok(0),
    }
}

fn index_error(place: usize, length: usize, span: Span) -> Error {
    Error::at(format!("index {place} specified but only {length} elements found"), span)
}

#[cfg(test)]
mod tests {
    use super::split_dotted;

    #[test]
    fn dots_brackets_and_escapes() {
        assert_eq!(split_dotted("a.b\\.c.[name=x.y].0"), ["a", "b.c", "[name=x.y]", "0"]);
        assert_eq!(split_dotted("spec.ports[0].port"), ["spec", "ports", "0", "port"]);
        assert_eq!(split_dotted("a.[b.c/d.e-f.].g"), ["a", "b.c/d.e-f.", "g"]);
    }
}
