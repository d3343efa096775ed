//! One rule of a role, and what a request asks of it.

use gantry_apimachinery::value::SmolStr;
use gantry_apimachinery::{Map, Value};

/// What a request wants to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    /// A path that is no resource; then the rest is empty.
    pub(crate) path: Option<&'a str>,
}

/// A rule for resources or for paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<SmolStr>,
    pub(crate) groups: Vec<SmolStr>,
    pub(crate) resources: Vec<SmolStr>,
    pub(crate) names: Vec<SmolStr>,
    pub(crate) paths: Vec<SmolStr>,
}

const ALL: &str = "*";

fn has(list: &[SmolStr], wanted: &str) -> bool {
    list.iter().any(|known| known == ALL || known == wanted)
}

impl Rule {
    pub(crate) fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, asked.verb) {
            return false;
        }
        if let Some(path) = asked.path {
            return self.paths.iter().any(|known| match known.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => known == path,
            });
        }
        has(&self.groups, asked.group)
            && self.has_resource(asked.resource, asked.subresource)
            && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
    }

    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|known| {
            if known == ALL {
                return true;
            }
            match known.split_once('/') {
                None => subresource.is_empty() && known == resource,
                Some(("*", sub)) => sub == subresource,
                Some((of, sub)) => of == resource && sub == subresource,
            }
        })
    }

    pub(crate) fn to_value(&self) -> Value {
        let list = |list: &[SmolStr]| list.iter().map(|text| Value::from(text.as_str())).collect::<Vec<_>>();
        let mut map = Map::new();
        map.insert("verbs", list(&self.verbs));
        if self.paths.is_empty() {
            map.insert("apiGroups", list(&self.groups));
            map.insert("resources", list(&self.resources));
            if !self.names.is_empty() {
                map.insert("resourceNames", list(&self.names));
            }
        } else {
            map.insert("nonResourceURLs", list(&self.paths));
        }
        map.into()
    }
}

/// The rules of a Role or ClusterRole.
pub(crate) fn of_role(role: &Value) -> Vec<Rule> {
    role.get("rules").and_then(Value::as_array).into_iter().flatten().map(of_value).collect()
}

fn of_value(rule: &Value) -> Rule {
    let list = |field: &str| -> Vec<SmolStr> {
        let list = rule.get(field).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|text| text.as_str().map(SmolStr::new)).collect()
    };
    Rule {
        verbs: list("verbs"),
        groups: list("apiGroups"),
        resources: list("resources"),
        names: list("resourceNames"),
        paths: list("nonResourceURLs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        of_value(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn rules_match_what_they_name() {
        let pods = rule(
            r#"{"verbs":["get"],"apiGroups":[""],"resources":["pods","*/scale"],"resourceNames":["a"]}"#,
        );
        let asked = Attributes { verb: "get", resource: "pods", name: "a", ..Attributes::default() };
        assert!(pods.allows(&asked));
        assert!(!pods.allows(&Attributes { name: "b", ..asked }));
        assert!(!pods.allows(&Attributes { verb: "list", ..asked }));
        assert!(!pods.allows(&Attributes { group: "apps", ..asked }));
        assert!(!pods.allows(&Attributes { subresource: "log", ..asked }));
        assert!(pods.allows(&Attributes { subresource: "scale", resource: "x", ..asked }));
        let everything = rule(r#"{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}"#);
        assert!(everything.allows(&asked));
        assert!(!everything.allows(&Attributes { path: Some("/"), ..asked }));
    }

    #[test]
    fn paths_match_by_prefix() {
        let paths = rule(r#"{"verbs":["get"],"nonResourceURLs":["/api/*","/version"]}"#);
        let asked = |path| Attributes { verb: "get", path: Some(path), ..Attributes::default() };
        assert!(paths.allows(&asked("/api/v1")) && paths.allows(&asked("/version")));
        assert!(!paths.allows(&asked("/apis")) && !paths.allows(&asked("/versions")));
    }
}
