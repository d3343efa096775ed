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

/// What the server said of its kinds, as far as it could be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    pub kinds: Vec<ServedKind>,
    /// Versions of groups that gave no answer, such as those of an aggregated server that is away, and why.
    pub unanswered: BTreeMap<String, String>,
}

impl Discovered {
    /// The kinds, with those of `earlier` that belong to a group that gave no answer: away is not removed.
    pub fn with_earlier(self, earlier: &[ServedKind]) -> Vec<ServedKind> {
        let mut kinds = self.kinds;
        let silent = |kind: &&ServedKind| self.unanswered.contains_key(&kind.resource.api_version);
        kinds.extend(earlier.iter().filter(silent).cloned());
        kinds
    }
}

/// Asks the server for all kinds. A group that cannot be asked is left out and logged.
pub async fn served_kinds(client: &Client) -> Result<Vec<ServedKind>, kube::Error> {
    let discovered = discover(client).await?;
    for (group, error) in &discovered.unanswered {
        tracing::warn!(group, error, "the kinds of a group are not known");
    }
    Ok(discovered.kinds)
}

/// Asks the server for all kinds, and tells which groups gave no answer.
pub async fn discover(client: &Client) -> Result<Discovered, kube::Error> {
    let (mut kinds, mut unanswered) = (Vec::new(), BTreeMap::new());
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
                    unanswered.insert(version.group_version, error.to_string());
                    continue;
                }
            };
            let is_preferred = preferred.as_ref().is_none_or(|preferred| *preferred == version.version);
            collect(&mut kinds, &group.name, &version.version, is_preferred, list.resources);
        }
    }
    Ok(Discovered { kinds, unanswered })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(group: &str, name: &str) -> ServedKind {
        ServedKind {
            resource: ApiResource {
                group: group.to_owned(),
                version: "v1".to_owned(),
                api_version: format!("{group}/v1"),
                kind: name.to_owned(),
                plural: format!("{}s", name.to_lowercase()),
            },
            singular: String::new(),
            short_names: Vec::new(),
            categories: Vec::new(),
            subresources: Vec::new(),
            namespaced: true,
            preferred: true,
            verbs: Vec::new(),
        }
    }

    #[test]
    fn kinds_of_a_group_that_is_away_stay() {
        let earlier = [kind("a.example", "Apple"), kind("b.example", "Bean")];
        let unanswered = BTreeMap::from([("a.example/v1".to_owned(), "503".to_owned())]);
        let discovered = Discovered { kinds: vec![kind("c.example", "Corn")], unanswered };
        // The second group answered, and has the kind no more.
        assert_eq!(
            discovered.with_earlier(&earlier),
            [kind("c.example", "Corn"), kind("a.example", "Apple")]
        );
    }
}
