//! The definitions of the VerticalPodAutoscaler's kinds, installed where they are not.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, PostParams};

/// One definition a line, without descriptions.
const DEFINITIONS: &str = include_str!("../../data/vpa@1.7/crds.json");

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("the definitions of autoscaling.k8s.io are not readable: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("installing the definition {name}: {error}")]
    Refused { name: String, error: Box<kube::Error> },
}

/// Creates the definitions that are missing; those that are there are left as they are.
pub async fn install(client: &Client) -> Result<(), InstallError> {
    let definitions: Vec<CustomResourceDefinition> = serde_json::from_str(DEFINITIONS)?;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in definitions {
        let name = definition.metadata.name.clone().unwrap_or_default();
        match api.create(&PostParams::default(), &definition).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            Err(error) => return Err(InstallError::Refused { name, error: Box::new(error) }),
        }
    }
    Ok(())
}
