//! The simple transformers: namespace, prefix and suffix, labels, annotations, images, replicas, hash suffixes.

use std::collections::{BTreeMap, HashMap};

use gantry_yaml::{Data, Node, Span};
use regex::Regex;

use crate::config::FieldSpec;
use crate::error::{Error, Result, wrong_kind_named};
use crate::field::{Create, visit};
use crate::hash;
use crate::id::ResId;
use crate::kustomization::{Image, Replica};
use crate::resmap::ResMap;
use crate::resource::{Resource, set_text};
use crate::shared::{self, Shared};

/// Calls `set` on the field that `spec` names in `resource`, if the kind fits.
fn apply(
    resource: &mut Resource,
    spec: &FieldSpec,
    create: Create,
    set: &mut dyn FnMut(&mut Node) -> Result<()>,
) -> Result<()> {
    if !spec.matches(&resource.gvk()) {
        return Ok(());
    }
    visit(&mut resource.node, spec, create, set).map_err(|error| {
        let id = resource.current_id();
        error.wrap(format!("considering field '{}' of object {id}", spec.path)).or_at(resource.span())
    })
}

fn set_string(node: &mut Node, text: &str) -> Result<()> {
    if node.as_scalar().is_none() {
        return Err(wrong_kind_named("ScalarNode", node));
    }
    *node = Node::string(text, node.span);
    Ok(())
}

/// Whose namespace a role binding's subjects get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Subjects {
    #[default]
    DefaultOnly,
    AllServiceAccounts,
    None,
}

/// Puts every namespaced object into a namespace.
pub(crate) fn namespace(
    map: &mut ResMap,
    namespace: &str,
    specs: &[FieldSpec],
    subjects: Subjects,
    unset_only: bool,
) -> Result<()> {
    if namespace.is_empty() {
        return Ok(());
    }
    let mut seen: HashMap<ResId, Span> = HashMap::with_capacity(map.len());
    for resource in map.resources_mut() {
        if resource.of_chart {
            seen.insert(resource.current_id(), resource.span());
            continue;
        }
        resource.store_previous_id();
        set_namespace(resource, namespace, specs, subjects, unset_only)?;
        let id = resource.current_id();
        if let Some(other) = seen.get(&id) {
            let message = format!("namespace transformation produces ID conflict: {id}");
            return Err(Error::at(message, resource.span()).and_at("the other is at", *other));
        }
        seen.insert(id, resource.span());
    }
    Ok(())
}

fn set_namespace(
    resource: &mut Resource,
    namespace: &str,
    specs: &[FieldSpec],
    subjects: Subjects,
    unset_only: bool,
) -> Result<()> {
    let gvk = resource.gvk();
    let keeps_own = unset_only && !resource.namespace().is_empty();
    if !gvk.is_cluster_scoped() && !keeps_own {
        resource.set_namespace(namespace);
    }
    let binding = matches!(gvk.kind.as_str(), "RoleBinding" | "ClusterRoleBinding");
    if binding && subjects != Subjects::None {
        let list = resource.node.get_mut("subjects").and_then(Node::as_sequence_mut);
        for subject in list.into_iter().flatten() {
            let wanted = match subjects {
                Subjects::AllServiceAccounts => subject.text_at(&["kind"]) == Some("ServiceAccount"),
                _ => subject.text_at(&["name"]) == Some("default"),
            };
            let may = !unset_only || subject.text_at(&["namespace"]).unwrap_or_default().is_empty();
            if wanted && may {
                set_text(subject, "namespace", namespace);
            }
        }
    }
    for spec in specs {
        let is_own = spec.path == "metadata/namespace";
        let is_subject = binding && (spec.path == "subjects/namespace" || spec.path == "subjects");
        let names_namespace = spec.path == "metadata/name"
            && spec.kind == "Namespace"
            && !(gvk.kind == "Namespace" && gvk.group.is_empty() && gvk.version == "v1");
        if is_own || names_namespace || (is_subject && spec.path == "subjects/namespace") {
            continue;
        }
        apply(resource, spec, Create::Scalar, &mut |node| {
            if unset_only && node.text().is_some_and(|text| !text.is_empty()) {
                return Ok(());
            }
            set_string(node, namespace)
        })
        .map_err(|error| error.wrap("namespace field specs must target scalar nodes"))?;
    }
    Ok(())
}

/// Which end of a name grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Prefix,
    Suffix,
}

/// Adds a prefix or suffix to names. Definitions, APIServices and Namespaces keep theirs.
pub(crate) fn affix(map: &mut ResMap, end: End, affix: &str, specs: &[FieldSpec]) -> Result<()> {
    if affix.is_empty() {
        return Ok(());
    }
    for resource in map.resources_mut() {
        let original = resource.original_id();
        let kind = original.gvk.kind.as_str();
        let keeps = kind == "CustomResourceDefinition"
            || (kind == "APIService" && original.gvk.group == "apiregistration.k8s.io")
            || kind == "Namespace";
        if keeps {
            continue;
        }
        for spec in specs {
            if !original.gvk.is_selected(&spec.gvk()) {
                continue;
            }
            if spec.path == "metadata/name" {
                resource.store_previous_id();
                let list = match end {
                    End::Prefix => &mut resource.prefixes,
                    End::Suffix => &mut resource.suffixes,
                };
                list.push(affix.into());
            }
            apply(resource, spec, Create::Nothing, &mut |node| {
                let text = node.text().unwrap_or_default();
                let grown = match end {
                    End::Prefix => format!("{affix}{text}"),
                    End::Suffix => format!("{text}{affix}"),
                };
                set_string(node, &grown)
            })?;
        }
    }
    Ok(())
}

/// Sets entries of the maps that the specifications name: labels, selectors, annotations.
pub(crate) fn entries(map: &mut ResMap, pairs: &BTreeMap<String, String>, specs: &[FieldSpec]) -> Result<()> {
    if pairs.is_empty() {
        return Ok(());
    }
    for resource in map.resources_mut() {
        let gvk = resource.gvk();
        for (key, value) in pairs {
            let (mut touched, mut made) = (Vec::new(), Vec::new());
            for spec in specs.iter().filter(|spec| spec.matches(&gvk)) {
                let (mut is_there, mut is_new) = (false, false);
                apply(resource, spec, Create::Mapping, &mut |node| {
                    if node.is_null() {
                        *node = Node::mapping(node.span);
                    }
                    if node.as_mapping().is_none() {
                        return Err(wrong_kind_named("MappingNode", node));
                    }
                    match node.get(key) {
                        Some(_) => is_there = true,
                        None => is_new = true,
                    }
                    set_text(node, key, value);
                    Ok(())
                })?;
                if is_there {
                    touched.push(spec.path.as_str());
                }
                if is_new {
                    made.push(spec.clone());
                }
            }
            shared::after_entry(&resource.shared, &mut resource.node, key, value, &touched)?;
            resource.shared.extend(Shared::new(key, made));
        }
    }
    Ok(())
}

/// What images of a name look like, the name itself being a pattern; `None` for a name that is none.
fn image_pattern(name: &str) -> Option<Regex> {
    // A digest is named by its algorithm, whose parts the image specification separates by these.
    const DIGEST: &str = "@[a-zA-Z0-9]+([+._-][a-zA-Z0-9]+)*:[a-zA-Z0-9=_.{}-]*";
    Regex::new(&format!("^{name}(:[a-zA-Z0-9_.{{}}-]*)?({DIGEST})?$")).ok()
}

/// Whether an image is one of this name.
pub(crate) fn is_image_of(image: &str, name: &str) -> bool {
    image_pattern(name).is_some_and(|pattern| pattern.is_match(image))
}

/// Gives images other names, tags and digests.
pub(crate) fn image(map: &mut ResMap, image: &Image, specs: &[FieldSpec]) -> Result<()> {
    let Some(pattern) = image_pattern(&image.name) else { return Ok(()) };
    let update = |node: &mut Node| -> Result<()> {
        if let Some(text) = node.as_str()
            && pattern.is_match(text)
        {
            let renamed = renamed(text, image);
            *node = Node::string(renamed, node.span);
        }
        Ok(())
    };
    for resource in map.resources_mut() {
        if resource.kind() != "CustomResourceDefinition" {
            update_containers(&mut resource.node, &update)?;
        }
        for spec in specs {
            apply(resource, spec, Create::Nothing, &mut |node| update(node))?;
        }
    }
    Ok(())
}

/// Containers anywhere in the object, whatever its kind.
fn update_containers(node: &mut Node, update: &dyn Fn(&mut Node) -> Result<()>) -> Result<()> {
    match &mut node.data {
        Data::Scalar(_) => Ok(()),
        Data::Sequence(items) => items.iter_mut().try_for_each(|item| update_containers(item, update)),
        Data::Mapping(entries) => entries.iter_mut().try_for_each(|(key, value)| {
            if matches!(key.text(), Some("containers" | "initContainers")) {
                for container in value.as_sequence_mut().into_iter().flatten() {
                    if let Some(image) = container.get_mut("image") {
                        update(image)?;
                    }
                }
            }
            update_containers(value, update)
        }),
    }
}

/// Name, tag and digest of an image; a port in the host part is no tag.
pub fn split_image(text: &str) -> (&str, &str, &str) {
    let host = text.find('/').filter(|slash| *slash > 0).unwrap_or(0);
    let (rest, digest) = match text[host..].find('@') {
        Some(at) => (&text[..host + at], &text[host + at + 1..]),
        None => (text, ""),
    };
    match rest[host..].find(':') {
        Some(colon) => (&rest[..host + colon], &rest[host + colon + 1..], digest),
        None => (rest, "", digest),
    }
}

fn renamed(text: &str, image: &Image) -> String {
    let (mut name, mut tag, mut digest) = split_image(text);
    if !image.new_name.is_empty() {
        name = &image.new_name;
    }
    if !image.new_tag.is_empty() || !image.digest.is_empty() {
        (tag, digest) = (&image.new_tag, &image.digest);
    }
    let tag = if image.tag_suffix.is_empty() { tag.to_owned() } else { format!("{tag}{}", image.tag_suffix) };
    let mut result = name.to_owned();
    if !tag.is_empty() {
        result.push(':');
        result.push_str(&tag);
    }
    if !digest.is_empty() {
        result.push('@');
        result.push_str(digest);
    }
    result
}

/// Sets the number of replicas of the objects of a name, which must be there.
pub(crate) fn replicas(map: &mut ResMap, replica: &Replica, specs: &[FieldSpec]) -> Result<()> {
    let mut found = false;
    for resource in map.resources_mut() {
        for spec in specs {
            let wanted = spec.gvk();
            let fits = resource.any_ids().any(|id| id.name == replica.name && id.gvk.is_selected(&wanted));
            if fits {
                found = true;
                apply(resource, spec, Create::Scalar, &mut |node| {
                    *node = Node::plain(replica.count.to_string(), node.span);
                    Ok(())
                })?;
            }
        }
    }
    if found {
        return Ok(());
    }
    let kinds: Vec<String> = specs.iter().map(|spec| spec.gvk().to_string()).collect();
    Err(Error::new(format!(
        "resource with name {} does not match a config with the following GVK [{}]",
        replica.name,
        kinds.join(" ")
    )))
}

/// Adds the content hash to the names that want it.
pub(crate) fn hashes(map: &mut ResMap) {
    for resource in map.resources_mut() {
        if resource.needs_hash {
            let suffix = hash::suffix(resource);
            resource.store_previous_id();
            let name = format!("{}-{suffix}", resource.name());
            resource.set_name(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split_image;

    #[test]
    fn parts_of_an_image() {
        assert_eq!(split_image("nginx:1.7"), ("nginx", "1.7", ""));
        assert_eq!(split_image("host:5000/a/b"), ("host:5000/a/b", "", ""));
        assert_eq!(split_image("host:5000/a:v1@sha256:00"), ("host:5000/a", "v1", "sha256:00"));
        assert_eq!(split_image("a@sha256:00"), ("a", "", "sha256:00"));
    }
}
