//! Counters, gauges and histograms that a room counts with, and the registry that gathers them.
//!
//! Increments are atomic operations without a lock; a lock is taken only to create or gather.

use crate::{
    Bucket, Gather, HistogramValue, Labels, LabelsBuilder, Metric, MetricFamily, MetricKind, MetricValue,
};
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds fit for request durations in seconds.
pub const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A vector with this many children puts every further label set into one child whose values are all
/// [`OVERFLOW`], so that hostile label values cannot take the memory of the process.
const MAX_CHILDREN: usize = 10_000;
const OVERFLOW: &str = "_overflow";

/// `count` bounds from `start`, each `width` apart.
pub fn linear_buckets(start: f64, width: f64, count: usize) -> Vec<f64> {
    (0..count).map(|index| start + width * index as f64).collect()
}

/// `count` bounds from `start`, each `factor` times the one before.
pub fn exponential_buckets(start: f64, factor: f64, count: usize) -> Vec<f64> {
    let mut bounds = Vec::with_capacity(count);
    let mut bound = start;
    for _ in 0..count {
        bounds.push(bound);
        bound *= factor;
    }
    bounds
}

fn add_float(bits: &AtomicU64, amount: f64) {
    let mut current = bits.load(Ordering::Relaxed);
    loop {
        let next = (f64::from_bits(current) + amount).to_bits();
        match bits.compare_exchange_weak(current, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(actual) => current = actual,
        }
    }
}

/// A number that only grows. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Counter {
    cell: Arc<CounterCell>,
}

#[derive(Debug, Default)]
struct CounterCell {
    /// Whole increments, the common case: one `fetch_add`.
    whole: AtomicU64,
    fraction_bits: AtomicU64,
}

impl Counter {
    /// A counter that belongs to no registry.
    pub fn new() -> Self {
        Counter::default()
    }

    pub fn inc(&self) {
        self.cell.whole.fetch_add(1, Ordering::Relaxed);
    }

    pub fn inc_by(&self, amount: u64) {
        self.cell.whole.fetch_add(amount, Ordering::Relaxed);
    }

    /// Adds a fraction; negative amounts and NaN are ignored, a counter never falls.
    pub fn add(&self, amount: f64) {
        if amount > 0.0 {
            add_float(&self.cell.fraction_bits, amount);
        }
    }

    pub fn get(&self) -> f64 {
        self.cell.whole.load(Ordering::Relaxed) as f64
            + f64::from_bits(self.cell.fraction_bits.load(Ordering::Relaxed))
    }
}

/// A number that goes up and down. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Gauge {
    bits: Arc<AtomicU64>,
}

impl Gauge {
    /// A gauge that belongs to no registry.
    pub fn new() -> Self {
        Gauge::default()
    }

    pub fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Ordering::Relaxed);
    }

    pub fn add(&self, amount: f64) {
        add_float(&self.bits, amount);
    }

    pub fn sub(&self, amount: f64) {
        add_float(&self.bits, -amount);
    }

    pub fn inc(&self) {
        self.add(1.0);
    }

    pub fn dec(&self) {
        self.add(-1.0);
    }

    pub fn get(&self) -> f64 {
        f64::from_bits(self.bits.load(Ordering::Relaxed))
    }
}

/// Observations counted in fixed buckets. Clones observe together.
#[derive(Debug, Clone)]
pub struct Histogram {
    cells: Arc<HistogramCells>,
}

#[derive(Debug)]
struct HistogramCells {
    upper_bounds: Arc<[f64]>,
    /// One count per bound and one for what lies above all, not cumulative.
    counts: Box<[AtomicU64]>,
    sum_bits: AtomicU64,
}

impl Histogram {
    /// A histogram that belongs to no registry. Bounds are sorted; NaN and `+Inf` are left out.
    pub fn new(upper_bounds: &[f64]) -> Self {
        Histogram::with_bounds(tidy_bounds(upper_bounds))
    }

    fn with_bounds(upper_bounds: Arc<[f64]>) -> Self {
        let counts = (0..=upper_bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { cells: Arc::new(HistogramCells { upper_bounds, counts, sum_bits: AtomicU64::new(0) }) }
    }

    pub fn observe(&self, value: f64) {
        let bounds = &self.cells.upper_bounds;
        let bucket = bounds.partition_point(|bound| *bound < value);
        self.cells.counts[bucket].fetch_add(1, Ordering::Relaxed);
        add_float(&self.cells.sum_bits, value);
    }

    pub fn value(&self) -> HistogramValue {
        let mut cumulative_count = 0;
        let mut buckets = Vec::with_capacity(self.cells.upper_bounds.len());
        for (index, count) in self.cells.counts.iter().enumerate() {
            cumulative_count += count.load(Ordering::Relaxed);
            if let Some(upper_bound) = self.cells.upper_bounds.get(index).copied() {
                buckets.push(Bucket { upper_bound, cumulative_count, exemplar: None });
            }
        }
        // The count is the sum of what was read, so that it always agrees with the buckets.
        let sum = f64::from_bits(self.cells.sum_bits.load(Ordering::Relaxed));
        HistogramValue { buckets, count: cumulative_count, sum }
    }
}

fn tidy_bounds(upper_bounds: &[f64]) -> Arc<[f64]> {
    let mut bounds: Vec<f64> =
        upper_bounds.iter().copied().filter(|bound| !bound.is_nan() && *bound != f64::INFINITY).collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    Arc::from(bounds)
}

/// One instrument per set of `N` label values.
struct Children<T, const N: usize> {
    label_names: [Arc<str>; N],
    children: RwLock<HashMap<[Box<str>; N], T>>,
}

impl<T: Clone, const N: usize> Children<T, N> {
    fn new(label_names: [&str; N]) -> Self {
        Children { label_names: label_names.map(Arc::from), children: RwLock::new(HashMap::new()) }
    }

    fn get_or_create(&self, values: [&str; N], create: impl FnOnce() -> T) -> T {
        let key = values.map(Box::<str>::from);
        if let Some(child) = self.children.read().get(&key) {
            return child.clone();
        }
        let mut children = self.children.write();
        let is_full = children.len() >= MAX_CHILDREN;
        let key =
            if is_full && !children.contains_key(&key) { [OVERFLOW; N].map(Box::<str>::from) } else { key };
        children.entry(key).or_insert_with(create).clone()
    }

    fn remove(&self, values: [&str; N]) -> bool {
        self.children.write().remove(&values.map(Box::<str>::from)).is_some()
    }

    fn collect(&self, value: impl Fn(&T) -> MetricValue) -> Vec<Metric> {
        let children = self.children.read();
        let mut metrics = Vec::with_capacity(children.len());
        let mut builder = LabelsBuilder::new();
        for (values, child) in children.iter() {
            builder.clear();
            for (name, label_value) in self.label_names.iter().zip(values) {
                builder.set(name, label_value);
            }
            metrics.push(Metric { labels: builder.build(), value: value(child), timestamp_ms: None });
        }
        metrics.sort_by(|a, b| a.labels.cmp(&b.labels));
        metrics
    }
}

macro_rules! instrument_vector {
    ($(#[$doc:meta])* $vector:ident of $child:ty) => {
        $(#[$doc])*
        pub struct $vector<const N: usize> {
            inner: Arc<Children<$child, N>>,
        }

        impl<const N: usize> Clone for $vector<N> {
            fn clone(&self) -> Self {
                Self { inner: Arc::clone(&self.inner) }
            }
        }

        impl<const N: usize> $vector<N> {
            /// Forgets one label set; returns whether it was there.
            pub fn remove(&self, values: [&str; N]) -> bool {
                self.inner.remove(values)
            }

            /// Forgets every label set.
            pub fn reset(&self) {
                self.inner.children.write().clear();
            }
        }
    };
}

instrument_vector!(
    /// A counter per set of label values. Keep the child that [`with`](Self::with) returns in hot paths.
    CounterVec of Counter
);
instrument_vector!(
    /// A gauge per set of label values.
    GaugeVec of Gauge
);

impl<const N: usize> CounterVec<N> {
    /// The counter of these label values, created at zero when new.
    pub fn with(&self, values: [&str; N]) -> Counter {
        self.inner.get_or_create(values, Counter::new)
    }
}

impl<const N: usize> GaugeVec<N> {
    /// The gauge of these label values, created at zero when new.
    pub fn with(&self, values: [&str; N]) -> Gauge {
        self.inner.get_or_create(values, Gauge::new)
    }
}

/// A histogram per set of label values.
#[derive(Clone)]
pub struct HistogramVec<const N: usize> {
    inner: Arc<Children<Histogram, N>>,
    upper_bounds: Arc<[f64]>,
}

impl<const N: usize> HistogramVec<N> {
    /// The histogram of these label values, created empty when new.
    pub fn with(&self, values: [&str; N]) -> Histogram {
        self.inner.get_or_create(values, || Histogram::with_bounds(self.upper_bounds.clone()))
    }

    /// Forgets one label set; returns whether it was there.
    pub fn remove(&self, values: [&str; N]) -> bool {
        self.inner.remove(values)
    }

    /// Forgets every label set.
    pub fn reset(&self) {
        self.inner.children.write().clear();
    }
}

type Collect = Box<dyn Fn() -> Vec<Metric> + Send + Sync>;

struct Registered {
    help: Arc<str>,
    kind: MetricKind,
    collect: Vec<Collect>,
}

/// A name that cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    #[error("metric {name:?} is registered as a {registered} and now as a {wanted}")]
    KindMismatch { name: String, registered: MetricKind, wanted: MetricKind },
}

/// The instruments of one room. Clones share the instruments.
#[derive(Clone, Default)]
pub struct Registry {
    families: Arc<RwLock<BTreeMap<Arc<str>, Registered>>>,
}

// === impl Registry ===

impl Registry {
    pub fn new() -> Self {
        Registry::default()
    }

    /// Adds a source of metrics under a name. Two sources under one name are gathered into one family; when
    /// their kinds differ the later one becomes part of the first one's family unchanged.
    fn register(&self, name: &str, help: &str, kind: MetricKind, collect: Collect) {
        let mut families = self.families.write();
        let family = families.entry(Arc::from(name)).or_insert_with(|| Registered {
            help: Arc::from(help),
            kind,
            collect: Vec::new(),
        });
        family.collect.push(collect);
    }

    /// Checks that `name` is free or of the same kind, for names that come from configuration.
    ///
    /// # Errors
    /// When the name is taken by another kind.
    pub fn check(&self, name: &str, kind: MetricKind) -> Result<(), RegistryError> {
        match self.families.read().get(name) {
            Some(registered) if registered.kind != kind => Err(RegistryError::KindMismatch {
                name: name.to_owned(),
                registered: registered.kind,
                wanted: kind,
            }),
            _ => Ok(()),
        }
    }

    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let counter = Counter::new();
        let source = counter.clone();
        self.register(
            name,
            help,
            MetricKind::Counter,
            Box::new(move || vec![single(counter_value(&source))]),
        );
        counter
    }

    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::new();
        let source = gauge.clone();
        self.register(name, help, MetricKind::Gauge, Box::new(move || vec![single(gauge_value(&source))]));
        gauge
    }

    pub fn histogram(&self, name: &str, help: &str, upper_bounds: &[f64]) -> Histogram {
        let histogram = Histogram::new(upper_bounds);
        let source = histogram.clone();
        self.register(
            name,
            help,
            MetricKind::Histogram,
            Box::new(move || vec![single(histogram_value(&source))]),
        );
        histogram
    }

    pub fn counter_vec<const N: usize>(&self, name: &str, help: &str, labels: [&str; N]) -> CounterVec<N> {
        let inner = Arc::new(Children::new(labels));
        let source = Arc::clone(&inner);
        self.register(name, help, MetricKind::Counter, Box::new(move || source.collect(counter_value)));
        CounterVec { inner }
    }

    pub fn gauge_vec<const N: usize>(&self, name: &str, help: &str, labels: [&str; N]) -> GaugeVec<N> {
        let inner = Arc::new(Children::new(labels));
        let source = Arc::clone(&inner);
        self.register(name, help, MetricKind::Gauge, Box::new(move || source.collect(gauge_value)));
        GaugeVec { inner }
    }

    pub fn histogram_vec<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        upper_bounds: &[f64],
    ) -> HistogramVec<N> {
        let inner = Arc::new(Children::new(labels));
        let source = Arc::clone(&inner);
        self.register(name, help, MetricKind::Histogram, Box::new(move || source.collect(histogram_value)));
        HistogramVec { inner, upper_bounds: tidy_bounds(upper_bounds) }
    }

    /// A gauge whose value is asked for at each gathering.
    pub fn gauge_function(&self, name: &str, help: &str, value: impl Fn() -> f64 + Send + Sync + 'static) {
        self.register(
            name,
            help,
            MetricKind::Gauge,
            Box::new(move || vec![single(MetricValue::Gauge(value()))]),
        );
    }

    /// A counter whose value is asked for at each gathering.
    pub fn counter_function(&self, name: &str, help: &str, value: impl Fn() -> f64 + Send + Sync + 'static) {
        let collect = move || vec![single(MetricValue::Counter { value: value(), exemplar: None })];
        self.register(name, help, MetricKind::Counter, Box::new(collect));
    }

    /// The families in the classic text format, as `/metrics` serves them.
    pub fn encode(&self) -> String {
        crate::encode_text(&self.gather())
    }
}

impl Gather for Registry {
    fn gather(&self) -> Vec<MetricFamily> {
        let families = self.families.read();
        families
            .iter()
            .map(|(name, registered)| MetricFamily {
                name: Arc::clone(name),
                help: Arc::clone(&registered.help),
                unit: Arc::from(""),
                kind: registered.kind,
                metrics: registered.collect.iter().flat_map(|collect| collect()).collect(),
            })
            .collect()
    }
}

fn single(value: MetricValue) -> Metric {
    Metric { labels: Labels::empty(), value, timestamp_ms: None }
}

fn counter_value(counter: &Counter) -> MetricValue {
    MetricValue::Counter { value: counter.get(), exemplar: None }
}

fn gauge_value(gauge: &Gauge) -> MetricValue {
    MetricValue::Gauge(gauge.get())
}

fn histogram_value(histogram: &Histogram) -> MetricValue {
    MetricValue::Histogram(histogram.value())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_many_threads_add_up() {
        let registry = Registry::new();
        let requests = registry.counter_vec("requests_total", "Requests.", ["code"]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let ok = requests.with(["200"]);
                    for _ in 0..1_000 {
                        ok.inc();
                        ok.add(0.5);
                    }
                });
            }
        });
        assert_eq!(requests.with(["200"]).get(), 6_000.0);
        assert_eq!(registry.gather()[0].metrics.len(), 1);
    }

    #[test]
    fn a_histogram_counts_each_value_in_its_bucket() {
        let histogram = Histogram::new(&[1.0, 0.1, f64::INFINITY]);
        for value in [0.05, 0.1, 0.5, 7.0] {
            histogram.observe(value);
        }
        let value = histogram.value();
        let cumulative: Vec<u64> = value.buckets.iter().map(|bucket| bucket.cumulative_count).collect();
        assert_eq!(cumulative, [2, 3]);
        assert_eq!((value.count, value.sum), (4, 7.65));
    }

    #[test]
    fn too_many_label_sets_share_one_child() {
        let registry = Registry::new();
        let vector = registry.gauge_vec("g", "", ["path"]);
        for index in 0..MAX_CHILDREN + 5 {
            vector.with([&index.to_string()]).inc();
        }
        assert_eq!(vector.with([OVERFLOW]).get(), 5.0);
        assert_eq!(registry.gather()[0].metrics.len(), MAX_CHILDREN + 1);
    }

    #[test]
    fn the_text_format_is_what_prometheus_reads() {
        let registry = Registry::new();
        registry.counter("a_total", "Things\nthat \\ happen.").inc_by(3);
        registry.histogram("h_seconds", "Time.", &[0.5, 1.0]).observe(0.7);
        registry.gauge_vec("g", "Gauge.", ["l"]).with(["x\"y"]).set(1.5);
        assert_eq!(
            registry.encode(),
            "# HELP a_total Things\\nthat \\\\ happen.\n# TYPE a_total counter\na_total 3\n\
             # HELP g Gauge.\n# TYPE g gauge\ng{l=\"x\\\"y\"} 1.5\n\
             # HELP h_seconds Time.\n# TYPE h_seconds histogram\n\
             h_seconds_bucket{le=\"0.5\"} 0\nh_seconds_bucket{le=\"1\"} 1\nh_seconds_bucket{le=\"+Inf\"} 1\n\
             h_seconds_sum 0.7\nh_seconds_count 1\n"
        );
    }
}
