//! Nobody gives away what they do not have: writes of roles and bindings.

use gantry_apimachinery::Value;
use gantry_apimachinery::value::SmolStr;

use super::rules::{self, Attributes, Rule};
use super::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, GROUP, ROLE_BINDINGS, ROLES};
use crate::rest::Call;
use crate::status::Failure;
use crate::store::ObjectKey;

/// Refuses a role with rules that the writer does not have, and a binding to such a role.
pub(crate) fn check_write(call: &Call, object: &Value, old: Option<&Value>) -> Result<(), Failure> {
    let id = call.resource.id();
    let name = object.str_at(&["metadata", "name"]).unwrap_or_default();
    let (verb, resource, role_name, rules) = match id {
        ROLES | CLUSTER_ROLES => {
            if old.is_some_and(|old| old.get("rules") == object.get("rules")) {
                return Ok(());
            }
            ("escalate", call.resource.plural.as_str(), name.to_owned(), rules::of_role(object))
        }
        ROLE_BINDINGS | CLUSTER_ROLE_BINDINGS => {
            let same = |field: &str| old.is_some_and(|old| old.get(field) == object.get(field));
            if same("subjects") && same("roleRef") {
                return Ok(());
            }
            let role = object.str_at(&["roleRef", "name"]).unwrap_or_default();
            let is_role = object.str_at(&["roleRef", "kind"]) == Some("Role");
            let (collection, namespace, plural) = match is_role {
                true => (ROLES, call.namespace(), "roles"),
                false => (CLUSTER_ROLES, "", "clusterroles"),
            };
            let key = ObjectKey { namespace: namespace.into(), name: role.into() };
            let rules = call
                .server
                .store
                .get(collection, &key)
                .map(|object| rules::of_role(&object.value()))
                .unwrap_or_default();
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
    let held = authorizer.rules(&call.server.store, &call.user, call.namespace());
    let missing: Vec<Rule> = rules.into_iter().filter(|rule| !covers(&held, rule)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let groups: Vec<String> = call.user.groups.iter().map(|group| format!("{group:?}")).collect();
    let lines: Vec<String> = missing.iter().map(shown).collect();
    let why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        call.user.name,
        groups.join(" "),
        lines.join("\n")
    );
    Err(Failure::forbidden(call.about(), name, &why))
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
