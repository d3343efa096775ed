//! Nobody gives away what they do not have: writes of roles and bindings.

use std::sync::Arc;

use gantry_apimachinery::Value;
use gantry_apimachinery::value::SmolStr;

use super::rules::{self, Attributes, Rule};
use super::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, GROUP, ROLE_BINDINGS, ROLES};
use crate::rest::Call;
use crate::status::{About, Failure};

/// Refuses a role with rules that the writer does not have, and a binding to such a role or to none. A role that
/// aggregates others may come to have any rule, so that only who may do everything writes how it does.
pub(crate) fn check_write(call: &Call, object: &Value, old: Option<&Value>) -> Result<(), Failure> {
    let id = call.resource.id();
    let name = object.str_at(&["metadata", "name"]).unwrap_or_default();
    let (verb, resource, role_name, rules) = match id {
        ROLES | CLUSTER_ROLES => {
            let same = |field: &str| old.is_some_and(|old| old.get(field) == object.get(field));
            let aggregates = |object: &Value| {
                id == CLUSTER_ROLES && object.get("aggregationRule").is_some_and(|rule| !rule.is_null())
            };
            let same_aggregation = same("aggregationRule");
            if same("rules") && (same_aggregation || id == ROLES) {
                return Ok(());
            }
            let mut rules = rules::of_role(object);
            if !same_aggregation && (aggregates(object) || old.is_some_and(aggregates)) {
                rules.extend(everything());
            }
            ("escalate", call.resource.plural.as_str(), name.to_owned(), Some(Arc::from(rules)))
        }
        ROLE_BINDINGS | CLUSTER_ROLE_BINDINGS => {
            let same = |field: &str| old.is_some_and(|old| old.get(field) == object.get(field));
            if same("subjects") && same("roleRef") {
                return Ok(());
            }
            let role = object.str_at(&["roleRef", "name"]).unwrap_or_default();
            let is_role = object.str_at(&["roleRef", "kind"]) == Some("Role");
            let (namespace, plural) = match is_role {
                true => (call.namespace(), "roles"),
                false => ("", "clusterroles"),
            };
            let rules = call.server.authorizer.rules_of(&call.server.store, namespace, role);
            ("bind", plural, role.to_owned(), rules)
        }
        _ => return Ok(()),
    };
    let attributes = Attributes {
        verb,
        group: GROUP,
        resource,
        name: &role_name,
        namespace: call.namespace(),
        ..Attributes::default()
    };
    let authorizer = &call.server.authorizer;
    if authorizer.decide(&call.server.store, &call.user, &attributes).allowed {
        return Ok(());
    }
    // What is bound today would be what somebody else makes of the name tomorrow.
    let Some(rules) = rules else {
        return Err(Failure::not_found(About { group: GROUP, resource, kind: "" }, &role_name));
    };
    let held = authorizer.rules(&call.server.store, &call.user, call.namespace());
    let missing: Vec<&Rule> = rules.iter().filter(|rule| !covers(&held, rule)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let groups: Vec<String> = call.user.groups.iter().map(|group| format!("{group:?}")).collect();
    let lines: Vec<String> = missing.into_iter().map(shown).collect();
    let why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        call.user.name,
        groups.join(" "),
        lines.join("\n")
    );
    Err(Failure::forbidden(call.about(), name, &why))
}

/// What whoever may do everything has.
fn everything() -> [Rule; 2] {
    let all = || vec![SmolStr::new_static("*")];
    [
        Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), paths: all(), ..Rule::default() },
    ]
}

/// True if every single thing that a rule allows is allowed by one of those held.
fn covers(held: &[Rule], wanted: &Rule) -> bool {
    let within = |list: &[SmolStr], item: &SmolStr| list.iter().any(|known| known == "*" || known == item);
    for verb in &wanted.verbs {
        for path in &wanted.paths {
            let covered = held.iter().any(|rule| {
                within(&rule.verbs, verb)
                    && rule.paths.iter().any(|known| match known.strip_suffix('*') {
                        Some(prefix) => path.starts_with(prefix),
                        None => known == path,
                    })
            });
            if !covered {
                return false;
            }
        }
        for group in &wanted.groups {
            for resource in &wanted.resources {
                let covered = held.iter().any(|rule| {
                    let names = rule.names.is_empty()
                        || (!wanted.names.is_empty()
                            && wanted.names.iter().all(|name| rule.names.contains(name)));
                    let sub = resource.split_once('/').map(|(_, sub)| SmolStr::from(format!("*/{sub}")));
                    within(&rule.verbs, verb)
                        && within(&rule.groups, group)
                        && (within(&rule.resources, resource)
                            || sub.is_some_and(|sub| rule.resources.contains(&sub)))
                        && names
                });
                if !covered {
                    return false;
                }
            }
        }
    }
    true
}

fn shown(rule: &Rule) -> String {
    let list = |list: &[SmolStr]| {
        let items: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
        format!("[{}]", items.join(" "))
    };
    let mut parts = Vec::new();
    for (title, items) in [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.names),
        ("NonResourceURLs", &rule.paths),
        ("Verbs", &rule.verbs),
    ] {
        if !items.is_empty() {
            parts.push(format!("{title}:{}", list(items)));
        }
    }
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_covers_what_is_given() {
        let rule = |verbs: &[&str], resources: &[&str]| Rule {
            verbs: verbs.iter().map(SmolStr::new).collect(),
            groups: vec!["".into()],
            resources: resources.iter().map(SmolStr::new).collect(),
            ..Rule::default()
        };
        let held = [rule(&["get", "list"], &["pods"]), rule(&["*"], &["configmaps", "*/scale"])];
        assert!(covers(&held, &rule(&["get"], &["pods", "configmaps"])));
        assert!(covers(&held, &rule(&["patch"], &["deployments/scale"])));
        assert!(!covers(&held, &rule(&["delete"], &["pods"])));
        assert!(!covers(&held, &rule(&["get"], &["secrets"])));
        assert_eq!(
            shown(&rule(&["get"], &["pods"])),
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#
        );
    }
}
