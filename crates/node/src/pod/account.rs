//! The pod's service account, where programs in a cluster look for it: a token, the authority's certificate and the
//! namespace.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::Worker;
use crate::isolation::mounts::Mount;
use crate::volumes::{self, File, Payload};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const AUTHORITY: &str = "kube-root-ca.crt";
/// As the kubelet asks for.
const TOKEN_SECONDS: i64 = 3_607;
/// A token is replaced long before it ends.
const TOKEN_RENEWED_AFTER: Duration = Duration::from_secs(3_607 * 4 / 5);
const FOLDER: &str = "account";

impl Worker {
    /// Whether the pod gets an account at all.
    fn has_account(&self) -> bool {
        let wanted = self.pod.spec.as_ref().and_then(|spec| spec.automount_service_account_token);
        self.sandbox.is_some() && wanted != Some(false)
    }

    pub(super) fn account_mount(&self) -> Option<Mount> {
        self.has_account().then(|| Mount {
            source: self.dir.join("network").join(FOLDER),
            target: Path::new(MOUNT_PATH).into(),
            read_only: true,
        })
    }

    /// Writes the files, and again when the token has become old.
    pub(super) async fn write_account(&mut self, stamp: &str) -> Result<(), String> {
        let is_fresh = self.token_written.is_some_and(|at| at.elapsed() < TOKEN_RENEWED_AFTER);
        if !self.has_account() || is_fresh {
            return Ok(());
        }
        let failed =
            |reason: String| format!("MountVolume.SetUp failed for volume \"kube-api-access\": {reason}");
        let account = self.pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let account = account.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".into());
        let cluster = self.shared.cluster.clone();
        let token = cluster.token(&self.name, &account, TOKEN_SECONDS).await;
        let token = token.map_err(|error| failed(error.to_string()))?;
        let maps = cluster.references(&self.name.namespace, &[AUTHORITY.to_owned()], &[]).await;
        let maps = maps.map_err(|error| failed(error.to_string()))?.config_maps;
        let authority = maps.get(AUTHORITY).and_then(|map| map.data.as_ref()?.get("ca.crt").cloned());
        let authority = authority.ok_or_else(|| failed(format!("configmap \"{AUTHORITY}\" not found")))?;
        let file = |text: String, mode| File { content: text.into_bytes(), mode };
        let payload = Payload::from([
            ("token".to_owned(), file(token, 0o600)),
            ("ca.crt".to_owned(), file(authority, 0o644)),
            ("namespace".to_owned(), file(self.name.namespace.clone(), 0o644)),
        ]);
        volumes::write(&self.dir.join("network").join(FOLDER), &payload, stamp)
            .map_err(|error| failed(error.to_string()))?;
        self.token_written = Some(Instant::now());
        Ok(())
    }
}
