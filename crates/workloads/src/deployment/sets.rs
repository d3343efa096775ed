//! The ReplicaSets of a Deployment while a plan is made: sizes, revisions, annotations, steps to take.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::template;

pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations that belong to the Deployment alone.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];
/// The list of former revisions is cut at this length, oldest first.
const HISTORY_CHARS: usize = 2000;

/// One write that a plan asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Create(Box<ReplicaSet>),
    /// Replace the set by this state; the size before tells whether it is a scaling.
    Update {
        set: Box<ReplicaSet>,
        replicas_before: i32,
    },
    Delete(Arc<ReplicaSet>),
}

/// Sizes that the strategy allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) max_surge: i32,
    pub(crate) max_unavailable: i32,
}

pub(crate) fn spec(deployment: &Deployment) -> DeploymentSpec {
    deployment.spec.clone().unwrap_or_default()
}

pub(crate) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).max(0)
}

pub(crate) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate"
}

/// Surge is rounded up and unavailability down; when both come out as zero one pod may be unavailable.
pub(crate) fn bounds(deployment: &Deployment) -> Bounds {
    if !is_rolling(deployment) {
        return Bounds { max_surge: 0, max_unavailable: 0 };
    }
    let wanted = replicas(deployment);
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.clone()).unwrap_or_default();
    let quarter = IntOrString::String("25%".to_owned());
    let max_surge = scaled(rolling.max_surge.as_ref().unwrap_or(&quarter), wanted, true);
    let mut max_unavailable = scaled(rolling.max_unavailable.as_ref().unwrap_or(&quarter), wanted, false);
    if max_surge == 0 && max_unavailable == 0 {
        max_unavailable = 1;
    }
    Bounds { max_surge, max_unavailable: max_unavailable.min(wanted) }
}

/// A number, or a percentage of `total`; what cannot be understood counts as zero.
pub(crate) fn scaled(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|digits| digits.parse::<i64>().ok());
            let hundredths = percent.unwrap_or(0).max(0).saturating_mul(i64::from(total));
            let rounded = if round_up { hundredths.saturating_add(99) / 100 } else { hundredths / 100 };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

pub(crate) fn annotation<'a>(set: &'a ReplicaSet, name: &str) -> Option<&'a str> {
    set.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(crate) fn revision(set: &ReplicaSet) -> i64 {
    annotation(set, REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
}

pub(crate) fn size(set: &ReplicaSet) -> i32 {
    crate::replicaset::replicas(set)
}

pub(crate) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// How many pods the Deployment wanted when the set was last touched.
pub(crate) fn desired(set: &ReplicaSet) -> Option<i32> {
    annotation(set, DESIRED_REPLICAS)?.parse().ok()
}

/// How many pods the Deployment could have had when the set was last touched.
pub(crate) fn max_before(set: &ReplicaSet) -> Option<i32> {
    annotation(set, MAX_REPLICAS)?.parse().ok()
}

/// Older first; of the same age by name.
pub(crate) fn by_creation(one: &ReplicaSet, other: &ReplicaSet) -> Ordering {
    let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    created(one).cmp(&created(other)).then_with(|| one.metadata.name.cmp(&other.metadata.name))
}

/// The sets of one Deployment and what is to be done to them.
pub(crate) struct Sets {
    /// Old and new, as they will be after the steps.
    pub(crate) all: Vec<ReplicaSet>,
    /// Where the one with the Deployment's present template is.
    pub(crate) new: Option<usize>,
    pub(crate) steps: Vec<Step>,
}

impl Sets {
    pub(crate) fn of(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Sets {
        let mut all: Vec<ReplicaSet> = sets.iter().map(|set| (**set).clone()).collect();
        all.sort_by(by_creation);
        let wanted = &spec(deployment).template;
        let new = all.iter().position(|set| {
            let own = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            own.is_some_and(|own| template::same(own, wanted))
        });
        Sets { all, new, steps: Vec::new() }
    }

    pub(crate) fn new_set(&self) -> Option<&ReplicaSet> {
        self.new.and_then(|index| self.all.get(index))
    }

    /// Positions of the old sets, oldest first.
    pub(crate) fn old(&self) -> Vec<usize> {
        (0..self.all.len()).filter(|index| Some(*index) != self.new).collect()
    }

    /// Positions of the old sets that want pods, oldest first.
    pub(crate) fn active_old(&self) -> Vec<usize> {
        self.old().into_iter().filter(|index| self.size_at(*index) > 0).collect()
    }

    pub(crate) fn size_at(&self, index: usize) -> i32 {
        self.all.get(index).map_or(0, size)
    }

    pub(crate) fn total_size(&self) -> i32 {
        self.all.iter().map(size).fold(0, i32::saturating_add)
    }

    pub(crate) fn total_available(&self) -> i32 {
        self.all.iter().map(available).fold(0, i32::saturating_add)
    }

    /// Gives the set at `index` a new size and notes on it for which Deployment size that was decided.
    /// Returns whether the size changed.
    pub(crate) fn scale(&mut self, index: usize, replicas: i32, deployment: &Deployment) -> bool {
        let Some(set) = self.all.get_mut(index) else { return false };
        let before = size(set);
        let noted = note_replicas(set, deployment);
        if before == replicas && !noted {
            return false;
        }
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(replicas);
        }
        let step = Step::Update { set: Box::new(set.clone()), replicas_before: before };
        self.push(step);
        before != replicas
    }

    /// Adds a write; a second write of the same set replaces the first.
    fn push(&mut self, step: Step) {
        if let Step::Update { set, .. } = &step {
            let name = set.name_any();
            for known in &mut self.steps {
                match known {
                    Step::Update { set: earlier, .. } if earlier.name_any() == name => {
                        *earlier = set.clone();
                        return;
                    }
                    Step::Create(earlier) if earlier.name_any() == name => {
                        *earlier = set.clone();
                        return;
                    }
                    _ => {}
                }
            }
        }
        self.steps.push(step);
    }

    /// Brings annotations and settings of the new set up to date and returns its revision.
    pub(crate) fn refresh_new(&mut self, deployment: &Deployment) -> Option<i64> {
        let index = self.new?;
        let newest =
            self.old().into_iter().filter_map(|old| self.all.get(old)).map(revision).max().unwrap_or(0);
        let set = self.all.get_mut(index)?;
        let before = set.clone();
        set_annotations(set, deployment, newest.saturating_add(1));
        let min_ready_seconds = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        if let Some(spec) = &mut set.spec
            && spec.min_ready_seconds.unwrap_or(0) != min_ready_seconds.unwrap_or(0)
        {
            spec.min_ready_seconds = min_ready_seconds;
        }
        let changed = *set != before;
        let (after, now) = (set.clone(), revision(set));
        if changed {
            self.push(Step::Update { replicas_before: size(&before), set: Box::new(after) });
        }
        Some(now)
    }

    /// Adds the set of the Deployment's present template and returns its revision.
    pub(crate) fn create_new(&mut self, deployment: &Deployment) -> i64 {
        let newest = self.all.iter().map(revision).max().unwrap_or(0);
        let mut set = blank_set(deployment);
        self.all.push(set.clone());
        let index = self.all.len() - 1;
        let replicas = super::rolling::new_set_size(deployment, self, index);
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(replicas);
        }
        set_annotations(&mut set, deployment, newest.saturating_add(1));
        note_replicas(&mut set, deployment);
        if let Some(slot) = self.all.get_mut(index) {
            *slot = set.clone();
        }
        self.new = Some(index);
        self.push(Step::Create(Box::new(set)));
        newest.saturating_add(1)
    }

    /// Removes empty old sets beyond the history limit, lowest revision first.
    pub(crate) fn clean_up(&mut self, deployment: &Deployment) {
        let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let Ok(limit) = usize::try_from(limit) else { return };
        let mut old: Vec<usize> = self.old();
        old.retain(|index| self.all.get(*index).is_some_and(|set| set.metadata.deletion_timestamp.is_none()));
        let excess = old.len().saturating_sub(limit);
        old.sort_by_key(|index| self.all.get(*index).map(revision));
        for index in old.into_iter().take(excess) {
            let Some(set) = self.all.get(index) else { continue };
            let status = set.status.clone().unwrap_or_default();
            let observed = status.observed_generation.unwrap_or(0) >= set.metadata.generation.unwrap_or(0);
            if status.replicas == 0 && size(set) == 0 && observed {
                let step = Step::Delete(Arc::new(set.clone()));
                self.push(step);
            }
        }
    }
}

fn blank_set(deployment: &Deployment) -> ReplicaSet {
    let spec = spec(deployment);
    let status = deployment.status.as_ref();
    let hash = template::hash(&spec.template, status.and_then(|status| status.collision_count));
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(template::HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(template::HASH_LABEL.to_owned(), hash.clone());
    ReplicaSet {
        metadata: kube::core::ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![crate::pods::controller_reference(deployment)]),
            ..Default::default()
        },
        spec: Some(k8s_openapi::api::apps::v1::ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// Copies the Deployment's annotations and counts the set's revision up to `revision`.
fn set_annotations(set: &mut ReplicaSet, deployment: &Deployment, newest: i64) {
    let own_revision = annotation(set, REVISION).map(str::to_owned);
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (name, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&name.as_str()) {
            annotations.insert(name.clone(), value.clone());
        }
    }
    let number = own_revision.as_deref().and_then(|revision| revision.parse::<i64>().ok()).unwrap_or(0);
    if number < newest {
        annotations.insert(REVISION.to_owned(), newest.to_string());
        if let Some(former) = own_revision {
            let history = annotations.get(REVISION_HISTORY).map(String::as_str).unwrap_or("");
            annotations.insert(REVISION_HISTORY.to_owned(), append_history(history, &former));
        }
    }
    if annotations.is_empty() {
        set.metadata.annotations = None;
    }
}

fn append_history(history: &str, former: &str) -> String {
    let mut revisions: Vec<&str> = history.split(',').filter(|revision| !revision.is_empty()).collect();
    revisions.push(former);
    while revisions.len() > 1
        && revisions.iter().map(|revision| revision.len() + 1).sum::<usize>() > HISTORY_CHARS
    {
        revisions.remove(0);
    }
    revisions.join(",")
}

/// Writes down for which size of the Deployment the set is scaled. Returns whether that was new.
fn note_replicas(set: &mut ReplicaSet, deployment: &Deployment) -> bool {
    let wanted = replicas(deployment);
    let notes = BTreeMap::from([
        (DESIRED_REPLICAS.to_owned(), wanted.to_string()),
        (MAX_REPLICAS.to_owned(), wanted.saturating_add(bounds(deployment).max_surge).to_string()),
    ]);
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (name, value) in notes {
        changed |= annotations.get(&name) != Some(&value);
        annotations.insert(name, value);
    }
    changed
}
