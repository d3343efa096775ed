//! References by name follow their objects' new names.

use std::collections::HashMap;

use gantry_yaml::{Data, Node};

use crate::config::{FieldSpec, NameReference};
use crate::error::{Error, Result};
use crate::field::{Create, visit};
use crate::id::{Gvk, ResId};
use crate::resmap::{NameIndex, ResMap};
use crate::resource::{Resource, set_text};

/// What is asked about every possible target, gathered once.
struct Target {
    current: ResId,
    original_namespace: String,
    raw_namespace: String,
    previous: Vec<ResId>,
    prefixes: Vec<smol_str::SmolStr>,
    suffixes: Vec<smol_str::SmolStr>,
}

/// The object whose references are looked at.
struct Referrer {
    id: ResId,
    cluster_scoped: bool,
    prefixes: Vec<smol_str::SmolStr>,
    suffixes: Vec<smol_str::SmolStr>,
    /// Namespaces of a role binding's service accounts.
    subject_namespaces: Vec<String>,
    role_ref: Option<Gvk>,
}

/// Rewrites every name that the specifications say is a reference, where its object was renamed.
pub(crate) fn fix(map: &mut ResMap, references: &[NameReference]) -> Result<()> {
    let resources = map.resources_mut();
    let index = NameIndex::of_previous(resources);
    let targets: Vec<Target> = resources.iter().map(Target::new).collect();
    let mut by_kind: HashMap<&str, Vec<(&FieldSpec, Gvk)>> = HashMap::new();
    for reference in references {
        let NameReference { group, version, kind, field_specs } = reference;
        let wanted = Gvk { group: group.clone(), version: version.clone(), kind: kind.clone() };
        for spec in field_specs {
            by_kind.entry(spec.kind.as_str()).or_default().push((spec, wanted.clone()));
        }
    }
    // Specifications for any kind keep their place among the others.
    let order: HashMap<*const FieldSpec, usize> = references
        .iter()
        .flat_map(|reference| &reference.field_specs)
        .enumerate()
        .map(|(place, spec)| (std::ptr::from_ref(spec), place))
        .collect();
    for resource in resources.iter_mut() {
        let original = resource.original_id();
        let mut specs: Vec<&(&FieldSpec, Gvk)> = Vec::new();
        for kind in ["", original.gvk.kind.as_str()] {
            specs.extend(by_kind.get(kind).into_iter().flatten());
        }
        specs.retain(|(spec, _)| original.gvk.is_selected(&spec.gvk()));
        if specs.is_empty() {
            continue;
        }
        specs.sort_by_key(|(spec, _)| order.get(&std::ptr::from_ref(*spec)).copied().unwrap_or(usize::MAX));
        let referrer = Referrer::new(resource)?;
        for (spec, wanted) in specs {
            let lookup = Lookup { targets: &targets, index: &index, referrer: &referrer, wanted, spec };
            let span = resource.node.span;
            visit(&mut resource.node, spec, Create::Nothing, &mut |node| lookup.set(node)).map_err(
                |error| {
                    error
                        .wrap(format!(
                            "updating name reference in '{}' field of '{}'",
                            spec.path, referrer.id
                        ))
                        .or_at(span)
                },
            )?;
        }
    }
    Ok(())
}

impl Target {
    fn new(resource: &Resource) -> Target {
        Target {
            current: resource.current_id(),
            original_namespace: resource.original_id().effective_namespace().to_owned(),
            raw_namespace: resource.namespace().to_owned(),
            previous: resource.previous_ids().collect(),
            prefixes: resource.prefixes.clone(),
            suffixes: resource.suffixes.clone(),
        }
    }
}

impl Referrer {
    fn new(resource: &Resource) -> Result<Referrer> {
        let id = resource.current_id();
        let cluster_scoped = id.gvk.is_cluster_scoped();
        let mut subject_namespaces = Vec::new();
        if resource.kind() == "RoleBinding" && !cluster_scoped {
            let subjects = resource.node.get("subjects").and_then(Node::as_sequence).unwrap_or_default();
            for subject in
                subjects.iter().filter(|subject| subject.text_at(&["kind"]) == Some("ServiceAccount"))
            {
                let Some(namespace) = subject.get("namespace") else { continue };
                match namespace.as_str() {
                    Some(text) => subject_namespaces.push(text.to_owned()),
                    None => {
                        return Err(Error::at(
                            format!("Invalid Input: namespace is blank for resource \"{id}\""),
                            namespace.span,
                        ));
                    }
                }
            }
        }
        let role_ref = resource.node.get("roleRef").and_then(|role| {
            let group = role.text_at(&["apiGroup"])?;
            let kind = role.text_at(&["kind"])?;
            Some(Gvk { group: group.into(), version: "".into(), kind: kind.into() })
        });
        Ok(Referrer {
            id,
            cluster_scoped,
            prefixes: resource.prefixes.clone(),
            suffixes: resource.suffixes.clone(),
            subject_namespaces,
            role_ref,
        })
    }
}

struct Lookup<'a> {
    targets: &'a [Target],
    index: &'a NameIndex,
    referrer: &'a Referrer,
    wanted: &'a Gvk,
    spec: &'a FieldSpec,
}

impl Lookup<'_> {
    fn set(&self, node: &mut Node) -> Result<()> {
        if node.is_null() {
            return Ok(());
        }
        match &mut node.data {
            Data::Scalar(_) => self.set_scalar(node),
            Data::Mapping(_) => self.set_mapping(node),
            Data::Sequence(items) => items.iter_mut().try_for_each(|item| match &item.data {
                Data::Mapping(_) => self.set_mapping(item),
                _ => self.set_scalar(item),
            }),
        }
    }

    fn set_scalar(&self, node: &mut Node) -> Result<()> {
        let Some(old) = node.text() else { return Ok(()) };
        let found = self.select(old, None, false).map_err(|error| error.or_at(node.span))?;
        if let Some(target) = found
            && target.current.name != old
        {
            *node = Node::string(target.current.name.clone(), node.span);
        }
        Ok(())
    }

    /// A map with a name and perhaps a namespace: both follow the object.
    fn set_mapping(&self, node: &mut Node) -> Result<()> {
        let Some(name) = node.get("name") else {
            return Err(Error::at("path config error; no 'name' field in node", node.span));
        };
        let old = name.text().unwrap_or_default().to_owned();
        let namespace = node.get("namespace").map(|node| node.text().unwrap_or_default().to_owned());
        let found = self.select(&old, namespace.as_deref(), true).map_err(|error| error.or_at(node.span))?;
        let Some(target) = found else { return Ok(()) };
        if target.current.name == old && target.raw_namespace.is_empty() {
            return Ok(());
        }
        set_text(node, "name", &target.current.name);
        if !target.raw_namespace.is_empty() {
            set_text(node, "namespace", &target.raw_namespace);
        }
        Ok(())
    }

    /// The object that `old` means. With a namespace given, only objects of it come into question: by the namespace
    /// they were read with, or else by the one they have.
    fn select(&self, old: &str, namespace: Option<&str>, with_namespace: bool) -> Result<Option<&Target>> {
        let Lookup { targets, referrer, wanted, spec, .. } = self;
        let mut found: Vec<&Target> =
            self.index.get(old).iter().filter_map(|&place| targets.get(place)).collect();
        found.retain(|target| self.reachable(target));
        if let Some(namespace) = namespace.filter(|_| !found.is_empty()) {
            let any_original =
                targets.iter().any(|target| target.original_namespace == namespace && self.reachable(target));
            found.retain(|target| {
                if any_original {
                    target.original_namespace == namespace
                } else {
                    target.current.effective_namespace() == namespace
                }
            });
        }
        found.retain(|target| target.previous.iter().any(|id| id.gvk.is_selected(wanted)));
        if spec.path.ends_with("roleRef/name")
            && let Some(role) = &referrer.role_ref
        {
            found.retain(|target| target.previous.iter().any(|id| id.gvk.is_selected(role)));
        }
        if !referrer.cluster_scoped {
            found.retain(|target| {
                target.current.gvk.is_cluster_scoped()
                    || target.current.gvk.kind == "ServiceAccount"
                    || target.current.effective_namespace() == referrer.id.effective_namespace()
            });
        }
        for empty_fits in [true, false] {
            if found.len() <= 1 {
                return Ok(found.first().copied());
            }
            found.retain(|target| {
                same_ending(&target.prefixes, &referrer.prefixes, empty_fits)
                    && same_ending(&target.suffixes, &referrer.suffixes, empty_fits)
            });
        }
        let Some(first) = found.first().copied() else { return Ok(None) };
        let same = |target: &&Target| {
            target.current.name == first.current.name
                && (!with_namespace || target.raw_namespace == first.raw_namespace)
        };
        if found.iter().all(same) {
            return Ok(Some(first));
        }
        let ids: Vec<String> = found.iter().map(|target| target.current.to_string()).collect();
        Err(Error::new(format!("found multiple possible referrals: {}", ids.join(", "))))
    }

    /// Whether the referrer may know of the target at all.
    fn reachable(&self, target: &Target) -> bool {
        let Referrer { id, cluster_scoped, subject_namespaces, .. } = self.referrer;
        *cluster_scoped
            || target.current.gvk.is_cluster_scoped()
            || target.current.effective_namespace() == id.effective_namespace()
            || subject_namespaces.contains(&target.raw_namespace)
    }
}

fn same_ending(a: &[smol_str::SmolStr], b: &[smol_str::SmolStr], empty_fits: bool) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if short.is_empty() {
        return empty_fits || long.is_empty();
    }
    long.ends_with(short)
}
