//! A control plane for recorded sessions: the API server over TLS, its controllers, and a node that only pretends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_apiserver::{ApiServer, Authenticator, Config, UserInfo, pki};
use gantry_clock::{Clock, SystemClock};
use gantry_operator::Operator;
use gantry_serve::{ConnectInfo, ListenConfig, Listener, TlsConfig};
use gantry_workloads::Controllers;
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::node;

pub(super) const TOKEN: &str = "session-token";

pub(super) struct Cluster {
    pub(super) url: String,
    pub(super) kubeconfig: PathBuf,
    cancel: CancellationToken,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Cluster {
    /// Serves on a free port until it is dropped.
    pub(super) async fn start(folder: &Path, with_node: bool) -> Result<Cluster, Box<dyn std::error::Error>> {
        let clock = Arc::new(SystemClock::new());
        let credentials = pki::credentials(&folder.join("pki"), &["127.0.0.1", "localhost"], clock.now_ms())?;
        let server = ApiServer::open(Config::ephemeral(clock.clone())).await?;
        let client = Client::new(server.service_as(UserInfo::admin()), "default");
        let operator = Operator::new(client.clone(), clock);
        let root_ca = Some(credentials.authority_certificate.clone());
        Controllers::register(&operator, gantry_workloads::Config { root_ca, ..Default::default() });
        let tls = TlsConfig::from_pem(
            &credentials.server.certificate,
            &credentials.server.key,
            Some(&credentials.authority_certificate),
        )?;
        let listener = Listener::bind(ListenConfig::tls("127.0.0.1:0".parse()?, tls)).await?;
        let url = format!("https://{}", listener.local_addr());
        let admin = UserInfo {
            name: "admin".into(),
            uid: "u1".into(),
            groups: vec!["system:masters".into(), "system:authenticated".into()],
            ..UserInfo::default()
        };
        let authenticator = Authenticator::new().with_token(TOKEN, admin);
        let service = server.authenticated_service(authenticator, |extensions| {
            Some(extensions.get::<ConnectInfo>()?.client_certificate.as_ref()?.to_vec())
        });
        let cancel = CancellationToken::new();
        tokio::spawn(listener.serve(service, cancel.clone()));
        let running = cancel.clone();
        tokio::spawn(async move { operator.run(running).await });
        if with_node {
            let running = cancel.clone();
            tokio::spawn(async move { running.run_until_cancelled(node::run(client)).await });
        }
        let kubeconfig = folder.join("kubeconfig");
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "session",
            "clusters": [{ "name": "session", "cluster": { "server": url, "insecure-skip-tls-verify": true } }],
            "users": [{ "name": "admin", "user": { "token": TOKEN } }],
            "contexts": [{ "name": "session", "context": { "cluster": "session", "user": "admin" } }],
        });
        std::fs::write(&kubeconfig, config.to_string())?;
        Ok(Cluster { url, kubeconfig, cancel })
    }
}
