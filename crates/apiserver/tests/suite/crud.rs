use gantry_apimachinery::Value;

use crate::harness::{Api, message};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const DEPLOYMENT: &str = r#"{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"main","image":"web:1"}]}}}}"#;

#[tokio::test]
async fn an_object_is_created_read_changed_and_deleted() {
    let api = Api::start().await;
    let (code, created) = api.post(CONFIG_MAPS, r#"{"metadata":{"name":"a"},"data":{"k":"1"}}"#).await;
    assert_eq!(code, 201);
    assert_eq!(created.str_at(&["kind"]), Some("ConfigMap"));
    assert_eq!(created.str_at(&["metadata", "uid"]).map(str::len), Some(36));
    let (code, again) = api.post(CONFIG_MAPS, r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!((code, message(&again)), (409, "configmaps \"a\" already exists"));
    let version = created.str_at(&["metadata", "resourceVersion"]).unwrap();
    let (code, _) =
        api.put(&format!("{CONFIG_MAPS}/a"), r#"{"metadata":{"name":"a"},"data":{"k":"2"}}"#).await;
    assert_eq!(code, 200);
    let stale = format!(r#"{{"metadata":{{"name":"a","resourceVersion":"{version}"}},"data":{{"k":"3"}}}}"#);
    let (code, conflict) = api.put(&format!("{CONFIG_MAPS}/a"), &stale).await;
    assert_eq!((code, conflict.str_at(&["reason"])), (409, Some("Conflict")));
    let (code, patched) =
        api.patch(&format!("{CONFIG_MAPS}/a"), "merge", r#"{"data":{"k":null,"m":"1"}}"#).await;
    assert_eq!((code, patched.get("data")), (200, serde_json::from_str(r#"{"m":"1"}"#).ok().as_ref()));
    // A dry run shows the change at the version that the object has: nothing was written.
    let (_, dry) = api.patch(&format!("{CONFIG_MAPS}/a?dryRun=All"), "merge", r#"{"data":{"m":"2"}}"#).await;
    assert_eq!(dry.str_at(&["data", "m"]), Some("2"));
    let version = ["metadata", "resourceVersion"];
    assert_eq!(dry.str_at(&version), patched.str_at(&version));
    let (code, deleted) = api.delete(&format!("{CONFIG_MAPS}/a"), "").await;
    assert_eq!((code, deleted.str_at(&["status"])), (200, Some("Success")));
    let (code, gone) = api.get(&format!("{CONFIG_MAPS}/a")).await;
    assert_eq!((code, message(&gone)), (404, "configmaps \"a\" not found"));
}

#[tokio::test]
async fn a_deployment_gets_defaults_status_and_scale() {
    let api = Api::start().await;
    let (code, created) = api.post(DEPLOYMENTS, DEPLOYMENT).await;
    assert_eq!(code, 201, "{created:?}");
    assert_eq!(created.at(&["spec", "replicas"]).and_then(Value::as_i64), Some(1));
    assert_eq!(created.str_at(&["spec", "template", "spec", "dnsPolicy"]), Some("ClusterFirst"));
    let web = format!("{DEPLOYMENTS}/web");
    let (_, scaled) = api.patch(&format!("{web}/scale"), "merge", r#"{"spec":{"replicas":3}}"#).await;
    assert_eq!(scaled.str_at(&["kind"]), Some("Scale"));
    let (_, object) = api
        .patch(&format!("{web}/status"), "merge", r#"{"status":{"replicas":2},"spec":{"replicas":9}}"#)
        .await;
    assert_eq!(object.at(&["spec", "replicas"]).and_then(Value::as_i64), Some(3));
    assert_eq!(object.at(&["status", "replicas"]).and_then(Value::as_i64), Some(2));
    assert_eq!(object.at(&["metadata", "generation"]).and_then(Value::as_i64), Some(2));
    let (_, object) = api
        .patch(
            &web,
            "strategic-merge",
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"s"}]}}}}"#,
        )
        .await;
    let containers =
        object.at(&["spec", "template", "spec", "containers"]).and_then(Value::as_array).unwrap();
    assert_eq!(containers.len(), 2);
}

#[tokio::test]
async fn a_finalizer_holds_a_deleted_object() {
    let api = Api::start().await;
    api.post(CONFIG_MAPS, r#"{"metadata":{"name":"held","finalizers":["x.io/f"]}}"#).await;
    let held = format!("{CONFIG_MAPS}/held");
    let (code, marked) = api.delete(&held, "").await;
    assert_eq!(code, 200);
    assert!(marked.str_at(&["metadata", "deletionTimestamp"]).is_some());
    let (code, refused) =
        api.patch(&held, "merge", r#"{"metadata":{"finalizers":["x.io/f","x.io/g"]}}"#).await;
    assert_eq!(code, 422, "{refused:?}");
    assert_eq!(api.patch(&held, "merge", r#"{"metadata":{"finalizers":null}}"#).await.0, 200);
    assert_eq!(api.get(&held).await.0, 404);
}

#[tokio::test]
async fn lists_page_and_select() {
    let api = Api::start().await;
    for index in 0..5 {
        api.post(
            CONFIG_MAPS,
            &format!(r#"{{"metadata":{{"name":"c{index}","labels":{{"even":"{}"}}}}}}"#, index % 2 == 0),
        )
        .await;
    }
    let names = |list: &Value| -> Vec<String> {
        list.get("items")
            .and_then(Value::as_array)
            .unwrap()
            .iter()
            .map(|item| item.str_at(&["metadata", "name"]).unwrap().to_owned())
            .collect()
    };
    let (_, first) = api.get(&format!("{CONFIG_MAPS}?limit=2")).await;
    assert_eq!(names(&first), ["c0", "c1"]);
    assert_eq!(first.at(&["metadata", "remainingItemCount"]).and_then(Value::as_i64), Some(3));
    api.delete(&format!("{CONFIG_MAPS}/c2"), "").await;
    let token = first.str_at(&["metadata", "continue"]).unwrap();
    let (_, second) = api.get(&format!("{CONFIG_MAPS}?limit=5&continue={token}")).await;
    assert_eq!(names(&second), ["c2", "c3", "c4"], "pages show one revision");
    let (_, even) = api.get(&format!("{CONFIG_MAPS}?labelSelector=even%3Dtrue")).await;
    assert_eq!(names(&even), ["c0", "c4"]);
    let (_, one) = api.get(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dc3")).await;
    assert_eq!(names(&one), ["c3"]);
}

#[tokio::test]
async fn a_watch_tells_everything_once() {
    let api = Api::start().await;
    let (_, created) = api.post(CONFIG_MAPS, r#"{"metadata":{"name":"w","labels":{"x":"1"}}}"#).await;
    let version = created.str_at(&["metadata", "resourceVersion"]).unwrap().to_owned();
    api.patch(&format!("{CONFIG_MAPS}/w"), "merge", r#"{"data":{"k":"1"}}"#).await;
    api.patch(&format!("{CONFIG_MAPS}/w"), "merge", r#"{"metadata":{"labels":{"x":"2"}}}"#).await;
    api.delete(&format!("{CONFIG_MAPS}/w"), "").await;
    let kinds = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap().str_at(&["type"]).unwrap().to_owned())
            .collect()
    };
    let watch = |query: String| {
        let api = &api;
        async move {
            api.send(
                http::Method::GET,
                &format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1&{query}"),
                "",
                "application/json",
                "",
            )
            .await
            .1
        }
    };
    assert_eq!(
        kinds(&watch(format!("resourceVersion={version}")).await),
        ["MODIFIED", "MODIFIED", "DELETED"]
    );
    assert_eq!(
        kinds(&watch(format!("resourceVersion={version}&labelSelector=x%3D1")).await),
        ["MODIFIED", "DELETED"]
    );
    assert_eq!(
        kinds(&watch(format!("resourceVersion={version}&labelSelector=x%3D2")).await),
        ["ADDED", "DELETED"]
    );
    let initial =
        watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true".into())
            .await;
    assert!(initial.contains("k8s.io/initial-events-end"), "{initial}");
}

#[tokio::test]
async fn a_definition_is_served_at_once_and_goes_with_its_objects() {
    let api = Api::start().await;
    let definition = r#"{"metadata":{"name":"toys.play.example.com"},"spec":{"group":"play.example.com","scope":"Namespaced","names":{"plural":"toys","kind":"Toy"},"versions":[{"name":"v1","served":true,"storage":true,"subresources":{"status":{},"scale":{"specReplicasPath":".spec.count","statusReplicasPath":".status.count"}},"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}"#;
    let (code, created) =
        api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    assert_eq!(code, 201, "{created:?}");
    let toys = "/apis/play.example.com/v1/namespaces/default/toys";
    let (code, toy) = api.post(toys, r#"{"metadata":{"name":"robot"},"spec":{"count":2}}"#).await;
    assert_eq!(code, 201, "{toy:?}");
    assert_eq!(toy.str_at(&["kind"]), Some("Toy"));
    let (_, scale) = api.get(&format!("{toys}/robot/scale")).await;
    assert_eq!(scale.at(&["spec", "replicas"]).and_then(Value::as_i64), Some(2));
    assert_eq!(
        api.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/toys.play.example.com", "")
            .await
            .0,
        200
    );
    for _ in 0..200 {
        let (code, _) =
            api.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/toys.play.example.com").await;
        if code == 404 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (status, _) = api.send(http::Method::GET, toys, "", "application/json", "").await;
    assert_eq!(status.as_u16(), 404);
}

#[tokio::test]
async fn services_get_addresses_and_namespaces_must_exist() {
    let api = Api::start().await;
    let services = "/api/v1/namespaces/default/services";
    let (code, service) =
        api.post(services, r#"{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}}"#).await;
    assert_eq!(code, 201, "{service:?}");
    assert!(service.str_at(&["spec", "clusterIP"]).unwrap().starts_with("127."));
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).unwrap();
    assert_eq!(ports[0].get("targetPort").and_then(Value::as_i64), Some(80));
    let (code, absent) = api.post("/api/v1/namespaces/nope/configmaps", r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!((code, message(&absent)), (404, "namespaces \"nope\" not found"));
    api.post("/api/v1/namespaces", r#"{"metadata":{"name":"dying"}}"#).await;
    let (_, marked) = api.delete("/api/v1/namespaces/dying", "").await;
    assert_eq!(marked.str_at(&["status", "phase"]), Some("Terminating"));
    let (code, refused) =
        api.post("/api/v1/namespaces/dying/configmaps", r#"{"metadata":{"name":"late"}}"#).await;
    assert_eq!(code, 403, "{refused:?}");
    api.put("/api/v1/namespaces/dying/finalize", r#"{"metadata":{"name":"dying"},"spec":{"finalizers":[]}}"#)
        .await;
    assert_eq!(api.get("/api/v1/namespaces/dying").await.0, 404);
}
