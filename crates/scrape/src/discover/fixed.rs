//! Targets that are known beforehand.

use std::sync::Arc;

use futures::future::BoxFuture;
use gantry_prom_model::{Gather, Labels};
use tokio_util::sync::CancellationToken;

use super::{ADDRESS_LABEL, Discovered, Discoverer, GroupSink, TargetGroup};
use crate::config::StaticConfig;

/// Groups that never change.
#[derive(Debug)]
pub struct Static {
    groups: Vec<TargetGroup>,
}

impl Static {
    /// These groups.
    pub fn new(groups: Vec<TargetGroup>) -> Static {
        Static { groups }
    }

    /// The groups of a `static_configs` section.
    pub fn from_config(configs: &[StaticConfig]) -> Static {
        let groups = configs.iter().enumerate().map(|(index, config)| TargetGroup {
            source: index.to_string(),
            labels: Labels::from_pairs(&config.labels),
            targets: config
                .targets
                .iter()
                .map(|address| Labels::from_pairs([(ADDRESS_LABEL, address)]).into())
                .collect(),
        });
        Static { groups: groups.collect() }
    }
}

impl Discoverer for Static {
    fn run(self: Box<Self>, sink: GroupSink, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            sink.send(self.groups).await;
            stop.cancelled().await;
        })
    }
}

/// Targets in this process.
pub struct InProcess {
    targets: Vec<Discovered>,
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.targets).finish()
    }
}

impl InProcess {
    /// Each target with the name that becomes its `instance`.
    pub fn new(targets: impl IntoIterator<Item = (String, Arc<dyn Gather>)>) -> InProcess {
        let targets = targets.into_iter().map(|(instance, gather)| Discovered {
            labels: Labels::from_pairs([(ADDRESS_LABEL, instance.as_str())]),
            gather: Some(gather),
        });
        InProcess { targets: targets.collect() }
    }
}

impl Discoverer for InProcess {
    fn run(self: Box<Self>, sink: GroupSink, stop: CancellationToken) -> BoxFuture<'static, ()> {
        let group =
            TargetGroup { source: "in-process".into(), labels: Labels::empty(), targets: self.targets };
        Box::new(Static::new(vec![group])).run(sink, stop)
    }
}
