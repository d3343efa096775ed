//! The pod's service account, where programs in a cluster look for it: a token, the authority's certificate and the
//! namespace.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::{RETRY, Worker};
use crate::isolation::mounts::Mount;
use crate::volumes::{self, File, Payload};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const AUTHORITY: &str = "kube-root-ca.crt";
/// As the kubelet asks for.
const TOKEN_SECONDS: i64 = 3_607;
/// A token is replaced long before it ends.
const TOKEN_RENEWED_AFTER: Duration = Duration::from_secs(3_607 * 4 / 5);
const FOLDER: &str = "account";
const TOKEN: &str = "token";
const QUICK_RETRY: Duration = Duration::from_millis(100);
const QUICK_TRIES: u32 = 20;

/// How far the account's files are.
#[derive(Default)]
pub(super) struct Account {
    /// Whether the service account gives pods its tokens; decided once, as a pod's mounts are.
    automounts: Option<bool>,
    written: Option<Instant>,
    /// Since the files were written last.
    failures: u32,
}

impl Account {
    /// When it is tried again. It is made right after its namespace; one that is still not there may never be.
    fn retry(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        if self.failures <= QUICK_TRIES { QUICK_RETRY } else { RETRY }
    }
}

impl Worker {
    /// Whether the pod gets an account at all. What the pod says counts more than what its service account says.
    fn has_account(&self) -> bool {
        let wanted = self.pod.spec.as_ref().and_then(|spec| spec.automount_service_account_token);
        self.sandbox.is_some() && wanted.or(self.account.automounts) != Some(false)
    }

    pub(super) fn account_mount(&self) -> Option<Mount> {
        self.has_account().then(|| Mount {
            source: self.account_dir(),
            target: Path::new(MOUNT_PATH).into(),
            read_only: true,
        })
    }

    fn account_dir(&self) -> PathBuf {
        self.dir.join("network").join(FOLDER)
    }

    /// Whether containers can be started. Until when to wait where not is noted.
    pub(super) async fn prepare_account(&mut self, stamp: &str) -> bool {
        let Err(message) = self.write_account(stamp).await else { return true };
        self.warn_once(None, "FailedMount", message);
        // A token of before is good for some time, in which the pod's volumes change too.
        if self.account_dir().join(TOKEN).exists() {
            return true;
        }
        self.volumes_due = Instant::now() + self.account.retry();
        false
    }

    /// Writes the files, and again when the token has become old.
    async fn write_account(&mut self, stamp: &str) -> Result<(), String> {
        let is_fresh = self.account.written.is_some_and(|at| at.elapsed() < TOKEN_RENEWED_AFTER);
        if !self.has_account() || is_fresh {
            return Ok(());
        }
        let failed =
            |reason: String| format!("MountVolume.SetUp failed for volume \"kube-api-access\": {reason}");
        let spec = self.pod.spec.as_ref();
        let account = spec.and_then(|spec| spec.service_account_name.clone());
        let account = account.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".into());
        let says_itself = spec.is_some_and(|spec| spec.automount_service_account_token.is_some());
        if !says_itself && self.account.automounts.is_none() {
            let automounts = self.shared.cluster.automounts(&self.name.namespace, &account).await;
            self.account.automounts = Some(automounts.map_err(|error| failed(error.to_string()))?);
            if !self.has_account() {
                return Ok(());
            }
        }
        let cluster = self.shared.cluster.clone();
        let token = cluster.token(&self.name, &account, TOKEN_SECONDS).await;
        let token = token.map_err(|error| failed(error.to_string()))?;
        let maps = cluster.references(&self.name.namespace, &[AUTHORITY.to_owned()], &[]).await;
        let maps = maps.map_err(|error| failed(error.to_string()))?.config_maps;
        let authority = maps.get(AUTHORITY).and_then(|map| map.data.as_ref()?.get("ca.crt").cloned());
        let authority = authority.ok_or_else(|| failed(format!("configmap \"{AUTHORITY}\" not found")))?;
        let file = |text: String, mode| File { content: text.into_bytes(), mode };
        let payload = Payload::from([
            (TOKEN.to_owned(), file(token, 0o600)),
            ("ca.crt".to_owned(), file(authority, 0o644)),
            ("namespace".to_owned(), file(self.name.namespace.clone(), 0o644)),
        ]);
        volumes::write(&self.account_dir(), &payload, stamp).map_err(|error| failed(error.to_string()))?;
        self.account.written = Some(Instant::now());
        self.account.failures = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_does_not_come_is_asked_for_less_often() {
        let mut account = Account::default();
        assert!((0..QUICK_TRIES).all(|_| account.retry() == QUICK_RETRY));
        assert_eq!(account.retry(), RETRY);
    }
}
