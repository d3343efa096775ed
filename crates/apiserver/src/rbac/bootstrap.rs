//! The cluster roles and bindings that every cluster has, from their table.

use gantry_apimachinery::{Map, Value};

use super::GROUP;

const TABLE: &str = include_str!("../../data/kubernetes@1.36/cluster-roles.tsv");
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// Collection path and object for each.
pub(crate) fn default_objects() -> Vec<(&'static str, Value)> {
    let mut objects: Vec<(&'static str, Value)> = Vec::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        match columns[..] {
            ["role", name, ref how @ ..] => {
                let mut role = object("ClusterRole", name);
                if let Some(label) = how.first().and_then(|how| how.strip_prefix('=')) {
                    let mut selector = Value::object();
                    *selector.entry_at(&["matchLabels", &format!("{AGGREGATE}{label}")]) = "true".into();
                    *role.entry_at(&["aggregationRule", "clusterRoleSelectors"]) = vec![selector].into();
                }
                if let Some(label) = how.get(1) {
                    let key = format!("{AGGREGATE}{label}");
                    *role.entry_at(&["metadata", "labels", &key]) = "true".into();
                }
                *role.entry_at(&["rules"]) = Value::from(Vec::new());
                objects.push(("clusterroles", role));
            }
            ["rule", groups, resources, verbs, ref names @ ..] => {
                let mut rule = Map::new();
                rule.insert("verbs", list(verbs));
                rule.insert("apiGroups", list(groups));
                rule.insert("resources", list(resources));
                if let Some(names) = names.first() {
                    rule.insert("resourceNames", list(names));
                }
                add_rule(&mut objects, rule);
            }
            ["path", paths, verbs] => {
                let mut rule = Map::new();
                rule.insert("verbs", list(verbs));
                rule.insert("nonResourceURLs", list(paths));
                add_rule(&mut objects, rule);
            }
            ["binding", name, role, groups] => {
                let mut binding = object("ClusterRoleBinding", name);
                for (field, text) in [("apiGroup", GROUP), ("kind", "ClusterRole"), ("name", role)] {
                    *binding.entry_at(&["roleRef", field]) = text.into();
                }
                let subject = |group: &str| {
                    let mut subject = Map::new();
                    subject.insert("kind", "Group");
                    subject.insert("apiGroup", GROUP);
                    subject.insert("name", group);
                    Value::from(subject)
                };
                let subjects: Vec<Value> = groups.split(',').map(subject).collect();
                *binding.entry_at(&["subjects"]) = subjects.into();
                objects.push(("clusterrolebindings", binding));
            }
            _ => {}
        }
    }
    objects
}

fn object(kind: &str, name: &str) -> Value {
    let mut object = Value::object();
    *object.entry_at(&["kind"]) = kind.into();
    *object.entry_at(&["apiVersion"]) = format!("{GROUP}/v1").into();
    *object.entry_at(&["metadata", "name"]) = name.into();
    *object.entry_at(&["metadata", "labels", "kubernetes.io/bootstrapping"]) = "rbac-defaults".into();
    *object.entry_at(&["metadata", "annotations", "rbac.authorization.kubernetes.io/autoupdate"]) =
        "true".into();
    object
}

fn list(text: &str) -> Vec<Value> {
    text.split(',').map(|item| Value::from(if item == "-" { "" } else { item })).collect()
}

fn add_rule(objects: &mut [(&'static str, Value)], rule: Map) {
    if let Some(rules) =
        objects.last_mut().and_then(|(_, role)| role.get_mut("rules")).and_then(Value::as_array_mut)
    {
        rules.push(rule.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_becomes_something() {
        let objects = default_objects();
        let rows = TABLE.lines().filter(|line| line.starts_with("role\t") || line.starts_with("binding\t"));
        assert_eq!(objects.len(), rows.count());
        let view =
            objects.iter().find(|(_, role)| role.str_at(&["metadata", "name"]) == Some("view")).unwrap();
        assert!(view.1.get("aggregationRule").is_some());
    }
}
