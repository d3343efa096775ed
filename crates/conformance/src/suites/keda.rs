//! KEDA's own tables: which triggers are accepted, what their metrics are called and aim at, what is read in an answer, and
//! the rules of its core.
//!
//! Cases of scalers that are not built are not counted; expressions of Go that stand for no value are not run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use gantry_apimachinery::selector::Selector;
use gantry_autoscaler::keda::types::{ScaleTrigger, ScaledJob, ScaledJobSpec, ScaledObjectSpec};
use gantry_autoscaler::keda::{annotations, jobs, resolve, scaled_job, validate};
use gantry_operator::SystemClock;
use gantry_scalers::{
    Amount, Cluster, Hear, MetricSpec, MetricType, PodIdentity, PodPlace, ResourceKind, Scaler, Settings,
    Sources, Subscription, TriggerConfig, without_index,
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{Case, keda_answers};

fn read(data: &Path, file: &str) -> Option<Value> {
    let text = std::fs::read_to_string(data.join("autoscaling/keda").join(file)).ok()?;
    serde_json::from_str(&text).ok()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn strings(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// Where a value of a case may stand: the tables do not agree on the names.
fn first<'a>(case: &'a Value, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| case.get(name)).filter(|value| !value.is_null())
}

/// A cluster that holds what a case says.
struct Stage {
    data: BTreeMap<String, String>,
    pods: usize,
    is_there: bool,
}

#[async_trait]
impl Cluster for Stage {
    fn pods(&self, _namespace: &str, _selector: &Selector) -> Vec<PodPlace> {
        vec![PodPlace { phase: "Running".into(), node: "n".into() }; self.pods]
    }

    fn hear_pods(&self, _namespace: &str, _hear: Hear) -> Option<Subscription> {
        None
    }

    async fn value(&self, _kind: ResourceKind, _ns: &str, name: &str, key: &str) -> Result<String, String> {
        if !self.is_there {
            return Err(format!("{name} not found"));
        }
        self.data.get(key).cloned().ok_or_else(|| format!("key {key} not found"))
    }
}

/// A file of scaler cases: its name, the kind of trigger, and which of its tables give other kinds.
const FILES: &[(&str, &str)] = &[
    ("cpu_memory_scaler", "cpu"),
    ("cron_scaler", "cron"),
    ("kubernetes_resource_scaler", "kubernetes-resource"),
    ("kubernetes_workload_scaler", "kubernetes-workload"),
    ("metrics_api_scaler", "metrics-api"),
    ("postgresql_scaler", "postgresql"),
    ("prometheus_scaler", "prometheus"),
    ("redis_scaler", "redis"),
    ("redis_streams_scaler", "redis-streams"),
];

pub(crate) fn scalers(data: &Path) -> Option<Vec<Case>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let mut cases = Vec::new();
    for (file, kind) in FILES {
        let document = read(data, &format!("scalers/{file}.json"))?;
        let environment = environment(&document);
        for (name, table) in document["tables"].as_object().into_iter().flatten() {
            for (index, case) in list(table).iter().enumerate() {
                if let Some(outcome) = runtime.block_on(scaler_case(&document, kind, case, &environment)) {
                    cases.push(Case::new(format!("{file}/{name}/{index}"), outcome));
                }
            }
        }
        for local in list(&document["local"]) {
            let kind = match local["test"].as_str().unwrap_or_default() {
                "TestParseRedisClusterMetadata" => "redis-cluster",
                "TestParseRedisSentinelMetadata" => "redis-sentinel",
                "TestParseRedisClusterStreamsMetadata" => "redis-cluster-streams",
                "TestParseRedisSentinelStreamsMetadata" => "redis-sentinel-streams",
                _ => kind,
            };
            for (index, case) in list(&local["cases"]).iter().enumerate() {
                let name = format!("{file}/{}/{index}", local["test"].as_str().unwrap_or_default());
                if let Some(outcome) = runtime.block_on(scaler_case(&document, kind, case, &environment)) {
                    cases.push(Case::new(name, outcome));
                }
            }
        }
    }
    Some(cases)
}

/// The variables that the file's tables share.
fn environment(document: &Value) -> BTreeMap<String, String> {
    let tables = document["tables"].as_object().into_iter().flatten();
    tables.filter(|(name, _)| name.ends_with("ResolvedEnv")).flat_map(|(_, table)| strings(table)).collect()
}

/// A reference to another table's case, such as `table[3].metadata`.
fn dereference<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(text) = value.get("$const").and_then(Value::as_str) else { return value };
    let parts = text.split_once('[').and_then(|(table, rest)| {
        let (index, field) = rest.split_once("].")?;
        Some((table, index.parse::<usize>().ok()?, field))
    });
    match parts {
        Some((table, index, field)) => &document["tables"][table][index][field],
        None => value,
    }
}

async fn scaler_case(
    document: &Value,
    kind: &str,
    case: &Value,
    environment: &BTreeMap<String, String>,
) -> Option<Result<(), String>> {
    if let Some(outcome) = keda_answers::outcome(case).await {
        return Some(outcome);
    }
    let inner = first(case, &["metadataTestData"]).unwrap_or(case);
    let metadata = dereference(
        document,
        first(inner, &["metadata"]).or_else(|| case.get("name").and(Some(&Value::Null)))?,
    );
    if !metadata.is_object() && first(case, &["wantErr"]).is_none() {
        return None;
    }
    let mut env = environment.clone();
    env.extend(
        first(case, &["resolvedEnv"]).or(first(inner, &["resolvedEnv"])).map(strings).unwrap_or_default(),
    );
    let namespace = dereference(document, first(inner, &["namespace"]).unwrap_or(&Value::Null));
    let metric_type =
        first(inner, &["metricType"]).and_then(|value| value.get("$const")).and_then(Value::as_str);
    let metric_type = match metric_type {
        Some("v2.AverageValueMetricType") => Some(MetricType::AverageValue),
        Some("v2.ValueMetricType") => Some(MetricType::Value),
        Some("v2.UtilizationMetricType") => Some(MetricType::Utilization),
        _ => None,
    };
    let index = first(case, &["triggerIndex", "scaleIndex"]).and_then(Value::as_u64).unwrap_or(0);
    let config = TriggerConfig {
        namespace: namespace.as_str().unwrap_or("default").to_owned(),
        index: usize::try_from(index).unwrap_or(0),
        metric_type,
        metadata: strings(metadata),
        auth: first(inner, &["authParams", "authParam"]).map(strings).unwrap_or_default(),
        env,
        pod_identity: PodIdentity(
            first(inner, &["podIdentityProvider"]).and_then(Value::as_str).unwrap_or_default().to_owned(),
        ),
        ..TriggerConfig::new(kind)
    };
    let stored = first(case, &["configMapData", "secretData"]);
    let stage = Stage {
        data: stored.map(strings).unwrap_or_default(),
        pods: usize::try_from(first(case, &["podCount"]).and_then(Value::as_u64).unwrap_or(0)).unwrap_or(0),
        is_there: stored.is_some(),
    };
    let settings = Settings { cluster: Some(Arc::new(stage)), ..Settings::new(Arc::new(SystemClock::new())) };
    let sources = Sources::new(settings);
    let scaler = sources.scaler(&config).map_err(|error| error.to_string());
    Some(judge(case, inner, scaler).await)
}

async fn judge(case: &Value, inner: &Value, scaler: Result<Arc<dyn Scaler>, String>) -> Result<(), String> {
    let is_true = |name: &str| first(inner, &[name]).and_then(Value::as_bool);
    let wants_error =
        is_true("isError").or(is_true("raisesError")).unwrap_or_else(|| first(case, &["wantErr"]).is_some());
    if case.get("expectError").and_then(Value::as_bool) == Some(true) {
        let error = match scaler {
            Err(error) => error,
            Ok(scaler) => match scaler.read("").await {
                Ok(reading) => return Err(format!("expected an error, read {reading:?}")),
                Err(error) => error.to_string(),
            },
        };
        let wanted = case["errorContains"].as_str().unwrap_or_default();
        return if error.contains(wanted) {
            Ok(())
        } else {
            Err(format!("{error:?} does not say {wanted:?}"))
        };
    }
    let scaler = match (scaler, wants_error) {
        (Err(_), true) => return Ok(()),
        (Err(error), false) => return Err(error),
        (Ok(_), true) => return Err("accepted".into()),
        (Ok(scaler), false) => scaler,
    };
    let names_given = first(case, &["expectedName", "metricName"]).or_else(|| {
        let name = case.get("name")?;
        name.as_str()?
            .starts_with('s')
            .then_some(name)
            .filter(|name| name.as_str().is_some_and(is_metric_name))
    });
    if let Some(wanted) = names_given.and_then(Value::as_str) {
        let metrics = scaler.metrics().await.map_err(|error| error.to_string())?;
        let found = metrics.first().and_then(|metric| metric.external_name()).unwrap_or_default();
        if found != wanted {
            return Err(format!("the metric is called {found:?}, not {wanted:?}"));
        }
    }
    if let Some(wanted) = first(case, &["wantMeta"]) {
        parsed_as(wanted, &scaler.metrics().await.map_err(|error| error.to_string())?)?;
    }
    let wants_active = first(case, &["active", "expectedActive"]).and_then(Value::as_bool);
    let wants_value = first(case, &["expectedValue"]).and_then(Value::as_f64);
    if wants_active.is_some() || wants_value.is_some() {
        let reading = scaler.read("").await.map_err(|error| error.to_string())?;
        if wants_active.is_some_and(|wanted| wanted != reading.active)
            || wants_value.is_some_and(|wanted| wanted != reading.value)
        {
            return Err(format!("read {reading:?}"));
        }
    }
    Ok(())
}

/// What parsing is to give, as far as the metric shows it: what is counted and the target.
fn parsed_as(wanted: &Value, metrics: &[MetricSpec]) -> Result<(), String> {
    // Which of a stream's counts is used follows from what is set; the others are zero or left out.
    let count = match (wanted["ListName"].is_string(), first(wanted, &["ConsumerGroupName"])) {
        (true, _) => "ListLength",
        (false, None) => "TargetStreamLength",
        (false, Some(_)) if wanted["TargetLag"].as_i64().unwrap_or(0) > 0 => "TargetLag",
        (false, Some(_)) => "TargetPendingEntriesCount",
    };
    let (base, key) = match wanted["ListName"].as_str() {
        Some(list) => ("redis", Some(list)),
        None => ("redis-streams", wanted["StreamName"].as_str()),
    };
    let key = key.ok_or_else(|| format!("wantMeta names no key: {wanted}"))?;
    let target = wanted[count].as_f64().ok_or_else(|| format!("wantMeta has no {count}: {wanted}"))?;
    match metrics {
        [MetricSpec::External { name, target: found, .. }] => {
            same((name.as_str(), found.as_f64()), (format!("s0-{base}-{key}").as_str(), target))
        }
        other => Err(format!("metrics are {other:?}, wanted one that is external")),
    }
}

/// `s` and a number before a dash.
fn is_metric_name(text: &str) -> bool {
    let digits = text.strip_prefix('s').and_then(|rest| rest.split_once('-')).map(|(digits, _)| digits);
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

// === the core ===

pub(crate) fn core(data: &Path) -> Option<Vec<Case>> {
    let mut cases = Vec::new();
    let mut add = |name: String, outcome: Result<(), String>| cases.push(Case::new(name, outcome));
    for (file, test, judge) in TABLES {
        let document = read(data, file)?;
        let tables = list(&document["local"]).iter().filter(|table| table["test"] == *test);
        for table in tables {
            let rows = list(first(table, &["value", "cases"]).unwrap_or(&Value::Null));
            for (index, row) in rows.iter().enumerate() {
                let title = row["name"].as_str().map_or_else(|| index.to_string(), str::to_owned);
                if let Some(outcome) = judge(row) {
                    add(format!("{test}/{title}"), outcome);
                }
            }
        }
    }
    let jobs_document = read(data, "core/scale_jobs.json")?;
    add("TestGenerateJobs".into(), generated_job(&jobs_document));
    Some(cases)
}

type Judge = fn(&Value) -> Option<Result<(), String>>;

const TABLES: &[(&str, &str, Judge)] = &[
    ("core/scaledobject_types.json", "TestCheckFallbackValid", fallback_valid),
    ("core/scaledobject_types.json", "TestHasPausedAnnotation", paused),
    ("core/scaledobject_types.json", "TestIsUsingModifiers", modifiers),
    ("core/scaledobject_types.json", "TestCheckReplicaCountBoundsAreValid", bounds),
    ("core/scaledobject_types.json", "TestGetHPAReplicas", hpa_replicas),
    ("core/scaledjob_types.json", "TestScaledJob", job_replicas),
    ("core/scaletriggers_types.json", "TestValidateTriggers", validate_triggers),
    ("core/scale_jobs.json", "TestGetPendingJobCount", pending),
    ("core/scale_resolvers.json", "TestResolveDependentEnv", dependent_environment),
    ("scalers/scaler.json", "TestRemoveIndexFromMetricName", index_removed),
    ("scalers/scaler.json", "TestGetMetricTargetType", target_type),
    ("scalers/scaler.json", "TestGenerateMetricInMili", amount),
];

/// Go's field names in the API's spelling, its constructors as what they make.
fn api(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            if map.get("$call").and_then(Value::as_str).is_some_and(|call| call.starts_with("new(")) {
                return api(&map["args"][0]);
            }
            if let Some(name) = map.get("$const").and_then(Value::as_str) {
                let last = name.rsplit('.').next().unwrap_or_default();
                return json!(last.trim_end_matches("MetricType").trim_start_matches("Pod"));
            }
            let fields = map.iter().filter(|(key, _)| !key.starts_with('$'));
            fields.map(|(key, value)| (spelled(key), api(value))).collect()
        }
        Value::Array(items) => items.iter().map(api).collect(),
        other => other.clone(),
    }
}

fn spelled(key: &str) -> String {
    let mut chars = key.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

fn spec(row: &Value) -> Result<ScaledObjectSpec, String> {
    let mut spec = api(&row["scaledObject"]["Spec"]);
    drop_nulls(&mut spec);
    serde_json::from_value(spec).map_err(|error| format!("reading scaledObject.Spec of the case: {error}"))
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn expect_error(outcome: Result<(), String>, wants: bool, says: &str) -> Result<(), String> {
    match (outcome, wants) {
        (Ok(()), false) => Ok(()),
        (Ok(()), true) => Err(format!("expected an error that says {says:?}")),
        (Err(error), false) => Err(error),
        (Err(error), true) if error.contains(says) => Ok(()),
        (Err(error), true) => Err(format!("{error:?} does not say {says:?}")),
    }
}

fn wanted_error(row: &Value, outcome: Result<(), String>) -> Result<(), String> {
    let wants = row["expectedError"].as_bool().unwrap_or(false);
    expect_error(outcome, wants, row["errorContains"].as_str().unwrap_or_default())
}

fn same<T: PartialEq + std::fmt::Debug>(found: T, wanted: T) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("found {found:?}, wanted {wanted:?}")) }
}

fn fallback_valid(row: &Value) -> Option<Result<(), String>> {
    Some(spec(row).and_then(|spec| wanted_error(row, validate::fallback(&spec))))
}

fn bounds(row: &Value) -> Option<Result<(), String>> {
    Some(spec(row).and_then(|spec| wanted_error(row, validate::replica_bounds(&spec))))
}

fn paused(row: &Value) -> Option<Result<(), String>> {
    Some(same(annotations::is_paused(&strings(&row["annotations"])), row["expectResult"].as_bool()?))
}

fn modifiers(row: &Value) -> Option<Result<(), String>> {
    let wanted = row["expectResult"].as_bool()?;
    Some(spec(row).and_then(|spec| same(spec.modifiers().is_some(), wanted)))
}

fn number(value: &Value) -> Option<i32> {
    api(value).as_i64().and_then(|number| i32::try_from(number).ok())
}

fn hpa_replicas(row: &Value) -> Option<Result<(), String>> {
    let spec = ScaledObjectSpec {
        min_replica_count: number(&row["minReplicaCount"]),
        max_replica_count: number(&row["maxReplicaCount"]),
        ..ScaledObjectSpec::default()
    };
    let wanted = (number(&row["expectedMin"])?, number(&row["expectedMax"])?);
    Some(same((spec.hpa_min(), spec.hpa_max()), wanted))
}

fn job_replicas(row: &Value) -> Option<Result<(), String>> {
    let spec = ScaledJobSpec {
        min_replica_count: number(&row["minReplicas"]),
        max_replica_count: number(&row["maxReplicas"]),
        ..ScaledJobSpec::default()
    };
    let wanted = (row["expectedMin"].as_i64()?, row["expectedMax"].as_i64()?);
    Some(same((spec.min_replicas(), spec.max_replicas()), wanted))
}

fn validate_triggers(row: &Value) -> Option<Result<(), String>> {
    let says = row["expectedErrMsg"].as_str()?;
    let triggers = serde_json::from_value::<Vec<ScaleTrigger>>(api(&row["triggers"]));
    let triggers = triggers.map_err(|error| format!("reading triggers of the case: {error}"));
    Some(triggers.and_then(|triggers| expect_error(validate::triggers(&triggers), !says.is_empty(), says)))
}

fn pending(row: &Value) -> Option<Result<(), String>> {
    let statuses = match row.get("PodStatuses") {
        Some(several) => list(several).to_vec(),
        None => vec![row["PodStatus"].clone()],
    };
    let pods: Vec<Pod> = statuses.iter().map(pod).collect::<Option<_>>()?;
    let conditions: Vec<String> =
        list(&row["PendingPodConditions"]).iter().filter_map(|c| Some(c.as_str()?.to_owned())).collect();
    let found = i64::from(jobs::is_pending(pods.iter(), &conditions));
    Some(same(found, row["PendingJobCount"].as_i64()?))
}

fn pod(status: &Value) -> Option<Pod> {
    let conditions: Vec<Value> = list(&status["Conditions"])
        .iter()
        .map(|call| {
            let name = call["args"][0]["$const"].as_str().unwrap_or_default();
            let kind = match name {
                "v1.PodReady" => "Ready",
                "v1.PodScheduled" => "PodScheduled",
                other => other.trim_start_matches("v1."),
            };
            json!({"type": kind, "status": "True"})
        })
        .collect();
    serde_json::from_value(json!({"status": {"phase": api(&status["Phase"]), "conditions": conditions}})).ok()
}

fn dependent_environment(row: &Value) -> Option<Result<(), String>> {
    let mut variables = BTreeMap::new();
    for variable in list(&row["container"]["Env"]) {
        let value = resolve::expand(variable["Value"].as_str()?, &variables);
        variables.insert(variable["Name"].as_str()?.to_owned(), value);
    }
    Some(same(variables, strings(&row["expected"])))
}

fn index_removed(row: &Value) -> Option<Result<(), String>> {
    let index = usize::try_from(row["triggerIndex"].as_u64()?).ok()?;
    let found = without_index(index, row["metricName"].as_str()?);
    Some(match (found, row["isError"].as_bool()?) {
        (Err(_), true) => Ok(()),
        (Ok(found), false) => same(found, row["expectedMetricNameWithoutIndexPrefix"].as_str()?),
        (found, _) => Err(format!("{found:?}")),
    })
}

fn target_type(row: &Value) -> Option<Result<(), String>> {
    let text = api(&row["config"]["MetricType"]);
    let given = MetricType::parse(text.as_str().unwrap_or_default()).ok()?;
    let found = MetricType::external(given).map(|found| found.as_str().to_owned());
    Some(match row["wantErr"].is_null() {
        true => same(found, Ok(api(&row["wantmetricType"]).as_str()?.to_owned())),
        false => same(found, Err(row["wantErr"]["args"][0].as_str()?.to_owned())),
    })
}

fn amount(row: &Value) -> Option<Result<(), String>> {
    let value = match row["value"]["$call"].as_str() {
        Some("math.NaN") => f64::NAN,
        Some("math.Inf") if row["value"]["args"][0].as_i64().is_some_and(|sign| sign < 0) => {
            f64::NEG_INFINITY
        }
        Some("math.Inf") => f64::INFINITY,
        Some(other) => return Some(Err(format!("{other} is not known"))),
        None => row["value"].as_f64()?,
    };
    // The rows state their rule in their names alone.
    let is_zero = row["name"].as_str().is_some_and(|name| name.ends_with("treated as zero"));
    Some(same(Amount::of(value).as_f64(), if is_zero { 0.0 } else { value }))
}

fn generated_job(document: &Value) -> Result<(), String> {
    let expected = |name: &str| {
        let found = list(&document["local"]).iter().find(|table| table["var"] == name);
        found.map(|table| strings(&table["value"])).unwrap_or_default()
    };
    let object: ScaledJob = serde_json::from_value(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob",
        "metadata": {"name": "test", "labels": {"test": "test"}, "annotations": {"test": "test"}},
        "spec": {"jobTargetRef": {"template": {}}, "triggers": []},
    }))
    .map_err(|error| error.to_string())?;
    let job = scaled_job::job_of(&object);
    let mut labels = job.metadata.labels.unwrap_or_default();
    let mut wanted = expected("expectedLabels");
    // The version is ours, not theirs.
    labels.remove("app.kubernetes.io/version");
    wanted.remove("app.kubernetes.io/version");
    same(labels, wanted)?;
    same(job.metadata.annotations.unwrap_or_default(), expected("expectedAnnotations"))
}
