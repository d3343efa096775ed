//! HorizontalPodAutoscalers at the API: what is refused with which words, and what behaviours are by default.

use std::path::Path;

use gantry_apiserver::{ApiServer, Config, UserInfo};
use gantry_clock::SystemClock;
use kube::Client;
use kube::api::{Api, ApiResource, PostParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::Case;

fn read(data: &Path, file: &str) -> Option<Value> {
    let text = std::fs::read_to_string(data.join("autoscaling/hpa").join(file)).ok()?;
    serde_json::from_str(&text).ok()
}

fn tables<'v>(read: &'v Value, test: &str, name: &str) -> &'v [Value] {
    let tables = read.as_array().map(Vec::as_slice).unwrap_or_default();
    let table = tables.iter().find(|table| table["test"] == test && table["var"] == name);
    table.and_then(|table| table["value"].as_array()).map(Vec::as_slice).unwrap_or_default()
}

/// A Go literal of the internal types as a client would write it.
fn written(value: &Value) -> Value {
    match value {
        Value::Object(map) if map.contains_key("$const") => {
            let text = value["$const"].as_str().unwrap_or_default();
            let name = text.rsplit('.').next().unwrap_or(text);
            let kinds = ["MetricSourceType", "MetricType", "ScalingPolicy", "PolicySelect"];
            let name = kinds.iter().find_map(|kind| name.strip_suffix(kind)).unwrap_or(name);
            json!(match name {
                "ResourceCPU" => "cpu",
                "ResourceMemory" => "memory",
                "NamespaceDefault" => "default",
                "MaxChange" | "MaxPolicy" => "Max",
                "MinChange" | "MinPolicy" => "Min",
                name => name,
            })
        }
        Value::Object(map) if map.contains_key("$call") => {
            let (call, args) = (value["$call"].as_str().unwrap_or_default(), &value["args"]);
            match call.rsplit('.').next().unwrap_or_default() {
                "NewMilliQuantity" => json!(format!("{}m", args[0])),
                "NewQuantity" => json!(args[0].to_string()),
                "ParseToLabelSelector" => {
                    let pairs = args[0].as_str().unwrap_or_default().split(',');
                    let labels: serde_json::Map<String, Value> = pairs
                        .filter_map(|pair| pair.split_once('='))
                        .map(|(name, value)| (name.trim().to_owned(), json!(value.trim())))
                        .collect();
                    json!({"matchLabels": labels})
                }
                _ => written(&args[0]),
            }
        }
        Value::Object(map) => {
            let fields = map.iter().filter(|(name, _)| *name != "$type").map(|(name, value)| {
                let name = match name.as_str() {
                    "ObjectMeta" => "metadata".to_owned(),
                    "APIVersion" => "apiVersion".to_owned(),
                    name => name[..1].to_lowercase() + &name[1..],
                };
                (name, written(value))
            });
            Value::Object(fields.collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(written).collect()),
        other => other.clone(),
    }
}

fn has_code(value: &Value) -> bool {
    let text = value.to_string();
    text.contains("$expr") || text.contains("$func")
}

pub(crate) fn validation(data: &Path) -> Option<Vec<Case>> {
    let read = read(data, "validation_v1.28.json")?;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(Case::not_started("start a runtime", error)),
    };
    runtime.block_on(async {
        let clock = std::sync::Arc::new(SystemClock::new());
        let server = match ApiServer::open(Config::ephemeral(clock)).await {
            Ok(server) => server,
            Err(error) => return Some(Case::not_started("open the API server", error)),
        };
        let client = Client::new(server.service_as(UserInfo::admin()), "default");
        let mut cases = Vec::new();
        const TEST: &str = "TestValidateHorizontalPodAutoscaler";
        for (index, object) in tables(&read, TEST, "successCases").iter().enumerate() {
            if !has_code(object) {
                let outcome = create(&client, written(object)).await;
                cases.push(Case::new(
                    format!("{TEST} success {index}"),
                    outcome.map(|_| ()).map_err(|e| format!("refused: {e}")),
                ));
            }
        }
        for (index, case) in tables(&read, TEST, "errorCases").iter().enumerate() {
            if !has_code(case) {
                let outcome = refused(&client, written(&case["horizontalPodAutoscaler"]), &case["msg"]).await;
                cases.push(Case::new(format!("{TEST} error {index}"), outcome));
            }
        }
        for (index, case) in tables(&read, "TestValidateBehavior", "errorCases").iter().enumerate() {
            if has_code(case) {
                continue;
            }
            let mut behavior = written(&case["behavior"]);
            for direction in ["scaleUp", "scaleDown"] {
                // The internal type has no policies where the API would fill in the default ones.
                if behavior[direction].is_object() && behavior[direction]["policies"].is_null() {
                    behavior[direction]["policies"] = json!([]);
                }
            }
            let object = json!({"metadata": {"name": "myautoscaler"}, "spec": {
                "scaleTargetRef": {"kind": "ReplicationController", "name": "myrc"},
                "minReplicas": 1, "maxReplicas": 5, "behavior": behavior,
            }});
            cases.push(Case::new(
                format!("TestValidateBehavior {index}"),
                refused(&client, object, &case["msg"]).await,
            ));
        }
        Some(cases)
    })
}

/// What a behaviour's rules are when the API has filled them in.
pub(crate) fn defaults(data: &Path) -> Option<Vec<Case>> {
    let read = read(data, "defaults_v2_v1.28.json")?;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(Case::not_started("start a runtime", error)),
    };
    runtime.block_on(async {
        let clock = std::sync::Arc::new(SystemClock::new());
        let server = match ApiServer::open(Config::ephemeral(clock)).await {
            Ok(server) => server,
            Err(error) => return Some(Case::not_started("open the API server", error)),
        };
        let client = Client::new(server.service_as(UserInfo::admin()), "default");
        let mut cases = Vec::new();
        for (test, direction, word) in [
            ("TestGenerateScaleDownRules", "scaleDown", "Down"),
            ("TestGenerateScaleUpRules", "scaleUp", "Up"),
        ] {
            for case in tables(&read, test, "tests") {
                let name = format!("{test} {}", case["annotation"].as_str().unwrap_or_default());
                cases.push(Case::new(name, filled_in(&client, direction, word, case).await));
            }
        }
        Some(cases)
    })
}

async fn filled_in(client: &Client, direction: &str, word: &str, case: &Value) -> Result<(), String> {
    let mut rules = json!({});
    let policies: Vec<Value> = ["Pods", "Percent"]
        .into_iter()
        .filter_map(|kind| {
            let field = |suffix: &str| case[format!("rate{word}{kind}{suffix}")].clone();
            let (value, period) = (field(""), field("PeriodSeconds"));
            (!value.is_null()).then(|| json!({"type": kind, "value": value, "periodSeconds": period}))
        })
        .collect();
    if !policies.is_empty() {
        rules["policies"] = json!(policies);
    }
    for (field, given) in
        [("stabilizationWindowSeconds", "stabilizationSeconds"), ("selectPolicy", "selectPolicy")]
    {
        if !case[given].is_null() {
            rules[field] = written(&case[given]);
        }
    }
    let mut object = json!({"metadata": {"name": "myautoscaler"}, "spec": {
        "scaleTargetRef": {"kind": "ReplicationController", "name": "myrc"}, "minReplicas": 1, "maxReplicas": 5,
    }});
    object["spec"]["behavior"] = json!({direction: rules});
    let made = create(client, object).await?;
    let found = &made["spec"]["behavior"][direction];
    let expected = (
        written(&case["expectedPolicies"]),
        written(&case["expectedStabilization"]),
        written(&case["expectedSelectPolicy"]),
    );
    let found = (
        found["policies"].clone(),
        found["stabilizationWindowSeconds"].clone(),
        found["selectPolicy"].clone(),
    );
    if expected == found { Ok(()) } else { Err(format!("expected {expected:?}, got {found:?}")) }
}

/// What the server makes of it, without keeping it.
async fn create(client: &Client, mut object: Value) -> Result<Value, String> {
    object["apiVersion"] = json!("autoscaling/v2");
    object["kind"] = json!("HorizontalPodAutoscaler");
    if object["metadata"].is_null() {
        object["metadata"] = json!({"name": "myautoscaler"});
    }
    let resource = ApiResource {
        group: "autoscaling".into(),
        version: "v2".into(),
        api_version: "autoscaling/v2".into(),
        kind: "HorizontalPodAutoscaler".into(),
        plural: "horizontalpodautoscalers".into(),
    };
    let object: DynamicObject = serde_json::from_value(object).map_err(|e| e.to_string())?;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    match api.create(&parameters, &object).await {
        Ok(made) => serde_json::to_value(made).map_err(|error| error.to_string()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(other) => Err(other.to_string()),
    }
}

async fn refused(client: &Client, object: Value, message: &Value) -> Result<(), String> {
    let message = message.as_str().unwrap_or_default();
    match create(client, object).await {
        Err(error) if error.contains(message) => Ok(()),
        Err(error) => Err(format!("expected {message:?} in {error:?}")),
        Ok(_) => Err(format!("accepted, expected {message:?}")),
    }
}
