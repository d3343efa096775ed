//! Variables (`vars`): values of fields that stand as `$(NAME)` in other fields.

use std::collections::BTreeMap;

use gantry_yaml::{Data, Node, Tag};

use crate::config::FieldSpec;
use crate::error::{Error, Result};
use crate::field::{Create, visit};
use crate::id::{Gvk, ResId};
use crate::kustomization::Var;
use crate::path::{lookup, split_dotted};
use crate::resmap::ResMap;

/// Adds a kustomization's variables to those known, and notes each on the object it reads from.
pub(crate) fn merge(map: &mut ResMap, known: &mut Vec<Var>, more: &[Var]) -> Result<()> {
    for var in more {
        let id = target(var);
        let exact = !id.namespace.is_empty() || id.gvk.is_cluster_scoped();
        let fits = |own: ResId| if exact { own == id } else { own.same_but_namespace(&id) };
        let matched: Vec<usize> = (0..map.len())
            .filter(|&place| map.resources().get(place).is_some_and(|resource| resource.any_ids().any(&fits)))
            .collect();
        match matched[..] {
            [] => {}
            [place] => map.resources_mut()[place].var_names.push(var.name.as_str().into()),
            _ => {
                return Err(Error::new(format!(
                    "found {} resId matches for var {} (unable to disambiguate)",
                    matched.len(),
                    var.name
                )));
            }
        }
    }
    extend(known, more)
}

/// Adds variables; a name may come only once.
pub(crate) fn extend(known: &mut Vec<Var>, more: &[Var]) -> Result<()> {
    for var in more {
        if known.iter().any(|old| old.name == var.name) {
            return Err(Error::new(format!("var '{}' already encountered", var.name)));
        }
        known.push(var.clone());
    }
    Ok(())
}

fn target(var: &Var) -> ResId {
    let reference = &var.objref;
    let gvk = if reference.api_version.is_empty() {
        Gvk {
            group: reference.group.as_str().into(),
            version: reference.version.as_str().into(),
            kind: reference.kind.as_str().into(),
        }
    } else {
        Gvk::new(&reference.api_version, &reference.kind)
    };
    ResId { gvk, name: reference.name.as_str().into(), namespace: reference.namespace.as_str().into() }
}

/// Puts the variables' values in place. Returns the names of those that stand nowhere.
pub(crate) fn resolve(map: &mut ResMap, vars: &[Var], specs: &[FieldSpec]) -> Result<Vec<String>> {
    let mut values: BTreeMap<&str, Node> = BTreeMap::new();
    for var in vars {
        values.insert(&var.name, value_of(map, var)?);
    }
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let mut used = Uses::new();
    for resource in map.resources_mut() {
        let gvk = resource.gvk();
        for spec in specs.iter().filter(|spec| spec.matches(&gvk)) {
            visit(&mut resource.node, spec, Create::Nothing, &mut |node| {
                replace(node, &values, &mut used);
                Ok(())
            })?;
        }
    }
    Ok(values.keys().filter(|name| !used.contains_key(**name)).map(|name| (*name).to_owned()).collect())
}

fn value_of(map: &ResMap, var: &Var) -> Result<Node> {
    let path = if var.fieldref.fieldpath.is_empty() { "metadata.name" } else { &var.fieldref.fieldpath };
    let source = map.iter().find(|resource| resource.var_names.iter().any(|name| *name == var.name));
    let source = source.ok_or_else(|| {
        Error::new(format!("var '{}' cannot be mapped to a field in the set of known resources", var.name))
    })?;
    let value = lookup(&source.node, &split_dotted(path)).ok_or_else(|| {
        Error::new(format!("field specified in var '{}' not found in corresponding resource", var.name))
    })?;
    Ok(value.clone())
}

fn replace(node: &mut Node, values: &BTreeMap<&str, Node>, used: &mut Uses) {
    match &mut node.data {
        Data::Sequence(items) => {
            items
                .iter_mut()
                .filter(|item| item.as_str().is_some())
                .for_each(|item| replace(item, values, used));
        }
        Data::Mapping(entries) => {
            let values_of = entries.iter_mut().map(|(_, value)| value);
            values_of.filter(|value| value.as_str().is_some()).for_each(|value| replace(value, values, used));
        }
        Data::Scalar(scalar) if scalar.tag == Tag::Str => {
            if let Some(expanded) = expand(&scalar.text, values, used) {
                let span = node.span;
                *node = expanded;
                node.span = span;
            }
        }
        Data::Scalar(_) => {}
    }
}

/// How often each variable was put in place.
pub(crate) type Uses = BTreeMap<String, usize>;

/// The text with its variables in place; `None` when nothing changed. Text that is one variable takes its type.
pub(crate) fn expand(text: &str, values: &BTreeMap<&str, Node>, used: &mut Uses) -> Option<Node> {
    if !text.contains('$') {
        return None;
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        result.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        let Some(next) = after.chars().next() else {
            rest = &rest[dollar..];
            break;
        };
        if next == '$' {
            result.push('$');
            rest = &after[1..];
            continue;
        }
        let close = (next == '(').then(|| after.find(')')).flatten();
        let Some(close) = close else {
            result.push('$');
            result.push(next);
            rest = &after[next.len_utf8()..];
            continue;
        };
        let name = &after[1..close];
        let whole = dollar == 0 && rest.len() == text.len() && close + 2 == text.len();
        match values.get(name) {
            Some(value) => {
                *used.entry(name.to_owned()).or_default() += 1;
                if whole {
                    return Some(value.clone());
                }
                result.push_str(&plain_text(value));
            }
            None => result.push_str(&rest[dollar..dollar + close + 2]),
        }
        rest = &after[close + 1..];
    }
    result.push_str(rest);
    Some(Node::string(result, Default::default()))
}

fn plain_text(value: &Node) -> String {
    use gantry_yaml::Resolved;
    match value.as_scalar().map(gantry_yaml::Scalar::resolve) {
        Some(Resolved::Int(i)) => i.to_string(),
        Some(Resolved::Float(x)) => x.to_string(),
        Some(Resolved::Bool(b)) => b.to_string(),
        Some(Resolved::Str(s)) => s.to_string(),
        _ => value.text().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion_follows_the_shell_like_rules() {
        let port = Node::plain("80", Default::default());
        let values = BTreeMap::from([("A", Node::string("x", Default::default())), ("P", port)]);
        let mut used = Uses::new();
        let mut check = |text: &str, expected: &str| {
            let found = expand(text, &values, &mut used);
            assert_eq!(found.as_ref().and_then(Node::text).unwrap_or(text), expected, "{text}");
        };
        check("a-$(A)-$(P)", "a-x-80");
        check("$(B)", "$(B)");
        check("$$(A)", "$(A)");
        check("$(A", "$(A");
        check("cost $", "cost $");
        check("$x", "$x");
        assert_eq!(expand("$(P)", &values, &mut used).and_then(|n| Some(n.as_scalar()?.tag)), Some(Tag::Int));
    }
}
