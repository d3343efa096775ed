//! What files a configMap, secret, downwardAPI or projected volume holds.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, DownwardAPIVolumeFile, KeyToPath, Volume};

use super::{File, Payload};
use crate::downward::{DownwardError, Facts};
use crate::env::{References, secret_entries};

const DEFAULT_MODE: i32 = 0o644;

/// Why a volume's files cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("{kind} \"{name}\" not found")]
    NotFound { kind: &'static str, name: String },
    #[error("references non-existent {kind} key: {key}")]
    NoKey { kind: &'static str, key: String },
    #[error("file \"{path}\": {source}")]
    Downward { path: String, source: DownwardError },
    #[error("file \"{path}\" names no field")]
    NoField { path: String },
    #[error("{0} sources are not supported for pods run as processes")]
    Source(&'static str),
}

/// The files of `volume`; `None` when it is not of a kind that holds generated files.
pub(super) fn of(
    volume: &Volume,
    facts: &Facts<'_>,
    references: &References,
) -> Result<Option<Payload>, PayloadError> {
    let mut payload = Payload::new();
    if let Some(source) = &volume.config_map {
        let keys = Keys {
            kind: "configmap",
            name: &source.name,
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
            mode: source.default_mode.unwrap_or(DEFAULT_MODE),
        };
        keys.add(config_map(references, &source.name), &mut payload)?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let keys = Keys {
            kind: "secret",
            name,
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
            mode: source.default_mode.unwrap_or(DEFAULT_MODE),
        };
        keys.add(secret(references, name), &mut payload)?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        add_downward(source.items.as_deref().unwrap_or_default(), mode, facts, &mut payload)?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        for source in projected.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                let keys = Keys {
                    kind: "configmap",
                    name: &source.name,
                    items: source.items.as_deref(),
                    optional: source.optional == Some(true),
                    mode,
                };
                keys.add(config_map(references, &source.name), &mut payload)?;
            }
            if let Some(source) = &source.secret {
                let keys = Keys {
                    kind: "secret",
                    name: &source.name,
                    items: source.items.as_deref(),
                    optional: source.optional == Some(true),
                    mode,
                };
                keys.add(secret(references, &source.name), &mut payload)?;
            }
            if let Some(source) = &source.downward_api {
                add_downward(source.items.as_deref().unwrap_or_default(), mode, facts, &mut payload)?;
            }
            if source.service_account_token.is_some() {
                return Err(PayloadError::Source("serviceAccountToken"));
            }
            if source.cluster_trust_bundle.is_some() {
                return Err(PayloadError::Source("clusterTrustBundle"));
            }
            if source.pod_certificate.is_some() {
                return Err(PayloadError::Source("podCertificate"));
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(payload))
}

type Entries = BTreeMap<String, Vec<u8>>;

fn config_map(references: &References, name: &str) -> Option<Entries> {
    let map = references.config_maps.get(name)?;
    let text = map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
    Some(text.chain(binary).collect())
}

fn secret(references: &References, name: &str) -> Option<Entries> {
    references.secrets.get(name).map(secret_entries)
}

struct Keys<'a> {
    kind: &'static str,
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: bool,
    mode: i32,
}

impl Keys<'_> {
    fn add(self, entries: Option<Entries>, payload: &mut Payload) -> Result<(), PayloadError> {
        let mut entries = match entries {
            Some(entries) => entries,
            None if self.optional => Entries::new(),
            None => return Err(PayloadError::NotFound { kind: self.kind, name: self.name.into() }),
        };
        let Some(items) = self.items.filter(|items| !items.is_empty()) else {
            let mode = self.mode as u32;
            payload.extend(entries.into_iter().map(|(key, content)| (key, File { content, mode })));
            return Ok(());
        };
        for item in items {
            match entries.remove(&item.key) {
                Some(content) => {
                    let mode = item.mode.unwrap_or(self.mode) as u32;
                    payload.insert(item.path.clone(), File { content, mode });
                }
                None if self.optional => {}
                None => return Err(PayloadError::NoKey { kind: self.kind, key: item.key.clone() }),
            }
        }
        Ok(())
    }
}

fn add_downward(
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    facts: &Facts<'_>,
    payload: &mut Payload,
) -> Result<(), PayloadError> {
    // A volume belongs to no container, so a resourceFieldRef must name one.
    let no_container = Container::default();
    for item in items {
        let failed = |source| PayloadError::Downward { path: item.path.clone(), source };
        let text = if let Some(field) = &item.field_ref {
            facts.field(&field.field_path).map_err(failed)?
        } else if let Some(resource) = &item.resource_field_ref {
            facts.resource(resource, &no_container).map_err(failed)?
        } else {
            return Err(PayloadError::NoField { path: item.path.clone() });
        };
        let mode = item.mode.unwrap_or(mode) as u32;
        payload.insert(item.path.clone(), File { content: text.into_bytes(), mode });
    }
    Ok(())
}
