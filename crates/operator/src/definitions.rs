//! Definitions of custom kinds that a controller needs, installed where they are not.

use std::collections::HashSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::{PartialObjectMeta, Request, Resource};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::explain::explain;

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("definitions of custom kinds are not readable: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the definitions of custom kinds cannot be listed: {error}", error = explain(&**.0))]
    Unknown(Box<kube::Error>),
    #[error("installing the definition {name}: {error}", error = explain(&**error))]
    Refused { name: String, error: Box<kube::Error> },
}

#[derive(Deserialize)]
struct Named {
    metadata: Name,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

/// Creates those of the definitions, lists in JSON, that are missing; those that are there are left as they are.
///
/// # Errors
/// When a list is none, or the server refuses a definition.
pub async fn install_definitions(client: &Client, lists: &[&str]) -> Result<(), InstallError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let there = api.list_metadata(&ListParams::default()).await;
    let there = there.map_err(|error| InstallError::Unknown(Box::new(error)))?;
    let there: HashSet<String> = there.items.into_iter().filter_map(|one| one.metadata.name).collect();
    for list in lists {
        // Sent on as they are: read into its type, a definition takes many times its length.
        let definitions: Vec<&RawValue> = serde_json::from_str(list)?;
        for definition in definitions {
            let Named { metadata: Name { name } } = serde_json::from_str(definition.get())?;
            if there.contains(&name) {
                continue;
            }
            let created = create(client, definition.get().as_bytes().to_vec()).await;
            match created {
                Ok(()) => {}
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
                Err(error) => return Err(InstallError::Refused { name, error: Box::new(error) }),
            }
        }
    }
    Ok(())
}

async fn create(client: &Client, definition: Vec<u8>) -> Result<(), kube::Error> {
    let request = Request::new(CustomResourceDefinition::url_path(&(), None));
    let request = request.create(&Default::default(), definition).map_err(kube::Error::BuildRequest)?;
    client.request::<PartialObjectMeta<CustomResourceDefinition>>(request).await.map(drop)
}
