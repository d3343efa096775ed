//! A client for a server in another process, as a kubeconfig describes it.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("the client cannot be made: {0}")]
    Client(#[from] kube::Error),
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
