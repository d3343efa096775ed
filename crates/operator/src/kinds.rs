//! Which kinds a server serves, with all the names that people call them by.

use std::collections::BTreeMap;

use kube::Client;
use kube::api::ApiResource;

/// One kind in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedKind {
    pub resource: ApiResource,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub subresources: Vec<String>,
    pub namespaced: bool,
    /// The version is the one that its group prefers.
    pub preferred: bool,
    pub verbs: Vec<String>,
}

/// Asks the server for all kinds. A group that cannot be asked, such as one of an aggregated server that is away, is
/// left out and logged.
pub async fn served_kinds(client: &Client) -> Result<Vec<ServedKind>, kube::Error> {
    let mut kinds = Vec::new();
    for version in client.list_core_api_versions().await?.versions {
        let list = client.list_core_api_resources(&version).await?;
        collect(&mut kinds, "", &version, true, list.resources);
    }
    for group in client.list_api_groups().await?.groups {
        let preferred = group.preferred_version.as_ref().map(|preferred| preferred.version.clone());
        for version in group.versions {
            let list = match client.list_api_group_resources(&version.group_version).await {
                Ok(list) => list,
                Err(error) => {
                    tracing::warn!(group = version.group_version, %error, "the kinds of a group are not known");
                    continue;
                }
            };
            let is_preferred = preferred.as_ref().is_none_or(|preferred| *preferred == version.version);
            collect(&mut kinds, &group.name, &version.version, is_preferred, list.resources);
        }
    }
    Ok(kinds)
}

/// The plural names of the kinds that the server has in one version of a group, such as `apps/v1`; none where it does
/// not know the group.
pub async fn served_plurals(client: &Client, group_version: &str) -> Result<Vec<String>, kube::Error> {
    match client.list_api_group_resources(group_version).await {
        Ok(list) => Ok(list.resources.into_iter().map(|resource| resource.name).collect()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn collect(
    kinds: &mut Vec<ServedKind>,
    group: &str,
    version: &str,
    preferred: bool,
    listed: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource>,
) {
    let mut subresources: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (plural, part) in listed.iter().filter_map(|resource| resource.name.split_once('/')) {
        subresources.entry(plural.to_owned()).or_default().push(part.to_owned());
    }
    for resource in listed.into_iter().filter(|resource| !resource.name.contains('/')) {
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        kinds.push(ServedKind {
            subresources: subresources.remove(&resource.name).unwrap_or_default(),
            resource: ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version,
                kind: resource.kind,
                plural: resource.name,
            },
            singular: resource.singular_name,
            short_names: resource.short_names.unwrap_or_default(),
            categories: resource.categories.unwrap_or_default(),
            namespaced: resource.namespaced,
            preferred,
            verbs: resource.verbs,
        });
    }
}
