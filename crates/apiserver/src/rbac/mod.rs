//! Role-based access control: which rules a user has, from the stored roles and bindings.
//!
//! Invariant: an index is immutable and belongs to one state of roles and bindings; a write to any of them makes the
//! next question read them anew.

mod bootstrap;
mod escalation;
mod rules;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use gantry_apimachinery::value::SmolStr;
use gantry_apimachinery::{Selector, Value};

use crate::doors::UserInfo;
use crate::store::Store;

pub(crate) use bootstrap::default_objects;
pub(crate) use escalation::check_write;
pub(crate) use rules::{Attributes, Rule};

/// Whoever is in this group may do everything.
const MASTERS: &str = "system:masters";
const GROUP: &str = "rbac.authorization.k8s.io";

const ROLES: &str = "rbac.authorization.k8s.io/roles";
const CLUSTER_ROLES: &str = "rbac.authorization.k8s.io/clusterroles";
const ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/rolebindings";
const CLUSTER_ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/clusterrolebindings";

/// Answers whether a user may.
#[derive(Default)]
pub(crate) struct Authorizer {
    /// Counts the writes to roles and bindings.
    writes: AtomicU64,
    index: ArcSwap<Index>,
}

/// What a decision rests on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// Empty where nothing allows, and for those who may do everything.
    pub(crate) reason: String,
}

#[derive(Default)]
struct Index {
    /// The number of writes this was read after; 0 for one that was never read.
    writes: u64,
    /// By `u:name` and `g:name`, cluster-wide grants before those in namespaces.
    grants: HashMap<SmolStr, Vec<Grant>>,
    roles: Roles,
}

/// The rules of every role by its namespace (empty for cluster roles) and name, with those it aggregates.
type Roles = HashMap<(SmolStr, SmolStr), Arc<[Rule]>>;

/// What a binding gives a subject.
#[derive(Clone)]
struct Grant {
    /// Empty for everywhere.
    namespace: SmolStr,
    rules: Arc<[Rule]>,
    binding: Arc<str>,
    role: Arc<str>,
    subject: Arc<str>,
    /// Place among all bindings, by which grants of several subjects are put in order.
    order: usize,
}

impl Authorizer {
    /// To be called after every write; notes one to a role or binding.
    pub(crate) fn after_write(&self, collection: &str) {
        if matches!(collection, ROLES | CLUSTER_ROLES | ROLE_BINDINGS | CLUSTER_ROLE_BINDINGS) {
            self.writes.fetch_add(1, Ordering::Release);
        }
    }

    fn index(&self, store: &Store) -> Arc<Index> {
        let writes = self.writes.load(Ordering::Acquire) + 1;
        let index = self.index.load_full();
        if index.writes == writes {
            return index;
        }
        let roles = read_roles(store);
        let index = Arc::new(Index { writes, grants: read_grants(store, &roles), roles });
        self.index.store(index.clone());
        index
    }

    pub(crate) fn decide(&self, store: &Store, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Decision { allowed: true, reason: String::new() };
        }
        let index = self.index(store);
        for grant in grants_of(&index, user, attributes.namespace) {
            if grant.rules.iter().any(|rule| rule.allows(attributes)) {
                let place = if grant.namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
                let reason = format!(
                    "RBAC: allowed by {place} \"{}\" of {} to {}",
                    grant.binding, grant.role, grant.subject
                );
                return Decision { allowed: true, reason };
            }
        }
        Decision::default()
    }

    /// All rules of a role, with those it aggregates; a cluster role has no namespace. `None` if there is no such role.
    pub(crate) fn rules_of(&self, store: &Store, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        self.index(store).roles.get(&(namespace.into(), name.into())).cloned()
    }

    /// All rules a user has in a namespace.
    pub(crate) fn rules(&self, store: &Store, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        let index = self.index(store);
        grants_of(&index, user, namespace).into_iter().flat_map(|grant| grant.rules.iter().cloned()).collect()
    }
}

fn grants_of<'i>(index: &'i Index, user: &UserInfo, namespace: &str) -> Vec<&'i Grant> {
    let mut keys = vec![SmolStr::from(format!("u:{}", user.name))];
    keys.extend(user.groups.iter().map(|group| SmolStr::from(format!("g:{group}"))));
    let mut found: Vec<&Grant> = keys
        .iter()
        .filter_map(|key| index.grants.get(key))
        .flatten()
        .filter(|grant| grant.namespace.is_empty() || grant.namespace == namespace)
        .collect();
    found.sort_by_key(|grant| grant.order);
    found.dedup_by_key(|grant| grant.order);
    found
}

/// Namespace, name and object of each.
fn list(store: &Store, collection: &str) -> Vec<(SmolStr, SmolStr, Value)> {
    let (listing, _) = store.list(collection, None, None, usize::MAX, |_| true);
    let objects = listing.objects.iter();
    objects.map(|object| (object.key.namespace.clone(), object.key.name.clone(), object.value())).collect()
}

fn read_roles(store: &Store) -> Roles {
    let cluster_roles = list(store, CLUSTER_ROLES);
    let mut roles = Roles::new();
    for (_, name, role) in &cluster_roles {
        let mut rules = rules::of_role(role);
        for selector in role
            .at(&["aggregationRule", "clusterRoleSelectors"])
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let Ok(Some(selector)) = Selector::from_object(Some(selector)) else { continue };
            for (_, other, aggregated) in &cluster_roles {
                if other != name && selector.matches_labels(aggregated.at(&["metadata", "labels"])) {
                    rules.extend(rules::of_role(aggregated));
                }
            }
        }
        roles.insert((SmolStr::default(), name.clone()), rules.into());
    }
    for (namespace, name, role) in list(store, ROLES) {
        roles.insert((namespace, name), rules::of_role(&role).into());
    }
    roles
}

fn read_grants(store: &Store, roles: &Roles) -> HashMap<SmolStr, Vec<Grant>> {
    let mut grants: HashMap<SmolStr, Vec<Grant>> = HashMap::new();
    let bindings = list(store, CLUSTER_ROLE_BINDINGS).into_iter().chain(list(store, ROLE_BINDINGS));
    for (order, (namespace, name, binding)) in bindings.enumerate() {
        let role_kind = binding.str_at(&["roleRef", "kind"]).unwrap_or_default();
        let role_name = SmolStr::new(binding.str_at(&["roleRef", "name"]).unwrap_or_default());
        let role_namespace = if role_kind == "Role" { namespace.clone() } else { SmolStr::default() };
        let Some(rules) = roles.get(&(role_namespace, role_name.clone())) else { continue };
        for subject in binding.get("subjects").and_then(Value::as_array).into_iter().flatten() {
            let subject_name = subject.str_at(&["name"]).unwrap_or_default();
            let (key, shown) = match subject.str_at(&["kind"]) {
                Some("User") => (format!("u:{subject_name}"), format!("User \"{subject_name}\"")),
                Some("Group") => (format!("g:{subject_name}"), format!("Group \"{subject_name}\"")),
                Some("ServiceAccount") => {
                    let own = subject.str_at(&["namespace"]).unwrap_or_default();
                    let own = if own.is_empty() { namespace.as_str() } else { own };
                    (
                        format!("u:system:serviceaccount:{own}:{subject_name}"),
                        format!("ServiceAccount \"{subject_name}/{own}\""),
                    )
                }
                _ => continue,
            };
            let binding_name =
                if namespace.is_empty() { name.to_string() } else { format!("{name}/{namespace}") };
            grants.entry(key.into()).or_default().push(Grant {
                namespace: namespace.clone(),
                rules: rules.clone(),
                binding: binding_name.into(),
                role: format!("{role_kind} \"{role_name}\"").into(),
                subject: shown.into(),
                order,
            });
        }
    }
    grants
}
