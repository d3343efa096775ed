//! A kustomization file in the form that upstream writes: sorted, without what is empty.

use gantry_yaml::{Data, Node, Tag};

/// Structures that stay when they are there, even with nothing in them.
const STRUCTURES: [&str; 11] = [
    "fieldref",
    "generatorOptions",
    "helmGlobals",
    "legacySortOptions",
    "metadata",
    "objref",
    "options",
    "select",
    "sortOptions",
    "source",
    "target",
];
/// Mappings whose keys and values are the user's.
const FREE: [&str; 8] = [
    "annotations",
    "commonAnnotations",
    "commonLabels",
    "labels",
    "openapi",
    "pairs",
    "valuesInline",
    "valuesLocal",
];
/// Values that are written whatever they are.
const ALWAYS: [&str; 4] = ["allowKindChange", "allowNameChange", "count", "sourceValue"];

pub(super) fn text(mut node: Node) -> String {
    omit_empty(&mut node);
    gantry_yaml::emit(&node)
}

fn omit_empty(node: &mut Node) {
    match &mut node.data {
        Data::Scalar(_) => {}
        Data::Sequence(items) => items.iter_mut().for_each(omit_empty),
        Data::Mapping(entries) => entries.retain_mut(|(key, value)| {
            let name = key.text().unwrap_or_default();
            if value.is_null() {
                return false;
            }
            let is_free = FREE.contains(&name) && value.as_mapping().is_some();
            if !is_free {
                omit_empty(value);
            }
            let is_structure = STRUCTURES.contains(&name) && value.as_mapping().is_some();
            is_structure || ALWAYS.contains(&name) || !is_empty(value)
        }),
    }
}

fn is_empty(node: &Node) -> bool {
    match &node.data {
        Data::Mapping(entries) => entries.is_empty(),
        Data::Sequence(items) => items.is_empty(),
        Data::Scalar(scalar) => match scalar.tag {
            Tag::Bool => matches!(scalar.resolve(), gantry_yaml::Resolved::Bool(false)),
            Tag::Int => matches!(scalar.resolve(), gantry_yaml::Resolved::Int(0)),
            _ => scalar.text.is_empty(),
        },
    }
}

#[cfg(test)]
mod tests {
    use gantry_yaml::{FileId, parse_documents};

    #[test]
    fn what_is_empty_goes_and_what_is_the_users_stays() {
        let text = "resources: []\nnamePrefix: ''\nlabels:\n- pairs: {b: '', a: x}\n  includeSelectors: false\n\
                    replicas:\n- {name: a, count: 0}\ncommonAnnotations: {}\ngeneratorOptions: {}\n\
                    helmCharts:\n- name: c\n  valuesInline: {empty: '', none: []}\ncrds: null\n";
        let node = parse_documents(FileId(0), text).unwrap().remove(0);
        assert_eq!(
            super::text(node),
            "generatorOptions: {}\nhelmCharts:\n- name: c\n  valuesInline:\n    empty: \"\"\n    none: []\nlabels:\n\
             - pairs:\n    a: x\n    b: \"\"\nreplicas:\n- count: 0\n  name: a\n"
        );
    }
}
