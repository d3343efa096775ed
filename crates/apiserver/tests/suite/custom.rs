//! Custom resources: what their schemas keep, fill in and refuse, and what is published of them.

use gantry_apimachinery::Value;

use crate::harness::{Api, message};

const TOYS: &str = "/apis/play.example.com/v1/namespaces/default/toys";
const DEFINITION: &str = r#"{"metadata":{"name":"toys.play.example.com"},"spec":{"group":"play.example.com","scope":"Namespaced",
"names":{"plural":"toys","kind":"Toy"},"versions":[{"name":"v1","served":true,"storage":true,"subresources":{"status":{}},
"schema":{"openAPIV3Schema":{"type":"object","required":["spec"],"properties":{
 "spec":{"type":"object","required":["size"],
  "x-kubernetes-validations":[{"rule":"self.count <= self.size * 10","message":"too many for its size"},{"rule":"self.size >= oldSelf.size","message":"toys do not shrink"}],
  "properties":{"size":{"type":"integer","minimum":1},"colour":{"type":"string","enum":["red","green"],"default":"red"},"count":{"type":"integer","default":1},
   "parts":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["name"],"items":{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"weight":{"type":"number"}}}}}},
 "status":{"type":"object","properties":{"phase":{"type":"string"}}}}}}}]}}"#;

async fn start() -> Api {
    let api = Api::start().await;
    let (code, created) =
        api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION).await;
    assert_eq!(code, 201, "{created:?}");
    api
}

fn toy(name: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion":"play.example.com/v1","kind":"Toy","metadata":{{"name":"{name}"}},"spec":{spec}}}"#
    )
}

#[tokio::test]
async fn unknown_fields_go_defaults_come_and_mistakes_are_named() {
    let api = start().await;
    let (code, object) = api.post(TOYS, &toy("a", r#"{"size":3,"nonsense":1}"#)).await;
    assert_eq!(code, 201, "{object:?}");
    assert_eq!(
        serde_json::to_string(object.get("spec").unwrap()).unwrap(),
        r#"{"size":3,"colour":"red","count":1}"#
    );
    let (code, refused) =
        api.post(&format!("{TOYS}?fieldValidation=Strict"), &toy("b", r#"{"size":3,"nonsense":1}"#)).await;
    assert_eq!(code, 400);
    assert!(message(&refused).contains("strict decoding error: unknown field \"spec.nonsense\""));
    for (spec, expected) in [
        (
            r#"{"size":0,"count":0}"#,
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (
            "{}",
            "[spec.size: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]",
        ),
        (r#"{"size":1,"count":50}"#, "spec: Invalid value: too many for its size"),
        (
            r#"{"size":1,"parts":[{"name":"x"},{"name":"x"}]}"#,
            r#"spec.parts[1]: Duplicate value: {"name":"x"}"#,
        ),
    ] {
        let (code, refused) = api.post(TOYS, &toy("b", spec)).await;
        assert_eq!(
            (code, message(&refused)),
            (422, format!("Toy.play.example.com \"b\" is invalid: {expected}").as_str())
        );
    }
    let (code, refused) = api.patch(&format!("{TOYS}/a"), "merge", r#"{"spec":{"size":2}}"#).await;
    assert_eq!(code, 422);
    assert!(message(&refused).contains("toys do not shrink"));
    let status = r#"{"status":{"phase":"Playing","other":1},"spec":{"size":1}}"#;
    let (code, object) = api.patch(&format!("{TOYS}/a/status"), "merge", status).await;
    assert_eq!((code, object.str_at(&["status", "phase"])), (200, Some("Playing")));
    assert!(object.at(&["status", "other"]).is_none());
    assert_eq!(object.at(&["spec", "size"]).and_then(Value::as_i64), Some(3));
}

#[tokio::test]
async fn what_a_newer_schema_forbids_may_stay_as_it_was() {
    let api = start().await;
    assert_eq!(api.post(TOYS, &toy("a", r#"{"size":3,"count":30}"#)).await.0, 201);
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/toys.play.example.com";
    let (_, definition) = api.get(path).await;
    let definition = serde_json::to_string(&definition).unwrap();
    let stricter =
        definition.replace("self.size * 10", "self.size").replace("\"minimum\":1", "\"minimum\":9");
    assert_eq!(api.put(path, &stricter).await.0, 200);
    let toy = format!("{TOYS}/a");
    let (code, labelled) = api.patch(&toy, "merge", r#"{"metadata":{"labels":{"a":"b"}}}"#).await;
    assert_eq!(code, 200, "{labelled:?}");
    let (code, refused) = api.patch(&toy, "merge", r#"{"spec":{"count":29}}"#).await;
    assert_eq!(code, 422, "{refused:?}");
    assert!(message(&refused).contains("too many for its size"), "{refused:?}");
    assert!(!message(&refused).contains("greater than or equal to"), "{refused:?}");
    assert_eq!(api.patch(&format!("{toy}/status"), "merge", r#"{"status":{"phase":"x"}}"#).await.0, 200);
}

#[tokio::test]
async fn a_rule_that_is_none_is_refused() {
    let api = Api::start().await;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, refused) =
        api.post(path, &DEFINITION.replace("self.size >= oldSelf.size", "self.size >=")).await;
    assert_eq!(code, 422, "{refused:?}");
    let field = "openAPIV3Schema.properties[spec].x-kubernetes-validations[1].rule: at character 13: expected a value";
    assert!(message(&refused).contains(field), "{refused:?}");
    let missing = DEFINITION.replace("self.size >= oldSelf.size", "isQuantity(self.size)");
    assert_eq!(api.post(path, &missing).await.0, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_definition_is_served_whatever_else_is_read_anew() {
    let api = std::sync::Arc::new(Api::start().await);
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reloading = std::thread::spawn({
        let (server, done) = (api.server.clone(), done.clone());
        move || {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                server.reload_apis();
            }
        }
    });
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..24 {
        let api = api.clone();
        writes.spawn(async move {
            let definition = DEFINITION.replace("play.example.com", &format!("play{number}.example.com"));
            api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.0
        });
    }
    while let Some(code) = writes.join_next().await {
        assert_eq!(code.unwrap(), 201);
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    reloading.join().unwrap();
    for number in 0..24 {
        let toys = TOYS.replace("play.example.com", &format!("play{number}.example.com"));
        assert_eq!(api.get(&toys).await.0, 200, "{toys}");
    }
}

#[tokio::test]
async fn appliers_share_a_list_by_its_keys() {
    let api = start().await;
    for (manager, part) in [("one", "arm"), ("two", "leg")] {
        let config = toy("a", &format!(r#"{{"size":3,"parts":[{{"name":"{part}"}}]}}"#));
        let path = format!("{TOYS}/a?fieldManager={manager}");
        let (status, text) = api
            .send(http::Method::PATCH, &path, "application/apply-patch+yaml", "application/json", &config)
            .await;
        assert!(status.is_success(), "{text}");
    }
    let (_, object) = api.get(&format!("{TOYS}/a")).await;
    let parts = serde_json::to_string(object.at(&["spec", "parts"]).unwrap()).unwrap();
    assert_eq!(parts, r#"[{"name":"arm"},{"name":"leg"}]"#);
}

#[tokio::test]
async fn documents_describe_every_kind() {
    let api = start().await;
    let (_, index) = api.get("/openapi/v3").await;
    let url = index.str_at(&["paths", "apis/play.example.com/v1", "serverRelativeURL"]).unwrap().to_owned();
    let (code, document) = api.get(&url).await;
    assert_eq!(code, 200);
    let toy = document.at(&["components", "schemas", "com.example.play.v1.Toy"]).unwrap();
    assert_eq!(toy.str_at(&["properties", "spec", "properties", "size", "type"]), Some("integer"));
    let url = index.str_at(&["paths", "apis/apps/v1", "serverRelativeURL"]).unwrap().to_owned();
    let (_, document) = api.get(&url).await;
    let schemas = document.at(&["components", "schemas"]).unwrap();
    let containers =
        schemas.at(&["io.k8s.api.core.v1.PodSpec", "properties", "containers"]).expect("containers");
    assert_eq!(containers.str_at(&["x-kubernetes-patch-merge-key"]), Some("name"));
    assert_eq!(containers.str_at(&["x-kubernetes-list-type"]), Some("map"));
    // Every reference leads somewhere.
    let text = serde_json::to_string(&document).unwrap();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.get(name).is_some(), "{name}");
    }
    let (code, document) = api.get("/openapi/v2").await;
    assert_eq!((code, document.str_at(&["swagger"])), (200, Some("2.0")));
    // kubectl asks so for a kind that is nowhere, and would call JSON broken protobuf instead of naming the kind.
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let (code, document) =
        api.send_bytes(http::Method::GET, "/openapi/v2", "application/json", accept, b"").await;
    assert_eq!((code.as_u16(), document.first()), (200, Some(&0x0a)));
}
