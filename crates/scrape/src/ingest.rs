//! What a scrape brought, into the store: labels, limits, staleness and the target's own report.
//!
//! A series is looked up by its text as the target wrote it; only the first time are its labels read, relabelled
//! and checked.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use gantry_prom_model::{
    AppendError, Appendable, Appender, Entry as ExpositionEntry, Exemplar, ExpositionFormat,
    ExpositionParser, FamilySample, Labels, LabelsBuilder, METRIC_NAME, Metadata, MetricFamily, SeriesRef,
    stale_nan,
};
use parking_lot::Mutex;

use crate::config::ScrapeConfig;
use crate::counters::Counters;
use crate::relabel::relabel;

/// Samples further ahead of the clock than this are refused, or one wrong clock would end all later ingestion.
const MAX_AHEAD_MS: i64 = 10 * 60 * 1000;
/// Metadata of metrics that a target no longer has is kept for this many scrapes.
const METADATA_SCRAPES: u64 = 10;

/// What a scrape brought.
#[derive(Debug)]
pub enum Body {
    /// Text as the target wrote it.
    Text {
        /// The exposition.
        text: String,
        /// Its format.
        format: ExpositionFormat,
    },
    /// Families of a target in this process.
    Local(Vec<MetricFamily>),
    /// Nothing; this is why.
    Failed(String),
}

/// What became of a scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScrapeReport {
    /// Why it failed.
    pub error: Option<String>,
    /// Samples in the exposition.
    pub scraped: usize,
    /// Samples left after relabelling.
    pub after_relabelling: usize,
    /// Series that the scrape before did not have.
    pub series_added: usize,
}

/// When a scrape was and how it went, apart from its samples.
#[derive(Debug, Clone, Copy)]
pub struct Scraped {
    /// The time its samples get.
    pub at_ms: i64,
    /// How long it took.
    pub seconds: f64,
    /// Bytes of the body, decompressed.
    pub body_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    reference: Option<SeriesRef>,
    /// The labels it is stored under; `None` when relabelling dropped it.
    labels: Option<Labels>,
    seen: u64,
    /// It is marked stale when it vanishes.
    tracked: bool,
    /// It will be, if the scrape under way succeeds.
    to_track: bool,
}

/// What is known of a target's metrics apart from their values.
#[derive(Debug, Default)]
pub struct MetadataCache {
    by_metric: HashMap<Box<str>, (Metadata, u64)>,
}

impl MetadataCache {
    fn update(&mut self, metric: &str, scrape: u64, change: impl FnOnce(&mut Metadata)) {
        match self.by_metric.get_mut(metric) {
            Some((metadata, seen)) => {
                *seen = scrape;
                change(metadata);
            }
            None => {
                let mut metadata = Metadata::default();
                change(&mut metadata);
                self.by_metric.insert(metric.into(), (metadata, scrape));
            }
        }
    }

    /// Each metric with its metadata.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Metadata)> {
        self.by_metric.iter().map(|(metric, (metadata, _))| (&**metric, metadata))
    }

    /// Of one metric.
    pub fn get(&self, metric: &str) -> Option<&Metadata> {
        self.by_metric.get(metric).map(|(metadata, _)| metadata)
    }
}

/// The memory of one target between its scrapes.
#[derive(Debug)]
pub struct Ingest {
    config: Arc<ScrapeConfig>,
    target_labels: Labels,
    timeout_ms: i64,
    by_text: HashMap<Box<str>, Entry>,
    by_labels: HashMap<Labels, Entry>,
    reports: HashMap<&'static str, (Labels, Option<SeriesRef>)>,
    scrape: u64,
    metadata: Arc<Mutex<MetadataCache>>,
    counters: Arc<Counters>,
    scratch: LabelsBuilder,
}

/// Counts of one scrape, and why it stopped.
#[derive(Debug, Default)]
struct Tally {
    scraped: usize,
    after_relabelling: usize,
    added: usize,
    over_sample_limit: bool,
}

/// One sample on its way in.
struct Incoming<'a> {
    value: FamilySample<'a>,
    own_ms: Option<i64>,
    exemplar: Option<&'a Exemplar>,
}

impl Ingest {
    /// For a target with these labels.
    pub fn new(
        config: Arc<ScrapeConfig>,
        target_labels: Labels,
        timeout_ms: i64,
        counters: Arc<Counters>,
    ) -> Ingest {
        Ingest {
            config,
            target_labels,
            timeout_ms,
            by_text: HashMap::new(),
            by_labels: HashMap::new(),
            reports: HashMap::new(),
            scrape: 0,
            metadata: Arc::default(),
            counters,
            scratch: LabelsBuilder::new(),
        }
    }

    /// What the target says of its metrics; shared with those who show it.
    pub fn metadata(&self) -> Arc<Mutex<MetadataCache>> {
        self.metadata.clone()
    }

    /// Stores a scrape: its samples, stale markers for what vanished, and the report on it, as one batch.
    pub fn record(&mut self, storage: &dyn Appendable, scraped: Scraped, body: Body) -> ScrapeReport {
        self.scrape += 1;
        let mut batch = storage.appender();
        let mut tally = Tally::default();
        let outcome = match body {
            Body::Text { text, format } => self.text(&mut *batch, scraped.at_ms, &text, format, &mut tally),
            Body::Local(families) => self.families(&mut *batch, scraped.at_ms, &families, &mut tally),
            Body::Failed(reason) => Err(reason),
        };
        let mut error = outcome.and_then(|()| self.check_sample_limit(&tally)).err();
        if error.is_some() {
            batch.rollback();
            batch = storage.appender();
            // Nothing was seen: everything the last scrape had is stale now.
            self.scrape += 1;
        }
        self.mark_stale(&mut *batch, scraped.at_ms);
        if error.is_none() {
            let current = self.scrape;
            self.by_text.retain(|_, entry| entry.seen == current);
            self.by_labels.retain(|_, entry| entry.seen == current);
            self.metadata.lock().by_metric.retain(|_, (_, seen)| *seen + METADATA_SCRAPES > current);
        }
        self.report(&mut *batch, scraped, &tally, error.is_none());
        if let Err(failure) = batch.commit() {
            error.get_or_insert(format!("cannot store the samples: {failure}"));
        }
        ScrapeReport {
            error,
            scraped: tally.scraped,
            after_relabelling: tally.after_relabelling,
            series_added: tally.added,
        }
    }

    /// Marks everything stale, the report's series too: the target is gone.
    pub fn end(&mut self, storage: &dyn Appendable, at_ms: i64) {
        self.scrape += 1;
        let mut batch = storage.appender();
        self.mark_stale(&mut *batch, at_ms);
        for (labels, reference) in self.reports.values_mut() {
            // Refused when the target came back meanwhile and has newer samples: as it should be.
            let _ = batch.append(*reference, labels, at_ms, stale_nan());
        }
        if let Err(error) = batch.commit() {
            tracing::warn!(%error, target = %self.target_labels, "cannot mark the series of a gone target stale");
        }
    }

    fn check_sample_limit(&self, tally: &Tally) -> Result<(), String> {
        if tally.over_sample_limit {
            self.counters.over_sample_limit.inc();
            return Err("sample limit exceeded".into());
        }
        Ok(())
    }

    fn text(
        &mut self,
        batch: &mut dyn Appender,
        at_ms: i64,
        text: &str,
        format: ExpositionFormat,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let mut parser = ExpositionParser::new(text, format);
        let metadata = self.metadata.clone();
        let mut metadata = metadata.lock();
        let mut entries = std::mem::take(&mut self.by_text);
        let mut outcome = Ok(());
        loop {
            let entry = match parser.next_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => {
                    outcome = Err(error.to_string());
                    break;
                }
            };
            let line = match entry {
                ExpositionEntry::Sample(line) => line,
                ExpositionEntry::Type { name, kind } => {
                    metadata.update(&name, self.scrape, |metadata| metadata.kind = kind);
                    continue;
                }
                ExpositionEntry::Help { name, help } => {
                    metadata.update(&name, self.scrape, |metadata| {
                        if metadata.help != *help {
                            metadata.help = help.into_owned();
                        }
                    });
                    continue;
                }
                ExpositionEntry::Unit { name, unit } => {
                    metadata.update(&name, self.scrape, |metadata| unit.clone_into(&mut metadata.unit));
                    continue;
                }
                ExpositionEntry::Comment(_) => continue,
            };
            let incoming = Incoming {
                value: FamilySample::Float(line.value),
                own_ms: line.timestamp_ms,
                exemplar: line.exemplar.as_ref(),
            };
            let done = self.sample(batch, at_ms, &mut entries, line.series, tally, incoming, |scratch| {
                parser.read_labels(scratch);
            });
            if done.is_err() {
                outcome = done;
                break;
            }
        }
        self.by_text = entries;
        outcome
    }

    fn families(
        &mut self,
        batch: &mut dyn Appender,
        at_ms: i64,
        families: &[MetricFamily],
        tally: &mut Tally,
    ) -> Result<(), String> {
        let mut entries = std::mem::take(&mut self.by_labels);
        let mut scratch = LabelsBuilder::new();
        let mut outcome = Ok(());
        for family in families {
            self.metadata.lock().update(&family.name, self.scrape, |metadata| {
                metadata.kind = family.kind;
                if metadata.help != *family.help {
                    metadata.help = family.help.to_string();
                }
            });
            family.visit_samples(&mut scratch, &mut |labels, value, own_ms, exemplar| {
                if outcome.is_ok() {
                    let incoming = Incoming { value, own_ms, exemplar };
                    outcome = self.sample(batch, at_ms, &mut entries, labels, tally, incoming, |scratch| {
                        scratch.clone_from(&labels.to_builder());
                    });
                }
            });
        }
        self.by_labels = entries;
        outcome
    }

    #[allow(clippy::too_many_arguments)]
    fn sample<K, Q>(
        &mut self,
        batch: &mut dyn Appender,
        at_ms: i64,
        entries: &mut HashMap<K, Entry>,
        key: &Q,
        tally: &mut Tally,
        incoming: Incoming<'_>,
        read_labels: impl FnOnce(&mut LabelsBuilder),
    ) -> Result<(), String>
    where
        K: Hash + Eq + std::borrow::Borrow<Q> + From<Q::Owned>,
        Q: Hash + Eq + ToOwned + ?Sized,
    {
        tally.scraped += 1;
        let known = entries.get_mut(key);
        let is_new = known.is_none();
        let entry = match known {
            Some(entry) => entry,
            None => {
                read_labels(&mut self.scratch);
                let labels = self.stored_labels()?;
                let entry = Entry { reference: None, labels, seen: 0, tracked: false, to_track: false };
                entries.entry(K::from(key.to_owned())).or_insert(entry)
            }
        };
        let Some(labels) = &entry.labels else {
            entry.seen = self.scrape;
            return Ok(());
        };
        tally.after_relabelling += 1;
        if self.config.sample_limit.is_some_and(|limit| limit > 0 && tally.after_relabelling as u64 > limit) {
            // The rest is only counted, so that the report says by how much the limit is too low.
            tally.over_sample_limit = true;
        }
        if tally.over_sample_limit {
            return Ok(());
        }
        let own_ms = incoming.own_ms.filter(|_| self.config.honor_timestamps);
        if entry.seen == self.scrape && own_ms.is_none() {
            self.counters.duplicates.inc();
            return Ok(());
        }
        entry.seen = self.scrape;
        entry.to_track = false;
        let t = own_ms.unwrap_or(at_ms);
        if t > at_ms.saturating_add(MAX_AHEAD_MS) {
            self.counters.out_of_bounds.inc();
            return Ok(());
        }
        let appended = match incoming.value {
            FamilySample::Float(value) => batch.append(entry.reference, labels, t, value),
            FamilySample::Native(histogram) => batch.append_histogram(entry.reference, labels, t, histogram),
        };
        match appended {
            Ok(reference) => {
                entry.reference = Some(reference);
                entry.to_track = own_ms.is_none() || self.config.track_timestamps_staleness;
                tally.added += usize::from(is_new);
                if let Some(exemplar) = incoming.exemplar {
                    // An exemplar that is not taken is no reason to lose the sample.
                    let timed =
                        Exemplar { timestamp_ms: exemplar.timestamp_ms.or(Some(t)), ..exemplar.clone() };
                    let _ = batch.append_exemplar(reference, labels, &timed);
                }
                Ok(())
            }
            Err(AppendError::OutOfOrder) => {
                self.counters.out_of_order.inc();
                Ok(())
            }
            Err(AppendError::DuplicateForTimestamp) => {
                self.counters.duplicates.inc();
                Ok(())
            }
            Err(AppendError::OutOfBounds | AppendError::TooOld) => {
                self.counters.out_of_bounds.inc();
                Ok(())
            }
            Err(other) => Err(format!("{labels}: {other}")),
        }
    }

    /// The labels in `scratch` after the target's labels, relabelling and the limits.
    fn stored_labels(&mut self) -> Result<Option<Labels>, String> {
        let mut labels = std::mem::take(&mut self.scratch);
        join_labels(&mut labels, &self.target_labels, self.config.honor_labels);
        let kept = relabel(&self.config.metric_relabel_configs, &mut labels);
        let stored = kept.then(|| labels.build());
        self.scratch = labels;
        if let Some(stored) = &stored {
            self.check_labels(stored)?;
        }
        Ok(stored)
    }

    fn check_labels(&self, labels: &Labels) -> Result<(), String> {
        let Some(metric) = labels.get(METRIC_NAME) else {
            return Err("missing metric name (__name__ label)".into());
        };
        let metric: String = metric.chars().take(50).collect();
        let config = &self.config;
        let over =
            |limit: Option<u64>, length: usize| limit.filter(|limit| *limit > 0 && length as u64 > *limit);
        if let Some(limit) = over(config.label_limit, labels.len()) {
            let count = labels.len();
            return Err(format!(
                "label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {limit})"
            ));
        }
        for (name, value) in labels {
            if let Some(limit) = over(config.label_name_length_limit, name.len()) {
                let name: String = name.chars().take(50).collect();
                return Err(format!(
                    "label_name_length_limit exceeded (metric: {metric}, label name: {name}, limit: {limit})"
                ));
            }
            if let Some(limit) = over(config.label_value_length_limit, value.len()) {
                let length = value.len();
                return Err(format!(
                    "label_value_length_limit exceeded (metric: {metric}, label name: {name}, length: {length}, limit: {limit})"
                ));
            }
        }
        Ok(())
    }

    fn mark_stale(&mut self, batch: &mut dyn Appender, at_ms: i64) {
        let current = self.scrape;
        for entry in self.by_text.values_mut().chain(self.by_labels.values_mut()) {
            let is_here = entry.seen == current;
            let was_tracked = std::mem::replace(&mut entry.tracked, is_here && entry.to_track);
            if was_tracked
                && !is_here
                && let Some(labels) = &entry.labels
            {
                // Refused when the very series has a newer sample: then it is not stale.
                let _ = batch.append(entry.reference, labels, at_ms, stale_nan());
            }
        }
    }

    fn report(&mut self, batch: &mut dyn Appender, scraped: Scraped, tally: &Tally, up: bool) {
        let mut values = vec![
            ("up", f64::from(u8::from(up))),
            ("scrape_duration_seconds", scraped.seconds),
            ("scrape_samples_scraped", tally.scraped as f64),
            ("scrape_samples_post_metric_relabeling", tally.after_relabelling as f64),
            ("scrape_series_added", tally.added as f64),
        ];
        if self.config.extra_metrics() {
            values.push(("scrape_timeout_seconds", self.timeout_ms as f64 / 1000.0));
            values.push(("scrape_sample_limit", self.config.sample_limit.unwrap_or(0) as f64));
            values.push(("scrape_body_size_bytes", scraped.body_bytes as f64));
        }
        for (name, value) in values {
            let (labels, reference) = self.reports.entry(name).or_insert_with(|| {
                let mut labels = self.target_labels.to_builder();
                labels.set(METRIC_NAME, name);
                (labels.build(), None)
            });
            match batch.append(*reference, labels, scraped.at_ms, value) {
                Ok(found) => *reference = Some(found),
                Err(error) => tracing::debug!(%error, %labels, "cannot report on a scrape"),
            }
        }
    }
}

/// Joins a sample's labels with its target's.
fn join_labels(labels: &mut LabelsBuilder, target: &Labels, honor: bool) {
    let mut conflicts: Vec<(String, String)> = Vec::new();
    for (name, value) in target {
        match labels.get(name) {
            Some(_) if honor => {}
            Some(exposed) => {
                conflicts.push((name.to_owned(), exposed.to_owned()));
                labels.set(name, value);
            }
            None => {
                labels.set(name, value);
            }
        }
    }
    // Short names first, so that `job` becomes `exported_job` before an `exported_job` looks for its place.
    conflicts.sort_by_key(|(name, _)| name.len());
    for (name, value) in conflicts {
        let mut renamed = format!("exported_{name}");
        while labels.get(&renamed).is_some() {
            renamed.insert_str(0, "exported_");
        }
        labels.set(&renamed, &value);
    }
}
