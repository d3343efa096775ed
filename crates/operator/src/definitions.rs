//! Definitions of custom kinds that a controller needs, installed where they are not.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, PostParams};

use crate::explain::explain;

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("definitions of custom kinds are not readable: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("installing the definition {name}: {error}", error = explain(&**error))]
    Refused { name: String, error: Box<kube::Error> },
}

/// Creates those of the definitions, lists in JSON, that are missing; those that are there are left as they are.
///
/// # Errors
/// When a list is none, or the server refuses a definition.
pub async fn install_definitions(client: &Client, lists: &[&str]) -> Result<(), InstallError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for list in lists {
        let definitions: Vec<CustomResourceDefinition> = serde_json::from_str(list)?;
        for definition in definitions {
            let name = definition.metadata.name.clone().unwrap_or_default();
            match api.create(&PostParams::default(), &definition).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
                Err(error) => return Err(InstallError::Refused { name, error: Box::new(error) }),
            }
        }
    }
    Ok(())
}
