//! Peering from the command line: which peering object, under which identity, and the commands that freeze others.

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{Clock, Peering, ServedKind, SystemClock, connect_as_found, served_kinds};
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::declared;
use crate::flags::{PeerFlags, RunFlags, is_exact};

/// The groups that peering objects have had.
const GROUPS: [&str; 2] = ["kopf.dev", "zalando.org"];

/// Whether the operator has to pause, because of its peers.
pub(crate) struct Pausing {
    peers: Vec<watch::Receiver<bool>>,
    keeping: Vec<tokio::task::JoinHandle<()>>,
}

impl Pausing {
    /// Joins the peering objects that there are, unless the operator stands alone.
    pub(crate) async fn begin(
        flags: &RunFlags,
        settings: &declared::Peering,
        client: &Client,
        clock: &Arc<dyn Clock>,
        cancel: &CancellationToken,
    ) -> Result<Pausing, String> {
        let mut pausing = Pausing { peers: Vec::new(), keeping: Vec::new() };
        if flags.standalone || settings.standalone {
            return Ok(pausing);
        }
        let name = flags.peering.as_deref().unwrap_or(&settings.name);
        let mandatory = flags.peering.is_some() || settings.mandatory;
        let namespaces: Vec<&str> =
            flags.namespaces.iter().map(String::as_str).filter(|name| is_exact(name)).collect();
        let clusterwide = flags.namespaces.is_empty() || settings.clusterwide;
        let identity = own_identity(false, &**clock);
        let priority = flags.priority.unwrap_or(settings.priority);
        let lifetime = Duration::from_secs(u64::try_from(settings.lifetime).unwrap_or(60).max(1));
        let kinds = served_kinds(client).await.map_err(|error| format!("cannot look for peers: {error}"))?;
        for (kind, namespace) in objects(&kinds, clusterwide, &namespaces) {
            let resource = kind.resource.clone();
            let peering = Peering::new(
                client.clone(),
                clock.clone(),
                resource,
                namespace,
                name,
                &identity,
                priority,
                lifetime,
            );
            match peering.exists().await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => return Err(format!("cannot look for the peering object {name}: {error}")),
            }
            // What is seen first decides; until then nothing is handled twice.
            let (tell, told) = watch::channel(true);
            pausing.peers.push(told);
            let cancel = cancel.clone();
            pausing.keeping.push(tokio::spawn(async move { peering.keep(tell, cancel).await }));
        }
        if pausing.peers.is_empty() && mandatory {
            return Err(format!(
                "there is no peering object {name} (KopfPeering or ClusterKopfPeering): create it, or run --standalone"
            ));
        }
        Ok(pausing)
    }

    fn is_paused(&self) -> bool {
        self.peers.iter().any(|peer| *peer.borrow())
    }

    /// Waits until no peer makes the operator pause; returns false when it ends before.
    pub(crate) async fn until_active(&mut self, cancel: &CancellationToken) -> bool {
        while self.is_paused() && !cancel.is_cancelled() {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = self.changed() => {}
            }
        }
        !cancel.is_cancelled()
    }

    /// Waits until a peer makes the operator pause.
    pub(crate) async fn until_paused(&mut self) {
        while !self.is_paused() {
            self.changed().await;
        }
    }

    async fn changed(&mut self) {
        let changes = self.peers.iter_mut().map(|peer| {
            Box::pin(async move {
                if peer.changed().await.is_err() {
                    // It has left its peers, and will say no more.
                    std::future::pending::<()>().await;
                }
            })
        });
        let changes: Vec<_> = changes.collect();
        if changes.is_empty() {
            std::future::pending::<()>().await;
        } else {
            futures::future::select_all(changes).await;
        }
    }

    /// Waits until the entries among the peers are taken away.
    pub(crate) async fn end(self) {
        for keeping in self.keeping {
            // One that panicked has left nothing to wait for.
            let _ = keeping.await;
        }
    }
}

/// `kopf freeze` and `kopf resume`: writes an entry among the peers, or takes it away.
pub(crate) async fn touch_once(flags: PeerFlags) -> Result<(), String> {
    let (client, _) = connect_as_found().await.map_err(|error| error.to_string())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let identity = flags.id.clone().unwrap_or_else(|| own_identity(true, &*clock));
    let kinds = served_kinds(&client).await.map_err(|error| format!("cannot look for peers: {error}"))?;
    let namespaces: Vec<&str> = flags.namespaces.iter().map(String::as_str).collect();
    let clusterwide = flags.all_namespaces || flags.namespaces.is_empty();
    let lifetime = Duration::from_secs(u64::try_from(flags.lifetime_seconds).unwrap_or(0));
    let mut touched = false;
    for (kind, namespace) in objects(&kinds, clusterwide, &namespaces) {
        let (resource, name) = (kind.resource.clone(), flags.peering.as_str());
        let peering = Peering::new(
            client.clone(),
            clock.clone(),
            resource,
            namespace,
            name,
            &identity,
            flags.priority,
            lifetime,
        );
        touched |= peering
            .touch(lifetime)
            .await
            .map_err(|error| format!("cannot write to the peering object {name}: {error}"))?;
    }
    if touched { Ok(()) } else { Err(format!("there is no peering object {}", flags.peering)) }
}

/// The kinds and namespaces of peering objects.
fn objects<'a>(
    kinds: &'a [ServedKind],
    clusterwide: bool,
    namespaces: &'a [&'a str],
) -> Vec<(&'a ServedKind, &'a str)> {
    let plural = if clusterwide { "clusterkopfpeerings" } else { "kopfpeerings" };
    let of_peers = kinds
        .iter()
        .filter(move |kind| kind.resource.plural == plural && GROUPS.contains(&kind.resource.group.as_str()));
    let places: &[&str] = if clusterwide { &[""] } else { namespaces };
    of_peers.flat_map(|kind| places.iter().map(move |namespace| (kind, *namespace))).collect()
}

/// The pod's name when it is told, else who runs it where; with the time of the start when it runs by itself.
fn own_identity(manual: bool, clock: &dyn Clock) -> String {
    if let Ok(pod) = std::env::var("POD_ID") {
        return pod;
    }
    let user = std::env::var("USER").unwrap_or_else(|_| "operator".to_owned());
    let host =
        std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    let host = host.as_deref().map_or("localhost", str::trim);
    if manual {
        return format!("{user}@{host}");
    }
    format!("{user}@{host}/{}/{}", clock.now_ms(), std::process::id())
}
