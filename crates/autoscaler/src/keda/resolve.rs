//! What triggers refer to: the environment of the target's container, Secrets and ConfigMaps by way of a
//! (Cluster)TriggerAuthentication.

use std::collections::BTreeMap;

use gantry_operator::explain;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, PodSpec, Secret};
use kube::Client;
use kube::api::Api;

use super::types::{
    AuthTargetRef, AuthenticationRef, ClusterTriggerAuthentication, TriggerAuthentication,
    TriggerAuthenticationSpec,
};

type Map = BTreeMap<String, String>;

/// Reads what triggers refer to, each object at most once per resolution.
pub(crate) struct Resolver<'a> {
    client: &'a Client,
    namespace: &'a str,
    /// Where the secrets of cluster-wide authentications are.
    cluster_namespace: &'a str,
    objects: BTreeMap<(bool, String, String), Option<Map>>,
}

/// What an authentication gives.
#[derive(Default)]
pub(crate) struct Authentication {
    pub parameters: Map,
    pub identity: String,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(client: &'a Client, namespace: &'a str, cluster_namespace: &'a str) -> Resolver<'a> {
        Resolver { client, namespace, cluster_namespace, objects: BTreeMap::new() }
    }

    /// The variables of the named container, or of the first.
    pub(crate) async fn environment(&mut self, pod: &PodSpec, container: &str) -> Result<Map, String> {
        let chosen = match container {
            "" => pod.containers.first(),
            name => pod.containers.iter().find(|c| c.name == name),
        };
        let chosen =
            chosen.ok_or_else(|| format!("couldn't find container with name {container:?} on target"))?;
        self.variables(chosen).await
    }

    async fn variables(&mut self, container: &Container) -> Result<Map, String> {
        let namespace = self.namespace;
        let mut variables = Map::new();
        for source in container.env_from.iter().flatten() {
            let references = [
                (true, source.secret_ref.as_ref().map(|r| (&r.name, r.optional))),
                (false, source.config_map_ref.as_ref().map(|r| (&r.name, r.optional))),
            ];
            for (is_secret, reference) in references {
                let Some((name, optional)) = reference else { continue };
                match self.data(is_secret, namespace, name).await? {
                    Some(data) => {
                        let prefix = source.prefix.as_deref().unwrap_or_default();
                        variables
                            .extend(data.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)));
                    }
                    None if optional == Some(true) => {}
                    None => {
                        return Err(format!(
                            "error reading {} {namespace}/{name}: not found",
                            word(is_secret)
                        ));
                    }
                }
            }
        }
        for variable in container.env.iter().flatten() {
            if let Some(value) = self.variable(variable, &variables).await? {
                variables.insert(variable.name.clone(), value);
            }
        }
        Ok(variables)
    }

    async fn variable(&mut self, variable: &EnvVar, earlier: &Map) -> Result<Option<String>, String> {
        if let Some(value) = &variable.value {
            return Ok(Some(expand(value, earlier)));
        }
        let Some(source) = &variable.value_from else { return Ok(Some(String::new())) };
        let references = [
            (true, source.secret_key_ref.as_ref().map(|r| (&r.name, &r.key, r.optional))),
            (false, source.config_map_key_ref.as_ref().map(|r| (&r.name, &r.key, r.optional))),
        ];
        for (is_secret, reference) in references {
            let Some((name, key, optional)) = reference else { continue };
            let namespace = self.namespace;
            let value = self.data(is_secret, namespace, name).await?.and_then(|mut data| data.remove(key));
            return match value {
                None if optional != Some(true) => Err(format!(
                    "error resolving {} of env var {:?}: key {key:?} of {namespace}/{name} not found",
                    word(is_secret),
                    variable.name
                )),
                value => Ok(value),
            };
        }
        // What only a running pod knows (its name, its limits) is no part of a trigger.
        Ok(None)
    }

    /// The parameters and the identity of an authentication.
    pub(crate) async fn authentication(
        &mut self,
        reference: Option<&AuthenticationRef>,
        environment: &Map,
        pod: Option<&PodSpec>,
    ) -> Result<Authentication, String> {
        let Some(reference) = reference.filter(|reference| !reference.name.is_empty()) else {
            return Ok(Authentication::default());
        };
        let failed = |error: kube::Error| match &error {
            kube::Error::Api(status) if status.code == 404 => {
                let kind = if reference.kind.is_empty() { "TriggerAuthentication" } else { &reference.kind };
                format!("error getting {kind} {:?}: not found", reference.name)
            }
            _ => format!("error getting authentication {:?}: {}", reference.name, explain(&error)),
        };
        let (spec, namespace): (TriggerAuthenticationSpec, &str) = match reference.kind.as_str() {
            "" | "TriggerAuthentication" => {
                let api: Api<TriggerAuthentication> = Api::namespaced(self.client.clone(), self.namespace);
                (api.get(&reference.name).await.map_err(failed)?.spec, self.namespace)
            }
            "ClusterTriggerAuthentication" => {
                let api: Api<ClusterTriggerAuthentication> = Api::all(self.client.clone());
                (api.get(&reference.name).await.map_err(failed)?.spec.authentication, self.cluster_namespace)
            }
            other => return Err(format!("unknown trigger auth kind {other:?}")),
        };
        unsupported(&spec)?;
        let mut parameters = Map::new();
        for variable in &spec.env {
            let value = match (variable.container_name.as_str(), pod) {
                ("", _) | (_, None) => environment.get(&variable.name).cloned(),
                (container, Some(pod)) => self.environment(pod, container).await?.remove(&variable.name),
            };
            parameters.insert(variable.parameter.clone(), value.unwrap_or_default());
        }
        for (is_secret, references) in [(false, &spec.config_map_target_ref), (true, &spec.secret_target_ref)]
        {
            for AuthTargetRef { parameter, name, key } in references {
                // What is missing is empty here, and the trigger says what it needs.
                let data = self.data(is_secret, namespace, name).await?;
                let value = data.and_then(|mut data| data.remove(key)).unwrap_or_default();
                parameters.insert(parameter.clone(), value);
            }
        }
        Ok(Authentication { parameters, identity: spec.pod_identity.map(|i| i.provider).unwrap_or_default() })
    }

    async fn data(&mut self, is_secret: bool, namespace: &str, name: &str) -> Result<Option<Map>, String> {
        let key = (is_secret, namespace.to_owned(), name.to_owned());
        if let Some(known) = self.objects.get(&key) {
            return Ok(known.clone());
        }
        let failed = |error: kube::Error| {
            format!("error reading {} {namespace}/{name}: {}", word(is_secret), explain(&error))
        };
        let data = if is_secret {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            api.get_opt(name).await.map_err(failed)?.map(|secret| secret_data(&secret))
        } else {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
            api.get_opt(name).await.map_err(failed)?.map(|map| map.data.unwrap_or_default())
        };
        self.objects.insert(key, data.clone());
        Ok(data)
    }
}

fn word(is_secret: bool) -> &'static str {
    if is_secret { "secret" } else { "configmap" }
}

pub(crate) fn secret_data(secret: &Secret) -> Map {
    let texts = secret.data.iter().flatten();
    texts.map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned())).collect()
}

fn unsupported(spec: &TriggerAuthenticationSpec) -> Result<(), String> {
    let used = [
        ("hashiCorpVault", spec.hashi_corp_vault.is_some()),
        ("azureKeyVault", spec.azure_key_vault.is_some()),
        ("gcpSecretManager", spec.gcp_secret_manager.is_some()),
        ("awsSecretManager", spec.aws_secret_manager.is_some()),
        ("boundServiceAccountToken", !spec.bound_service_account_token.is_empty()),
        ("oauth2", spec.oauth2.is_some()),
        ("filePath", !spec.file_path.is_empty()),
    ];
    // Without the identity a source would be asked with no credentials at all, as whoever that is.
    let identity = spec.pod_identity.as_ref().map_or("", |identity| identity.provider.as_str());
    if !matches!(identity, "" | "none") {
        return Err(format!(
            "podIdentity {identity:?} of an authentication is not supported; secretTargetRef, configMapTargetRef and env are"
        ));
    }
    match used.iter().find(|(_, is_used)| *is_used) {
        Some((name, _)) => Err(format!(
            "{name} of an authentication is not supported; secretTargetRef, configMapTargetRef and env are"
        )),
        None => Ok(()),
    }
}

/// References `$(NAME)` to earlier variables become their values; `$$` is a dollar, what is unknown stays.
pub fn expand(text: &str, variables: &Map) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        if let Some(literal) = after.strip_prefix('$') {
            out.push('$');
            rest = literal;
            continue;
        }
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match reference {
            Some((name, behind)) => {
                match variables.get(name) {
                    Some(value) => out.push_str(value),
                    None => out.push_str(&format!("$({name})")),
                }
                rest = behind;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::super::types::AuthPodIdentity;
    use super::*;

    #[test]
    fn an_identity_that_nothing_uses_is_refused() {
        let with = |provider: &str| {
            let pod_identity = Some(AuthPodIdentity { provider: provider.into() });
            unsupported(&TriggerAuthenticationSpec { pod_identity, ..TriggerAuthenticationSpec::default() })
        };
        assert_eq!(unsupported(&TriggerAuthenticationSpec::default()), Ok(()));
        assert_eq!((with(""), with("none")), (Ok(()), Ok(())));
        assert!(with("azure-workload").unwrap_err().contains("podIdentity \"azure-workload\""));
    }

    #[test]
    fn references_expand_once() {
        let variables: Map = [("A".to_owned(), "1".to_owned())].into();
        for (text, expected) in [
            ("$(A)-x", "1-x"),
            ("x-$(A)", "x-1"),
            ("$$(A)", "$(A)"),
            ("$()x", "$()x"),
            ("$(A", "$(A"),
            ("$(B)", "$(B)"),
            ("a$", "a$"),
        ] {
            assert_eq!(expand(text, &variables), expected, "{text}");
        }
    }
}
