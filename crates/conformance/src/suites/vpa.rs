//! The VerticalPodAutoscaler: histograms, samples of containers, estimators, and what policies allow.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use gantry_autoscaler::vpa::aggregate::{
    Aggregate, AggregateState, AggregationConfig, CPU_SAMPLE_WEIGHT, ContainerState, DAY_MS, Resource, Sample,
};
use gantry_autoscaler::vpa::amounts::{self, Amounts};
use gantry_autoscaler::vpa::estimate::{self, Estimate};
use gantry_autoscaler::vpa::histogram::{Buckets, Histogram, HistogramCheckpoint, ZERO_TIME_MS};
use gantry_autoscaler::vpa::{self, ContainerRecommendation, ResourcePolicy, policy};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{Timestamp, civil, tz::TimeZone};
use serde_json::{Value, json};

use super::Case;
use super::go::{self, Go, Host, Result};

type V = Go<Thing>;
type Estimator = Rc<dyn Fn(&AggregateState) -> Amounts>;

enum Thing {
    Histogram(Histogram),
    Buckets(Arc<Buckets>),
    Estimator(Estimator),
    State(AggregateState),
    Container {
        state: ContainerState,
        config: AggregationConfig,
        cpu: Rc<RefCell<Thing>>,
        memory: Rc<RefCell<Thing>>,
    },
    /// What calls are expected, as method, value, weight and time, and how often each came.
    Mock(Vec<(String, f64, f64, i64, usize)>),
}

fn object(thing: Thing) -> V {
    Go::Object(Rc::new(RefCell::new(thing)))
}

fn read(data: &Path, file: &str) -> Option<Value> {
    let text = std::fs::read_to_string(data.join("autoscaling/vpa").join(file)).ok()?;
    serde_json::from_str(&text).ok()
}

// === statements ===

struct Vpa;

fn number(value: Option<&V>) -> Result<f64> {
    match value {
        Some(Go::Number(number)) => Ok(*number),
        _ => Err("a number is missing".into()),
    }
}

fn time(value: Option<&V>) -> Result<i64> {
    match value {
        Some(Go::Time(at)) => Ok(*at),
        _ => Err("a time is missing".into()),
    }
}

fn thing(value: Option<&V>) -> Result<Rc<RefCell<Thing>>> {
    match value {
        Some(Go::Object(object)) => Ok(object.clone()),
        _ => Err("an object is missing".into()),
    }
}

fn buckets(value: Option<&V>) -> Result<Arc<Buckets>> {
    match &*thing(value)?.borrow() {
        Thing::Buckets(buckets) => Ok(buckets.clone()),
        _ => Err("histogram options are missing".into()),
    }
}

fn estimator(value: Option<&V>) -> Result<Estimator> {
    match &*thing(value)?.borrow() {
        Thing::Estimator(estimator) => Ok(estimator.clone()),
        _ => Err("an estimator is missing".into()),
    }
}

fn state(value: Option<&V>) -> Result<AggregateState> {
    match &*thing(value)?.borrow() {
        Thing::State(state) => Ok(state.clone()),
        _ => Err("a state is missing".into()),
    }
}

fn made(buckets: std::result::Result<Buckets, &'static str>) -> V {
    match buckets {
        Ok(buckets) => Go::Several(vec![object(Thing::Buckets(Arc::new(buckets))), Go::Nil]),
        Err(error) => Go::Several(vec![Go::Nil, Go::Error(error.into())]),
    }
}

fn estimating(estimator: impl Fn(&AggregateState) -> Amounts + 'static) -> Result<V> {
    Ok(object(Thing::Estimator(Rc::new(estimator))))
}

fn sample(value: Option<&V>) -> Result<Sample> {
    let Some(Go::Fields(fields)) = value else { return Err("a sample is missing".into()) };
    let resource = match fields.get("Resource") {
        Some(Go::Text(name)) if name == "cpu" => Resource::Cpu,
        Some(Go::Text(name)) if name == "memory" => Resource::Memory,
        _ => return Err("a sample of no resource".into()),
    };
    Ok(Sample {
        at_ms: time(fields.get("MeasureStart"))?,
        usage: number(fields.get("Usage"))? as i64,
        resource,
    })
}

fn container_test(memory_interval_ms: i64) -> V {
    let (cpu, memory) =
        (Rc::new(RefCell::new(Thing::Mock(Vec::new()))), Rc::new(RefCell::new(Thing::Mock(Vec::new()))));
    let config = AggregationConfig { memory_interval_ms, ..AggregationConfig::default() };
    let container = Thing::Container {
        state: ContainerState::default(),
        config,
        cpu: cpu.clone(),
        memory: memory.clone(),
    };
    let fields = [
        ("mockCPUHistogram", Go::Object(cpu)),
        ("mockMemoryHistogram", Go::Object(memory)),
        ("container", object(container)),
    ];
    Go::Fields(fields.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Samples as the histograms would be told of them.
#[derive(Default)]
struct Calls(Vec<(&'static str, Sample)>);

impl Aggregate for Calls {
    fn add(&mut self, sample: Sample) {
        self.0.push(("AddSample", sample));
    }

    fn subtract(&mut self, sample: Sample) {
        self.0.push(("SubtractSample", sample));
    }
}

impl Host for Vpa {
    type Object = Thing;

    fn constant(&self, name: &str) -> Option<V> {
        const MONTHS: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        let name = name.trim_start_matches("model.").trim_start_matches("util.");
        let number = match name {
            "time.Second" => 1000.0,
            "time.Minute" => 60_000.0,
            "time.Hour" => 3_600_000.0,
            "MaxCheckpointWeight" => 10_000.0,
            "minSampleWeight" => CPU_SAMPLE_WEIGHT,
            "MaxResourceAmount" => amounts::MOST as f64,
            "ResourceCPU" => return Some(Go::Text("cpu".into())),
            "ResourceMemory" => return Some(Go::Text("memory".into())),
            _ => {
                let month = MONTHS.iter().position(|month| name.strip_prefix("time.") == Some(month))?;
                month as f64 + 1.0
            }
        };
        Some(Go::Number(number))
    }

    fn call(&mut self, name: &str, args: Vec<V>) -> Result<V> {
        let number = |index: usize| number(args.get(index));
        let name = name.trim_start_matches("model.").trim_start_matches("util.");
        Ok(match name {
            "float64" | "uint32" | "BytesFromMemoryAmount" => Go::Number(number(0)?),
            "ResourceAmount" => Go::Number(number(0)?.trunc()),
            "CPUAmountFromCores" => Go::Number(amounts::cpu_from_cores(number(0)?) as f64),
            "CoresFromCPUAmount" => Go::Number(amounts::cores(number(0)? as i64)),
            "MemoryAmountFromBytes" => Go::Number(amounts::from_float(number(0)?) as f64),
            "time.Unix" => Go::Time(number(0)? as i64 * 1000 + number(1)? as i64 / 1_000_000),
            "time.LoadLocation" => Go::Several(vec![Go::Nil, Go::Nil]),
            "time.Date" => {
                let part = |index| number(index).map(|n| n as i8);
                let date = civil::DateTime::new(
                    number(0)? as i16,
                    part(1)?,
                    part(2)?,
                    part(3)?,
                    part(4)?,
                    part(5)?,
                    0,
                );
                let date = date.map_err(|error| error.to_string())?;
                Go::Time(
                    date.to_zoned(TimeZone::UTC).map_err(|e| e.to_string())?.timestamp().as_millisecond(),
                )
            }
            "time.Parse" => {
                let Some(Go::Text(text)) = args.get(1) else { return Err("a time is missing".into()) };
                let date: civil::DateTime = text.parse().map_err(|_| format!("{text} is no time"))?;
                Go::Time(
                    date.to_zoned(TimeZone::UTC).map_err(|e| e.to_string())?.timestamp().as_millisecond(),
                )
            }
            "metav1.NewTime" => Go::Time(time(args.first())?),
            "make" => Go::Nil,
            "areUnique" => {
                let mut seen = Vec::new();
                for arg in &args {
                    seen.push(self::number(Some(arg))?.to_bits());
                }
                seen.sort_unstable();
                seen.dedup();
                Go::Bool(seen.len() == args.len())
            }
            "NewLinearHistogramOptions" => made(Buckets::linear(number(0)?, number(1)?, number(2)?)),
            "NewExponentialHistogramOptions" => {
                made(Buckets::exponential(number(0)?, number(1)?, number(2)?, number(3)?))
            }
            "NewHistogram" => object(Thing::Histogram(Histogram::new(buckets(args.first())?))),
            "NewDecayingHistogram" => {
                object(Thing::Histogram(Histogram::decaying(buckets(args.first())?, number(1)? as i64)))
            }
            "GetAggregationsConfig" => {
                let config = AggregationConfig::default();
                let fields = [
                    ("CPUHistogramOptions", object(Thing::Buckets(config.cpu))),
                    ("MemoryHistogramOptions", object(Thing::Buckets(config.memory))),
                    ("MemoryAggregationIntervalDuration", Go::Number(config.memory_interval_ms as f64)),
                    ("CPUHistogramDecayHalfLife", Go::Number(config.half_life_ms as f64)),
                    ("MemoryHistogramDecayHalfLife", Go::Number(config.half_life_ms as f64)),
                ];
                Go::Fields(fields.map(|(name, value)| (name.to_owned(), value)).into())
            }
            "NewAggregateContainerState" => {
                object(Thing::State(AggregateState::new(&AggregationConfig::default())))
            }
            "getConfidence" => Go::Number(estimate::confidence(&state(args.first())?, number(1)? as i64)),
            "NewPercentileCPUEstimator" => {
                let share = number(0)?;
                return estimating(move |s| Amounts {
                    memory_bytes: None,
                    ..estimate::percentile(s, share, 0.0)
                });
            }
            "NewPercentileMemoryEstimator" => {
                let share = number(0)?;
                return estimating(move |s| Amounts {
                    cpu_milli: None,
                    ..estimate::percentile(s, 0.0, share)
                });
            }
            "NewConstCPUEstimator" => {
                let cpu_milli = Some(number(0)? as i64);
                return estimating(move |_| Amounts { cpu_milli, memory_bytes: None });
            }
            "NewConstMemoryEstimator" => {
                let memory_bytes = Some(number(0)? as i64);
                return estimating(move |_| Amounts { cpu_milli: None, memory_bytes });
            }
            "NewCombinedEstimator" => {
                let (cpu, memory) = (estimator(args.first())?, estimator(args.get(1))?);
                return estimating(move |s| Amounts {
                    cpu_milli: cpu(s).cpu_milli,
                    memory_bytes: memory(s).memory_bytes,
                });
            }
            "WithCPUConfidenceMultiplier" | "WithMemoryConfidenceMultiplier" => {
                let (multiplier, exponent, interval) = (number(0)?, number(1)?, number(3)? as i64);
                let base = estimator(args.get(2))?;
                return estimating(move |s| {
                    estimate::by_confidence(base(s), multiplier, exponent, estimate::confidence(s, interval))
                });
            }
            "WithCPUMargin" | "WithMemoryMargin" => {
                let (margin, base) = (number(0)?, estimator(args.get(1))?);
                return estimating(move |s| estimate::with_margin(base(s), margin));
            }
            "WithCPUMinResource" | "WithMemoryMinResource" => {
                let (least, base) = (number(0)? as i64, estimator(args.get(1))?);
                return estimating(move |s| estimate::at_least(base(s), least, least));
            }
            "newUsageSample" => {
                let fields = ["MeasureStart", "Usage", "Resource"].map(str::to_owned);
                Go::Fields(fields.into_iter().zip(args).collect())
            }
            "newContainerTest" | "newContainerTestWithCustomMemoryIntervalCount" => container_test(DAY_MS),
            "newContainerTestWithCustomMemoryInterval" => container_test(number(0)? as i64),
            _ => return Err(format!("function {name} is not known")),
        })
    }

    fn method(&mut self, receiver: &Rc<RefCell<Thing>>, name: &str, args: Vec<V>) -> Result<V> {
        let number = |index: usize| number(args.get(index));
        match (&mut *receiver.borrow_mut(), name) {
            (Thing::Buckets(buckets), "NumBuckets") => Ok(Go::Number(buckets.count() as f64)),
            (Thing::Buckets(buckets), "Epsilon") => Ok(Go::Number(buckets.epsilon())),
            (Thing::Buckets(buckets), "FindBucket") => Ok(Go::Number(buckets.find(number(0)?) as f64)),
            (Thing::Buckets(buckets), "GetBucketStart") => Ok(Go::Number(buckets.start(number(0)? as usize))),
            (Thing::Histogram(histogram), "AddSample") => {
                histogram.add(number(0)?, number(1)?, time(args.get(2))?);
                Ok(Go::Nil)
            }
            (Thing::Histogram(histogram), "SubtractSample") => {
                histogram.subtract(number(0)?, number(1)?, time(args.get(2))?);
                Ok(Go::Nil)
            }
            (Thing::Histogram(histogram), "Percentile") => Ok(Go::Number(histogram.percentile(number(0)?))),
            (Thing::Histogram(histogram), "IsEmpty") => Ok(Go::Bool(histogram.is_empty())),
            (Thing::Histogram(histogram), "Merge" | "Equals") => {
                let other = thing(args.first())?;
                let Thing::Histogram(other) = &*other.borrow() else { return Err("no histogram".into()) };
                if name == "Equals" {
                    return Ok(Go::Bool(histogram.equals(other)));
                }
                histogram.merge(other);
                Ok(Go::Nil)
            }
            (Thing::Histogram(histogram), "SaveToChekpoint") => {
                Ok(Go::Several(vec![checkpoint_fields(&histogram.checkpoint()), Go::Nil]))
            }
            (Thing::Histogram(histogram), "LoadFromCheckpoint") => {
                let Some(Go::Fields(fields)) = args.first() else {
                    return Err("a checkpoint is missing".into());
                };
                Ok(match histogram.load(&checkpoint_of(fields)?) {
                    Ok(()) => Go::Nil,
                    Err(error) => Go::Error(error),
                })
            }
            (Thing::Estimator(estimator), "GetResourceEstimation") => {
                let amounts = estimator(&state(args.first())?);
                let of =
                    |name: &str, amount: Option<i64>| amount.map(|a| (name.to_owned(), Go::Number(a as f64)));
                Ok(Go::Fields(
                    [of("cpu", amounts.cpu_milli), of("memory", amounts.memory_bytes)]
                        .into_iter()
                        .flatten()
                        .collect(),
                ))
            }
            (Thing::Estimator(estimator), "GetCPUEstimation" | "GetMemoryEstimation") => {
                let amounts = estimator(&state(args.first())?);
                let amount =
                    if name == "GetCPUEstimation" { amounts.cpu_milli } else { amounts.memory_bytes };
                amount.map(|a| Go::Number(a as f64)).ok_or_else(|| "no such estimate".into())
            }
            (Thing::State(state), "AddSample") => {
                state.add(sample(args.first())?);
                Ok(Go::Nil)
            }
            (Thing::Mock(expected), "On") => {
                let Some(Go::Text(method)) = args.first() else { return Err("a method is missing".into()) };
                expected.push((method.clone(), number(1)?, number(2)?, time(args.get(3))?, 0));
                Ok(Go::Nil)
            }
            (Thing::Mock(expected), "AssertExpectations") => {
                match expected.iter().find(|(.., calls)| *calls == 0) {
                    Some((method, value, ..)) => Err(format!("{method}({value}) did not come")),
                    None => Ok(Go::Nil),
                }
            }
            (Thing::Container { state, config, cpu, memory }, "AddSample" | "RecordOOM") => {
                let mut calls = Calls::default();
                let result = if name == "AddSample" {
                    Go::Bool(state.add(sample(args.first())?, config, &mut calls))
                } else {
                    match state.record_oom(time(args.first())?, number(1)? as i64, config, &mut calls) {
                        Ok(()) => Go::Nil,
                        Err(error) => Go::Error(error),
                    }
                };
                for (method, call) in calls.0 {
                    let (mock, value, weight) = match call.resource {
                        Resource::Cpu => (&*cpu, amounts::cores(call.usage), CPU_SAMPLE_WEIGHT),
                        Resource::Memory => (&*memory, call.usage as f64, 1.0),
                    };
                    let Thing::Mock(expected) = &mut *mock.borrow_mut() else { return Err("no mock".into()) };
                    let wanted = expected.iter_mut().find(|(known, v, w, at, _)| {
                        known == method && *v == value && *w == weight && *at == call.at_ms
                    });
                    let wanted = wanted
                        .ok_or_else(|| format!("unexpected {method}({value}, {weight}, {})", call.at_ms))?;
                    wanted.4 += 1;
                }
                Ok(result)
            }
            _ => Err(format!("method {name} is not known")),
        }
    }

    fn field(&self, receiver: &Rc<RefCell<Thing>>, name: &str) -> Result<V> {
        match (&*receiver.borrow(), name) {
            (Thing::Histogram(_), "histogram") => Ok(Go::Object(receiver.clone())),
            (Thing::Histogram(histogram), "referenceTimestamp") => Ok(Go::Time(histogram.reference_ms())),
            (Thing::Histogram(histogram), "totalWeight") => Ok(Go::Number(histogram.total())),
            (Thing::Histogram(histogram), "bucketWeight") => {
                let weights = histogram.weights().iter().enumerate();
                Ok(Go::Fields(weights.map(|(bucket, w)| (bucket.to_string(), Go::Number(*w))).collect()))
            }
            _ => Err(format!("field {name} is not known")),
        }
    }

    fn literal(&mut self, kind: &str, fields: BTreeMap<String, V>) -> Result<V> {
        let histogram = |name: &str| match &*thing(fields.get(name))?.borrow() {
            Thing::Histogram(histogram) => Ok(histogram.clone()),
            _ => Err("a histogram is missing".to_owned()),
        };
        Ok(match kind {
            "time.Time" => Go::Time(ZERO_TIME_MS),
            "histogram" => object(Thing::Histogram(Histogram::new(buckets(fields.get("options"))?))),
            "decayingHistogram" => {
                let half_life = number(fields.get("halfLife"))? as i64;
                object(Thing::Histogram(Histogram::decaying(
                    histogram("histogram")?.buckets().clone(),
                    half_life,
                )))
            }
            "model.AggregateContainerState" => {
                let mut state = AggregateState::new(&AggregationConfig::default());
                state.cpu = histogram("AggregateCPUUsage")?;
                state.memory_peaks = histogram("AggregateMemoryPeaks")?;
                object(Thing::State(state))
            }
            _ => Go::Fields(fields),
        })
    }
}

fn checkpoint_fields(checkpoint: &HistogramCheckpoint) -> V {
    let weights = checkpoint.bucket_weights.iter().map(|(b, w)| (b.clone(), Go::Number(f64::from(*w))));
    let at = checkpoint.reference_timestamp.as_ref().map_or(ZERO_TIME_MS, |time| time.0.as_millisecond());
    let fields = [
        ("TotalWeight", Go::Number(checkpoint.total_weight)),
        ("BucketWeights", Go::Fields(weights.collect())),
        ("ReferenceTimestamp", Go::Time(at)),
    ];
    Go::Fields(fields.map(|(name, value)| (name.to_owned(), value)).into())
}

fn checkpoint_of(fields: &BTreeMap<String, V>) -> Result<HistogramCheckpoint> {
    let mut checkpoint = HistogramCheckpoint {
        total_weight: number(fields.get("TotalWeight"))?,
        ..HistogramCheckpoint::default()
    };
    if let Some(Go::Fields(weights)) = fields.get("BucketWeights") {
        for (bucket, weight) in weights {
            checkpoint.bucket_weights.insert(bucket.clone(), number(Some(weight))? as u32);
        }
    }
    if let Some(Go::Time(at)) = fields.get("ReferenceTimestamp") {
        checkpoint.reference_timestamp = Timestamp::from_millisecond(*at).ok().map(Time);
    }
    Ok(checkpoint)
}

/// A package-level variable as the data has it.
fn variable(value: &Value) -> Result<V> {
    let args = || value["args"].as_array().into_iter().flatten().map(variable).collect::<Result<Vec<V>>>();
    let no_variables = &mut BTreeMap::new();
    if let Some(name) = value["$call"].as_str() {
        return match Vpa.call(name, args()?)? {
            // The error is not looked at.
            Go::Several(mut values) => Ok(values.swap_remove(0)),
            value => Ok(value),
        };
    }
    if let Some(text) = value["$expr"].as_str().or(value["$const"].as_str()) {
        return go::evaluate(&mut Vpa, no_variables, text);
    }
    match value {
        Value::Object(fields) if fields.get("$type").and_then(Value::as_str) == Some("time.Time") => {
            Ok(Go::Time(ZERO_TIME_MS))
        }
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(name, _)| *name != "$type");
            Ok(Go::Fields(
                fields.map(|(name, value)| Ok((name.clone(), variable(value)?))).collect::<Result<_>>()?,
            ))
        }
        Value::Number(number) => Ok(Go::Number(number.as_f64().unwrap_or(0.0))),
        Value::String(text) => Ok(Go::Text(text.clone())),
        Value::Bool(value) => Ok(Go::Bool(*value)),
        Value::Null => Ok(Go::Nil),
        Value::Array(_) => Err("a list as a variable".into()),
    }
}

/// A checkpoint that is not there: ours is a value, which is always there, so such a test says nothing of it.
fn loads_nothing(body: &[Value]) -> bool {
    body.iter().filter_map(Value::as_str).any(|statement| statement.contains("LoadFromCheckpoint(nil)"))
}

/// Every test of some files; variables of the first are seen by the others.
fn statements(data: &Path, files: &[&str]) -> Option<Vec<Case>> {
    let mut shared: BTreeMap<String, V> = BTreeMap::new();
    let mut cases = Vec::new();
    for file in files {
        let read = read(data, &format!("ops/{file}.json"))?;
        for (name, value) in read["vars"].as_object().into_iter().flatten() {
            if let Ok(value) = variable(value) {
                shared.insert(name.clone(), value);
            }
        }
        for (name, body) in read["tests"].as_object()?.iter().filter(|(name, _)| name.starts_with("Test")) {
            let body = body.as_array().map(Vec::as_slice).unwrap_or_default();
            if loads_nothing(body) {
                continue;
            }
            let outcome = match body.is_empty() {
                true => Err("the test has no statements".into()),
                false => go::run(&mut Vpa, &mut shared.clone(), body),
            };
            cases.push(Case::new(format!("{file}/{name}"), outcome));
        }
    }
    Some(cases)
}

pub(crate) fn histograms(data: &Path) -> Option<Vec<Case>> {
    statements(data, &["histogram_options", "histogram", "decaying_histogram"])
}

pub(crate) fn containers(data: &Path) -> Option<Vec<Case>> {
    statements(data, &["container"])
}

pub(crate) fn estimators(data: &Path) -> Option<Vec<Case>> {
    statements(data, &["estimator"])
}

// === tables ===

/// The cases of a file's tables, by the test that runs them.
fn tables(
    data: &Path,
    file: &str,
    run: impl Fn(&str, &Value) -> Option<std::result::Result<(), String>>,
) -> Vec<Case> {
    let read = read(data, file).unwrap_or_default();
    let mut cases = Vec::new();
    for table in read.as_array().into_iter().flatten() {
        let test = table["test"].as_str().unwrap_or_default();
        for case in table["cases"].as_array().into_iter().flatten() {
            if let Some(outcome) = run(test, case) {
                let name = case["name"].as_str().or(case["Name"].as_str()).unwrap_or_default();
                cases.push(Case::new(format!("{test}/{name}"), outcome));
            }
        }
    }
    cases
}

fn same<T: PartialEq + std::fmt::Debug>(expected: T, found: T) -> std::result::Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("expected {expected:?}, got {found:?}")) }
}

pub(crate) fn amounts(data: &Path) -> Option<Vec<Case>> {
    read(data, "recommender__model__types.json")?;
    let of = |value: &Value| match variable(value) {
        Ok(Go::Number(number)) => number,
        _ => f64::NAN,
    };
    Some(tables(data, "recommender__model__types.json", |test, case| {
        Some(match test {
            "TestCPUAmountFromCores" => {
                same(of(&case["want"]) as i64, amounts::cpu_from_cores(of(&case["cores"])))
            }
            "TestCoresFromCPUAmount" => {
                same(of(&case["want"]), amounts::cores(of(&case["cpuAmount"]) as i64))
            }
            "TestMemoryAmountFromBytes" => {
                same(of(&case["want"]) as i64, amounts::from_float(of(&case["bytes"])))
            }
            "TestResourceAmountFromFloat" => {
                same(of(&case["want"]) as i64, amounts::from_float(of(&case["amount"])))
            }
            "TestRoundUpToScale" => {
                let found = amounts::round_up(of(&case["value"]) as i64, of(&case["scale"]) as i64);
                match case["expectedErr"].as_str() {
                    Some(error) if !error.is_empty() => same(Err(error), found),
                    _ => same(Ok(of(&case["expected"]) as i64), found),
                }
            }
            _ => return None,
        })
    }))
}

/// A ResourceList: names by their constants, amounts as texts or as constructors.
fn quantities(value: &Value) -> Value {
    let fields = value.as_object().into_iter().flatten().filter(|(name, _)| *name != "$type");
    let named = fields.filter_map(|(name, amount)| {
        let name = match name.rsplit('.').next()? {
            "ResourceCPU" => "cpu",
            "ResourceMemory" => "memory",
            other => other,
        };
        let amount = amount.as_str().or(amount["args"][0].as_str())?;
        Some((name.to_owned(), json!(amount)))
    });
    Value::Object(named.collect())
}

fn recommendation(value: &Value) -> Option<ContainerRecommendation> {
    if let Some(text) = value["$call"].as_str() {
        return built(text);
    }
    serde_json::from_value(json!({
        "containerName": value["ContainerName"],
        "target": quantities(&value["Target"]), "lowerBound": quantities(&value["LowerBound"]),
        "upperBound": quantities(&value["UpperBound"]), "uncappedTarget": quantities(&value["UncappedTarget"]),
    }))
    .ok()
}

/// `test.Recommendation().WithContainer("a").WithTarget("1", "2Mi").GetContainerResources`. What is not given is the target.
fn built(text: &str) -> Option<ContainerRecommendation> {
    let given = |method: &str| {
        let args = text.split(&format!(".{method}(")).nth(1)?.split(')').next()?;
        Some(args.split(',').map(|arg| arg.trim().trim_matches('"').to_owned()).collect::<Vec<String>>())
    };
    let amounts = |method: &str| {
        let args = given(method).or_else(|| given("WithTarget"))?;
        let named = ["cpu", "memory"].into_iter().zip(args).filter(|(_, amount)| !amount.is_empty());
        Some(named.map(|(name, amount)| (name.to_owned(), Quantity(amount))).collect::<BTreeMap<_, _>>())
    };
    Some(ContainerRecommendation {
        container_name: given("WithContainer")?.into_iter().next()?,
        target: amounts("WithTarget")?,
        lower_bound: amounts("WithLowerBound")?,
        upper_bound: amounts("WithUpperBound")?,
        uncapped_target: amounts("WithTarget")?,
    })
}

fn recommendations(value: &Value) -> Option<Vec<ContainerRecommendation>> {
    value["ContainerRecommendations"].as_array().into_iter().flatten().map(recommendation).collect()
}

/// Amounts, not their spelling, are compared.
fn same_amounts(
    expected: &[ContainerRecommendation],
    found: &[ContainerRecommendation],
) -> std::result::Result<(), String> {
    type Amounts = Vec<(String, Option<i64>)>;
    let plain = |all: &[ContainerRecommendation]| -> Vec<(String, Vec<Amounts>)> {
        let list = |quantities: &BTreeMap<String, Quantity>| {
            let amount = |(name, amount): (&String, &Quantity)| {
                (name.clone(), gantry_apimachinery::quantity::milli(&amount.0))
            };
            quantities.iter().map(amount).collect()
        };
        all.iter()
            .map(|r| {
                (
                    r.container_name.clone(),
                    vec![
                        list(&r.target),
                        list(&r.lower_bound),
                        list(&r.upper_bound),
                        list(&r.uncapped_target),
                    ],
                )
            })
            .collect()
    };
    same(plain(expected), plain(found))
}

pub(crate) fn policies(data: &Path) -> Option<Vec<Case>> {
    read(data, "utils__vpa__capping.json")?;
    let mut cases = tables(data, "utils__vpa__capping.json", |test, case| {
        if test != "TestApplyVPAPolicy" {
            return None;
        }
        let given = recommendations(&case["PodRecommendation"])?;
        // "The same as was given" is written as a call.
        let expected = match case["Expected"]["$call"].is_string() {
            true => given.clone(),
            false => recommendations(&case["Expected"])?,
        };
        let policies = case["ResourcePolicy"]["ContainerPolicies"].as_array().map(|policies| {
            let policy = |p: &Value| json!({
                "containerName": p["ContainerName"], "minAllowed": quantities(&p["MinAllowed"]), "maxAllowed": quantities(&p["MaxAllowed"]),
            });
            json!({"containerPolicies": policies.iter().map(policy).collect::<Vec<_>>()})
        });
        let policy: Option<ResourcePolicy> =
            policies.and_then(|policies| serde_json::from_value(policies).ok());
        let most: BTreeMap<String, Quantity> =
            serde_json::from_value(quantities(&case["GlobalMaxAllowed"])).ok()?;
        let mut found = given;
        found.iter_mut().for_each(|one| policy::apply(one, policy.as_ref(), Some(&most)));
        Some(same_amounts(&expected, &found))
    });
    cases.extend(tables(data, "recommender__routines__cpu_integer_post_processor.json", |test, case| {
        match test {
            "TestIntegerCPUPostProcessor_Process" => {
                let annotations = case["vpa"]["ObjectMeta"]["Annotations"].clone();
                let annotations: BTreeMap<String, String> =
                    serde_json::from_value(annotations).unwrap_or_default();
                let mut found = recommendations(&case["recommendation"])?;
                found.iter_mut().for_each(|one| policy::whole_cores(one, &annotations));
                Some(same_amounts(&recommendations(&case["want"])?, &found))
            }
            "TestExtractContainerName" if case["prefix"] == "vpa-post-processor.kubernetes.io/" => {
                let found = policy::integer_cpu_container(case["key"].as_str()?).unwrap_or_default();
                Some(same(case["want"].as_str()?, found))
            }
            _ => None,
        }
    }));
    cases.extend(tables(data, "recommender__logic__recommender.json", |test, case| {
        if test != "TestMapToListOfRecommendedContainerResources" {
            return None;
        }
        let estimate = |value: &Value| {
            let amount = |name: &str| match variable(&value["Target"][format!("model.{name}")]) {
                Ok(Go::Number(number)) => Some(number as i64),
                _ => None,
            };
            Estimate {
                target: Amounts { cpu_milli: amount("ResourceCPU"), memory_bytes: amount("ResourceMemory") },
                ..Estimate::default()
            }
        };
        let estimates =
            case["resources"].as_object()?.iter().map(|(name, value)| (name.clone(), estimate(value)));
        let list = vpa::container_recommendations(&estimates.collect(), None, None, &BTreeMap::new());
        let names: Vec<&str> = list.iter().map(|one| one.container_name.as_str()).collect();
        let expected: Vec<&str> = case["expectedLast"].as_array()?.iter().filter_map(Value::as_str).collect();
        Some(same(expected, names))
    }));
    Some(cases)
}
