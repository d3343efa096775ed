//! The recommender with its I/O: reads usage, keeps what it knows, writes statuses and checkpoints.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use gantry_apimachinery::selector::parse_label_selector;
use gantry_clock::Clock;
use gantry_operator::{Informer, Key, Operator, explain};
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::VpaConfig;
use super::aggregate::{Aggregate, AggregateState, ContainerState, DAY_MS, Resource, Sample};
use super::checkpoint;
use super::estimate;
use super::oom;
use super::policy;
use super::status::{NO_PODS, PROVIDED, UNSUPPORTED, container_recommendations, set_condition};
use super::types::{Recommendation, VerticalPodAutoscaler};
use crate::hpa::target::Targets;
use crate::metrics::ResourceMetrics;

/// What has had no sample for so long is forgotten.
const FORGOTTEN_AFTER_MS: i64 = 8 * DAY_MS;
/// Checkpoints of objects that are gone are removed this often.
const CLEANED_EVERY: Duration = Duration::from_secs(600);

/// Recommends what containers should request. [`run`](Recommender::run) does the work.
pub struct Recommender {
    config: VpaConfig,
    client: Client,
    clock: Arc<dyn Clock>,
    autoscalers: Informer<VerticalPodAutoscaler>,
    pods: Informer<Pod>,
    resources: Arc<dyn ResourceMetrics>,
    targets: Targets,
    known: HashMap<Key, Known>,
    cleaned_at: Option<Duration>,
}

/// What is known for one VerticalPodAutoscaler.
#[derive(Default)]
struct Known {
    /// By container name.
    states: BTreeMap<String, AggregateState>,
    /// By pod and container name.
    running: HashMap<(String, String), Running>,
    written_at: Option<Duration>,
}

#[derive(Default)]
struct Running {
    state: ContainerState,
    /// Restarts whose kill has been counted.
    counted_restarts: i32,
}

/// What one round found out about an object.
struct Round {
    matched: bool,
    /// Why its target's pods cannot be found.
    unsupported: Option<String>,
}

impl Recommender {
    /// Registers the informers it reads, so it must be made before the operator runs. The kinds must be
    /// [installed](super::install).
    pub fn new(config: VpaConfig, operator: &Operator, resources: Arc<dyn ResourceMetrics>) -> Recommender {
        Recommender {
            config,
            client: operator.client().clone(),
            clock: operator.clock().clone(),
            autoscalers: operator.informer(),
            pods: operator.informer(),
            resources,
            targets: Targets::new(operator.client().clone()),
            known: HashMap::new(),
            cleaned_at: None,
        }
    }

    /// Recommends every interval until `cancel`, and writes everything down at the end.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            tokio::select! {
                _ = cancel.cancelled() => break,
                _ = tokio::time::sleep(self.config.interval) => {}
            }
            self.round().await;
        }
        for (key, known) in &mut self.known {
            write_down(&self.client, key, known, self.clock.now_ms()).await;
        }
    }

    async fn round(&mut self) {
        if !self.autoscalers.has_synced() || !self.pods.has_synced() {
            return;
        }
        let ours = |vpa: &Arc<VerticalPodAutoscaler>| {
            let named = &vpa.spec.recommenders;
            named.is_empty() || named.iter().any(|recommender| recommender.name == self.config.name)
        };
        let autoscalers: Vec<_> = self.autoscalers.list().into_iter().filter(ours).collect();
        let keys: HashSet<Key> = autoscalers.iter().map(|vpa| Key::of(&**vpa)).collect();
        self.known.retain(|key, _| keys.contains(key));
        for vpa in &autoscalers {
            let key = Key::of(&**vpa);
            if let Err(error) = self.recommend(&key, vpa).await {
                tracing::warn!(vpa = %key, %error, "cannot recommend");
            }
        }
        let now = self.clock.monotonic();
        if self.cleaned_at.is_none_or(|at| now.saturating_sub(at) >= CLEANED_EVERY) {
            self.cleaned_at = Some(now);
            let is_known = |key: &Key| self.autoscalers.get(key).is_some();
            if let Err(error) = checkpoint::remove_orphans(&self.client, is_known).await {
                tracing::warn!(%error, "cannot remove checkpoints whose VerticalPodAutoscaler is gone");
            }
        }
    }

    async fn recommend(&mut self, key: &Key, vpa: &VerticalPodAutoscaler) -> Result<(), kube::Error> {
        if !self.known.contains_key(key) {
            let states = checkpoint::load(&self.client, key, &self.config.aggregation).await?;
            self.known.insert(key.clone(), Known { states, ..Known::default() });
        }
        let round = self.observe(key, vpa).await;
        self.write_status(key, vpa, &round).await?;
        let now = self.clock.monotonic();
        let interval = self.config.checkpoint_interval;
        if let Some(known) = self.known.get_mut(key)
            && known.written_at.is_none_or(|at| now.saturating_sub(at) >= interval)
        {
            known.written_at = Some(now);
            write_down(&self.client, key, known, self.clock.now_ms()).await;
        }
        Ok(())
    }

    /// Takes in the newest samples of the target's pods.
    async fn observe(&mut self, key: &Key, vpa: &VerticalPodAutoscaler) -> Round {
        let pods = match self.pods_of(key, vpa).await {
            Ok(pods) => pods,
            Err(reason) => return Round { matched: false, unsupported: Some(reason) },
        };
        let config = &self.config.aggregation;
        let Some(known) = self.known.get_mut(key) else {
            return Round { matched: !pods.is_empty(), unsupported: None };
        };
        let names: HashSet<&str> = pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        known.running.retain(|(pod, _), _| names.contains(pod.as_str()));
        let Known { states, running, .. } = known;
        let mut of = |pod: &str, container: &str, act: &mut dyn FnMut(&mut Running, &mut dyn Aggregate)| {
            let state = states.entry(container.to_owned()).or_insert_with(|| AggregateState::new(config));
            act(running.entry((pod.to_owned(), container.to_owned())).or_default(), state);
        };
        for usage in self.resources.pods(Some(key.namespace())) {
            if !names.contains(usage.name.as_str()) {
                continue;
            }
            for (container, used) in &usage.containers {
                let whole = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
                // A quantity in thousandths is rounded up.
                let cpu = whole(used.cpu_nano.div_ceil(1_000_000));
                let memory = whole(used.memory_bytes);
                of(&usage.name, container, &mut |running, state| {
                    for (resource, usage_now) in [(Resource::Cpu, cpu), (Resource::Memory, memory)] {
                        let sample = Sample { at_ms: usage.at_ms, usage: usage_now, resource };
                        running.state.add(sample, config, state);
                    }
                });
            }
        }
        for pod in &pods {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            for kill in oom::kills(pod) {
                of(name, &kill.container, &mut |running, state| {
                    if kill.restarts <= running.counted_restarts {
                        return;
                    }
                    running.counted_restarts = kill.restarts;
                    if let Err(error) =
                        running.state.record_oom(kill.at_ms, kill.requested_bytes, config, state)
                    {
                        tracing::debug!(
                            pod = name,
                            container = kill.container,
                            error,
                            "a kill is not counted"
                        );
                    }
                });
            }
        }
        let now_ms = self.clock.now_ms();
        states.retain(|_, state| state.last_sample_ms.is_none_or(|last| now_ms - last < FORGOTTEN_AFTER_MS));
        Round { matched: !pods.is_empty(), unsupported: None }
    }

    async fn pods_of(&self, key: &Key, vpa: &VerticalPodAutoscaler) -> Result<Vec<Arc<Pod>>, String> {
        let Some(target) = &vpa.spec.target_ref else {
            return Err("targetRef not defined: it must name a controller such as a Deployment".into());
        };
        let reference = CrossVersionObjectReference {
            api_version: target.api_version.clone(),
            kind: target.kind.clone(),
            name: target.name.clone(),
        };
        let selector = self.targets.pod_selector(key.namespace(), &reference).await;
        let selector =
            selector.map_err(|error| format!("Cannot read targetRef. Reason: {}", explain(&error)))?;
        let selector = selector.ok_or("Cannot read targetRef. Reason: the target selects no pods")?;
        let selector = parse_label_selector(&selector)
            .map_err(|error| format!("Cannot read targetRef. Reason: its selector: {error}"))?;
        let matches = |pod: &Arc<Pod>| {
            let labels = pod.metadata.labels.as_ref();
            selector.matches(|key| labels.and_then(|labels| labels.get(key)).map(String::as_str))
        };
        Ok(self.pods.list_in(key.namespace()).into_iter().filter(matches).collect())
    }

    async fn write_status(
        &self,
        key: &Key,
        vpa: &VerticalPodAutoscaler,
        round: &Round,
    ) -> Result<(), kube::Error> {
        let now = Time(Timestamp::from_millisecond(self.clock.now_ms()).unwrap_or_default());
        let policy = vpa.spec.resource_policy.as_ref();
        let is_off = |container: &str| {
            let own = policy::container_policy(policy, container).and_then(|policy| policy.mode.as_deref());
            own == Some("Off")
        };
        let states: BTreeMap<String, AggregateState> = self
            .known
            .get(key)
            .map(|known| &known.states)
            .into_iter()
            .flatten()
            .filter(|(name, state)| state.samples > 0 && !is_off(name))
            .map(|(name, state)| (name.clone(), state.clone()))
            .collect();
        let estimates = estimate::pod(&states, &self.config.estimate);
        let annotations = vpa.metadata.annotations.clone().unwrap_or_default();
        let most = self.config.max_allowed.as_ref();
        let recommendations = container_recommendations(&estimates, policy, most, &annotations);

        let mut status = vpa.status.clone().unwrap_or_default();
        let provided = !recommendations.is_empty();
        let (reason, message) = match round.matched {
            true => ("", ""),
            false => ("NoPodsMatched", "No pods match this VPA object"),
        };
        let conditions = &mut status.conditions;
        if round.matched {
            conditions.retain(|condition| condition.kind != NO_PODS);
        } else {
            set_condition(conditions, NO_PODS, true, reason, message, &now);
        }
        match provided {
            true => set_condition(conditions, PROVIDED, true, "", "", &now),
            false => set_condition(conditions, PROVIDED, false, reason, message, &now),
        }
        let mode = vpa.spec.update_policy.as_ref().and_then(|policy| policy.update_mode.as_deref());
        let unsupported = match (&round.unsupported, mode) {
            (Some(reason), _) => Some(reason.clone()),
            (None, Some("Off")) => None,
            (None, mode) => Some(format!(
                "update mode {} is not acted on: recommendations are given, pods keep their requests; \"Off\" says so",
                mode.unwrap_or("Recreate (the default)")
            )),
        };
        match unsupported {
            Some(message) => set_condition(conditions, UNSUPPORTED, true, "", &message, &now),
            None => conditions.retain(|condition| condition.kind != UNSUPPORTED),
        }
        status.recommendation =
            provided.then_some(Recommendation { container_recommendations: recommendations });
        if vpa.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut patch = json!({"status": status});
        if status.recommendation.is_none() {
            patch["status"]["recommendation"] = serde_json::Value::Null;
        }
        let api: Api<VerticalPodAutoscaler> = Api::namespaced(self.client.clone(), key.namespace());
        match api.patch_status(key.name(), &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            // It was deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Writes a checkpoint of each container that has had a sample.
async fn write_down(client: &Client, key: &Key, known: &mut Known, now_ms: i64) {
    for (container, state) in known.states.iter().filter(|(_, state)| state.samples > 0) {
        let mut state = state.clone();
        let running = known.running.iter().filter(|((_, name), _)| name == container);
        for peak in running.filter_map(|(_, running)| running.state.current_peak(now_ms)) {
            state.subtract(peak);
        }
        if let Err(error) = checkpoint::store(client, key, container, &state, now_ms).await {
            tracing::warn!(vpa = %key, container, %error, "cannot write a checkpoint");
        }
    }
}
