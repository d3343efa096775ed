//! Discovery: whatever knows targets says so in groups, and says again when a group changes.

mod file;
mod fixed;
mod glob;
mod http;

pub use file::FileDiscoverer;
pub use fixed::{InProcess, Static};
pub use glob::glob;
pub use http::HttpDiscoverer;

use std::sync::Arc;

use futures::future::BoxFuture;
use gantry_prom_model::{Gather, Labels};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The label that holds a target's `host:port`.
pub const ADDRESS_LABEL: &str = "__address__";

/// One discovered target.
#[derive(Clone)]
pub struct Discovered {
    /// Its own labels, `__address__` among them.
    pub labels: Labels,
    /// Where its samples come from, when it lives in this process; they are then never written as text.
    pub gather: Option<Arc<dyn Gather>>,
}

impl std::fmt::Debug for Discovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.labels, if self.gather.is_some() { " in process" } else { "" })
    }
}

impl From<Labels> for Discovered {
    fn from(labels: Labels) -> Discovered {
        Discovered { labels, gather: None }
    }
}

/// Targets that come and go together.
#[derive(Debug, Clone, Default)]
pub struct TargetGroup {
    /// Names the group among those of its discoverer; a new group with the same name takes its place.
    pub source: String,
    /// On every target that does not have them itself.
    pub labels: Labels,
    /// The targets; none removes the group.
    pub targets: Vec<Discovered>,
}

/// Where a discoverer sends its groups.
#[derive(Debug, Clone)]
pub struct GroupSink {
    /// Which discoverer of which job this is.
    pub(crate) origin: (String, usize),
    pub(crate) sender: mpsc::Sender<GroupUpdate>,
}

#[derive(Debug)]
pub(crate) struct GroupUpdate {
    pub(crate) origin: (String, usize),
    pub(crate) groups: Vec<TargetGroup>,
}

impl GroupSink {
    /// Hands over changed groups; waits when the receiver is behind. `false` when nobody listens any more.
    pub async fn send(&self, groups: Vec<TargetGroup>) -> bool {
        self.sender.send(GroupUpdate { origin: self.origin.clone(), groups }).await.is_ok()
    }

    /// A sink and its receiver, for whoever wants targets and does not scrape them.
    pub fn channel() -> (GroupSink, GroupReceiver) {
        let (sender, receiver) = mpsc::channel(16);
        (GroupSink { origin: (String::new(), 0), sender }, GroupReceiver(receiver))
    }
}

/// The other end of [`GroupSink::channel`].
#[derive(Debug)]
pub struct GroupReceiver(mpsc::Receiver<GroupUpdate>);

impl GroupReceiver {
    /// The next groups; `None` when the discoverer has ended.
    pub async fn recv(&mut self) -> Option<Vec<TargetGroup>> {
        self.0.recv().await.map(|update| update.groups)
    }
}

/// Something that knows targets.
pub trait Discoverer: Send {
    /// Sends the groups that there are, then those that change, until `stop`.
    fn run(self: Box<Self>, sink: GroupSink, stop: CancellationToken) -> BoxFuture<'static, ()>;
}
