//! Server-side apply, and who owns what after other writes.

use gantry_apimachinery::Value;

use crate::harness::{Api, message};

const CM: &str = "/api/v1/namespaces/default/configmaps";

fn owners(object: &Value) -> String {
    let entries = object.at(&["metadata", "managedFields"]).and_then(Value::as_array).cloned();
    let told: Vec<String> = entries
        .unwrap_or_default()
        .iter()
        .map(|entry| {
            let text = |field: &str| entry.str_at(&[field]).unwrap_or_default().to_owned();
            let fields = serde_json::to_string(entry.get("fieldsV1").unwrap_or(&Value::NULL)).unwrap();
            format!("{} {}{} {fields}", text("manager"), text("operation"), text("subresource"))
        })
        .collect();
    told.join("\n")
}

fn config(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {data}\n")
}

async fn apply(api: &Api, query: &str, text: &str) -> (u16, Value) {
    let path = format!("{CM}/c?{query}");
    let (status, text) =
        api.send(http::Method::PATCH, &path, "application/apply-patch+yaml", "application/json", text).await;
    (status.as_u16(), serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn fields_are_applied_taken_over_and_given_up() {
    let api = Api::start().await;
    let (code, object) = apply(&api, "fieldManager=one", &config("{a: '1', b: '1'}")).await;
    assert_eq!(code, 201);
    assert_eq!(owners(&object), r#"one Apply {"f:data":{"f:a":{},"f:b":{}}}"#);
    let (code, failure) = apply(&api, "", &config("{a: '1'}")).await;
    assert_eq!((code, message(&failure).contains("is required for apply patch")), (422, true));
    let (code, failure) = apply(&api, "fieldManager=two", &config("{a: '2'}")).await;
    assert_eq!(
        (code, message(&failure)),
        (409, "Apply failed with 1 conflict: conflict with \"one\": .data.a")
    );
    let (code, object) = apply(&api, "fieldManager=two&force=true", &config("{a: '2'}")).await;
    assert_eq!(code, 200);
    assert_eq!(owners(&object), "one Apply {\"f:data\":{\"f:b\":{}}}\ntwo Apply {\"f:data\":{\"f:a\":{}}}");
    let (_, object) = apply(&api, "fieldManager=one", &config("{c: '3'}")).await;
    assert_eq!(serde_json::to_string(object.get("data").unwrap()).unwrap(), r#"{"a":"2","c":"3"}"#);
    let before = object.str_at(&["metadata", "resourceVersion"]).map(str::to_owned);
    let (_, object) = apply(&api, "fieldManager=one", &config("{c: '3'}")).await;
    assert_eq!(object.str_at(&["metadata", "resourceVersion"]), before.as_deref());
    let (code, failure) =
        apply(&api, "fieldManager=one", &config("{c: '3'}").replace("\ndata", "\ndota")).await;
    assert_eq!(code, 500);
    assert_eq!(
        message(&failure),
        "failed to create typed patch object (default/c; v1, Kind=ConfigMap): .dota: field not declared in schema"
    );
}

#[tokio::test]
async fn every_write_says_who_owns_what() {
    let api = Api::start().await;
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"},"data":{"a":"b"}}"#;
    let (_, object) = api.post(&format!("{CM}?fieldManager=me"), body).await;
    assert_eq!(owners(&object), r#"me Update {"f:data":{".":{},"f:a":{}}}"#);
    let path = format!("{CM}/m");
    let (_, object) = api.patch(&format!("{path}?fieldManager=you"), "merge", r#"{"data":{"c":"d"}}"#).await;
    let told = owners(&object);
    assert!(told.contains(r#"you Update {"f:data":{"f:c":{}}}"#), "{told}");
    let (_, object) = api.patch(&path, "merge", r#"{"metadata":{"managedFields":[{}]}}"#).await;
    assert_eq!(owners(&object), "");
    let (_, object) = api.patch(&path, "merge", r#"{"data":{"c":"e"}}"#).await;
    assert_eq!(owners(&object), "", "what nobody tracks stays untracked");
}

#[tokio::test]
async fn a_scale_and_a_status_have_owners_of_their_own() {
    let api = Api::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let body = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}]}]}}}}"#;
    let (code, object) = api.post(&format!("{deployments}?fieldManager=me"), body).await;
    assert_eq!(code, 201);
    assert!(owners(&object).contains(r#""f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}""#));
    assert!(!owners(&object).contains("f:status"));
    let scale =
        r#"{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"d"},"spec":{"replicas":4}}"#;
    api.put(&format!("{deployments}/d/scale?fieldManager=scaler"), scale).await;
    let status = r#"{"status":{"observedGeneration":7},"spec":{"replicas":9}}"#;
    let (_, object) =
        api.patch(&format!("{deployments}/d/status?fieldManager=watcher"), "merge", status).await;
    let told = owners(&object);
    assert!(told.contains(r#"scaler Updatescale {"f:spec":{"f:replicas":{}}}"#), "{told}");
    assert!(told.contains(r#"watcher Updatestatus {"f:status":{"f:observedGeneration":{}}}"#), "{told}");
    assert_eq!(object.at(&["spec", "replicas"]).and_then(Value::as_i64), Some(4));
}
