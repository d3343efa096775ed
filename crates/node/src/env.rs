//! A container's environment: literals, references, service variables and what the node itself announces.
//!
//! Precedence, lowest first: the host's `PATH`, `HOME`, `LANG`, `TMPDIR`; service variables; the node's own
//! variables; `envFrom` in order; `env` in order. `$(NAME)` sees everything set before it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Secret};

use crate::downward::{DownwardError, Facts};
use crate::expand::expand;

/// The only variables of the host that reach a pod.
pub(crate) const HOST_VARIABLES: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// ConfigMaps and Secrets of the pod's namespace that its spec refers to, by name; an absent one has no entry.
#[derive(Clone, Debug, Default)]
pub struct References {
    pub config_maps: BTreeMap<String, ConfigMap>,
    pub secrets: BTreeMap<String, Secret>,
}

/// Why the environment cannot be built; shown as `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvError {
    #[error("{kind} \"{name}\" not found")]
    NotFound { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error("key {key} in {kind} {namespace}/{name} is not UTF-8 text")]
    NotText { kind: &'static str, namespace: String, name: String, key: String },
    #[error("environment variable \"{name}\": {source}")]
    Downward { name: String, source: DownwardError },
    #[error("environment variable \"{name}\": fileKeyRef is not supported")]
    FileKeyRef { name: String },
}

/// The environment of `container`, its host part and `announced` (the node's own variables) included.
pub(crate) fn build(
    container: &Container,
    facts: &Facts<'_>,
    references: &References,
    services: BTreeMap<String, String>,
    announced: BTreeMap<String, String>,
    host_env: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, EnvError> {
    let namespace = facts.pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for name in HOST_VARIABLES {
        if let Some(value) = host_env.get(name) {
            env.insert(name.into(), value.clone());
        }
    }
    env.extend(services);
    env.extend(announced);

    for source in container.env_from.as_deref().unwrap_or_default() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(from) = &source.config_map_ref {
            match references.config_maps.get(&from.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        env.insert(format!("{prefix}{key}"), value.clone());
                    }
                }
                None if from.optional == Some(true) => {}
                None => return Err(EnvError::NotFound { kind: "configmap", name: from.name.clone() }),
            }
        }
        if let Some(from) = &source.secret_ref {
            match references.secrets.get(&from.name) {
                Some(secret) => {
                    for (key, value) in secret_entries(secret) {
                        if let Ok(text) = String::from_utf8(value) {
                            env.insert(format!("{prefix}{key}"), text);
                        }
                    }
                }
                None if from.optional == Some(true) => {}
                None => return Err(EnvError::NotFound { kind: "secret", name: from.name.clone() }),
            }
        }
    }
    for variable in container.env.as_deref().unwrap_or_default() {
        if let Some(value) = value_of(variable, container, facts, references, namespace, &env)? {
            env.insert(variable.name.clone(), value);
        }
    }
    env.retain(|name, value| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
    Ok(env)
}

fn value_of(
    variable: &EnvVar,
    container: &Container,
    facts: &Facts<'_>,
    references: &References,
    namespace: &str,
    env: &BTreeMap<String, String>,
) -> Result<Option<String>, EnvError> {
    let name = &variable.name;
    let Some(EnvVarSource {
        config_map_key_ref,
        secret_key_ref,
        field_ref,
        resource_field_ref,
        file_key_ref,
    }) = &variable.value_from
    else {
        let literal = variable.value.as_deref().unwrap_or_default();
        return Ok(Some(expand(literal, |reference| env.get(reference).cloned())));
    };
    let downward = |source| EnvError::Downward { name: name.clone(), source };
    if let Some(field) = field_ref {
        return facts.field(&field.field_path).map(Some).map_err(downward);
    }
    if let Some(resource) = resource_field_ref {
        return facts.resource(resource, container).map(Some).map_err(downward);
    }
    if let Some(key_ref) = config_map_key_ref {
        let optional = key_ref.optional == Some(true);
        let Some(map) = references.config_maps.get(&key_ref.name) else {
            return match optional {
                true => Ok(None),
                false => Err(EnvError::NotFound { kind: "configmap", name: key_ref.name.clone() }),
            };
        };
        return match map.data.as_ref().and_then(|d| d.get(&key_ref.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(no_key("ConfigMap", namespace, &key_ref.name, &key_ref.key)),
        };
    }
    if let Some(key_ref) = secret_key_ref {
        let optional = key_ref.optional == Some(true);
        let Some(secret) = references.secrets.get(&key_ref.name) else {
            return match optional {
                true => Ok(None),
                false => Err(EnvError::NotFound { kind: "secret", name: key_ref.name.clone() }),
            };
        };
        return match secret_entries(secret).remove(&key_ref.key) {
            Some(value) => String::from_utf8(value).map(Some).map_err(|_| EnvError::NotText {
                kind: "Secret",
                namespace: namespace.into(),
                name: key_ref.name.clone(),
                key: key_ref.key.clone(),
            }),
            None if optional => Ok(None),
            None => Err(no_key("Secret", namespace, &key_ref.name, &key_ref.key)),
        };
    }
    if file_key_ref.is_some() {
        return Err(EnvError::FileKeyRef { name: name.clone() });
    }
    Ok(Some(String::new()))
}

fn no_key(kind: &'static str, namespace: &str, name: &str, key: &str) -> EnvError {
    EnvError::NoKey { kind, namespace: namespace.into(), name: name.into(), key: key.into() }
}

/// `data` with `stringData` laid over it (an API server folds the latter into the former on write).
pub(crate) fn secret_entries(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    let data = secret.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
    let text = secret.string_data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    data.chain(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn pod(container: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": [container]},
        }))
        .unwrap()
    }

    fn env(container: serde_json::Value) -> Result<BTreeMap<String, String>, EnvError> {
        let pod = pod(container);
        let allocatable = BTreeMap::new();
        let facts = Facts {
            pod: &pod,
            pod_ip: "127.1.0.2",
            host_ip: "127.0.0.1",
            node_name: "n",
            allocatable: &allocatable,
        };
        let references = serde_json::from_value::<ConfigMap>(json!({"data": {"a": "1", "b": "2"}})).unwrap();
        let secret =
            serde_json::from_value::<Secret>(json!({"data": {"pw": "c2VjcmV0", "raw": "//8="}})).unwrap();
        let references = References {
            config_maps: [("cm".to_string(), references)].into(),
            secrets: [("sec".to_string(), secret)].into(),
        };
        let services = [("API_SERVICE_HOST".to_string(), "127.2.0.1".to_string())].into();
        let announced = [("POD_IP".to_string(), "127.1.0.2".to_string())].into();
        let host =
            [("PATH", "/bin"), ("SSH_AUTH_SOCK", "/x")].map(|(k, v)| (k.to_string(), v.to_string())).into();
        build(&pod.spec.as_ref().unwrap().containers[0], &facts, &references, services, announced, &host)
    }

    #[test]
    fn precedence_and_expansion() {
        let env = env(json!({"name": "c",
        "envFrom": [{"configMapRef": {"name": "cm"}}, {"prefix": "X_", "secretRef": {"name": "sec"}},
                    {"configMapRef": {"name": "gone", "optional": true}}],
        "env": [
            {"name": "b", "value": "override"},
            {"name": "URL", "value": "http://$(API_SERVICE_HOST)/$(a)?$(LATER)"},
            {"name": "LATER", "value": "x"},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "OPT", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "zzz", "optional": true}}},
        ]}))
        .unwrap();
        let get = |k: &str| env.get(k).map(String::as_str);
        assert_eq!(get("a"), Some("1"));
        assert_eq!(get("b"), Some("override"));
        assert_eq!(get("X_pw"), Some("secret"));
        assert_eq!(get("X_raw"), None);
        assert_eq!(get("URL"), Some("http://127.2.0.1/1?$(LATER)"));
        assert_eq!(get("PW"), Some("secret"));
        assert_eq!(get("IP"), Some("127.1.0.2"));
        assert_eq!(get("OPT"), None);
        assert_eq!(get("PATH"), Some("/bin"));
        assert_eq!(get("SSH_AUTH_SOCK"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let message = |container| env(container).unwrap_err().to_string();
        let key = json!({"name": "c", "env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "zzz"}}}]});
        assert_eq!(message(key), "couldn't find key zzz in ConfigMap ns/cm");
        let map = json!({"name": "c", "envFrom": [{"configMapRef": {"name": "gone"}}]});
        assert_eq!(message(map), "configmap \"gone\" not found");
        let secret = json!({"name": "c", "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}}]});
        assert_eq!(message(secret), "secret \"gone\" not found");
        let field =
            json!({"name": "c", "env": [{"name": "K", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]});
        assert_eq!(message(field), "environment variable \"K\": unsupported fieldPath: spec.x");
    }
}
