//! A client for a server in another process, as a kubeconfig describes it.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error(
        "no cluster to connect to, neither by a kubeconfig (see $KUBECONFIG) nor by a service account: {0}"
    )]
    Nowhere(String),
    #[error("the client cannot be made: {0}")]
    Client(#[from] kube::Error),
}

/// As an operator is connected that is told nothing: `$KUBECONFIG` or `~/.kube/config`, else the service account of
/// the pod it runs in. Also gives the namespace that goes with it.
pub async fn connect_as_found() -> Result<(Client, String), ConnectError> {
    let config = Config::infer().await.map_err(|error| ConnectError::Nowhere(error.to_string()))?;
    let namespace = config.default_namespace.clone();
    Ok((Client::try_from(config)?, namespace))
}

/// `file`: `None` takes `$KUBECONFIG` or `~/.kube/config`, as kubectl does. `context`: `None` takes the current one.
pub async fn connect(file: Option<&Path>, context: Option<&str>) -> Result<Client, ConnectError> {
    let kubeconfig = match file {
        Some(file) => Kubeconfig::read_from(file)?,
        None => Kubeconfig::read()?,
    };
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    Ok(Client::try_from(config)?)
}
