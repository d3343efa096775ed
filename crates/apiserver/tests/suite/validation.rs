use gantry_apimachinery::Value;

use crate::harness::{Api, message};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(name: &str, spec: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}"}},"spec":{{"selector":{{"matchLabels":{{"app":"web"}}}},"template":{{"metadata":{{"labels":{{"app":"web"}}}},"spec":{spec}}}}}}}"#
    )
}

#[tokio::test]
async fn mistakes_are_named_by_field() {
    let api = Api::start().await;
    for (spec, expected) in [
        (r#"{"containers":[]}"#, "spec.template.spec.containers: Required value"),
        (
            r#"{"containers":[{"name":"c","image":"i","ports":[{"containerPort":99999}]}]}"#,
            "spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
        ),
        (
            r#"{"containers":[{"name":"c","image":"i","resources":{"requests":{"memory":"640Mi"},"limits":{"memory":"128Mi"}}}]}"#,
            "spec.template.spec.containers[0].resources.requests: Invalid value: \"640Mi\": must be less than or equal to memory limit of 128Mi",
        ),
        (
            r#"{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}"#,
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            r#"{"containers":[{"name":"c","image":"i","volumeMounts":[{"name":"v","mountPath":"/v"}]}]}"#,
            "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
    ] {
        let (code, answer) = api.post(DEPLOYMENTS, &deployment("e", spec)).await;
        assert_eq!(code, 422);
        assert_eq!(message(&answer), format!("Deployment.apps \"e\" is invalid: {expected}"));
        assert_eq!(answer.str_at(&["reason"]), Some("Invalid"));
    }
}

#[tokio::test]
async fn what_may_not_change_does_not() {
    let api = Api::start().await;
    let body = deployment("web", r#"{"containers":[{"name":"c","image":"i"}]}"#);
    assert_eq!(api.post(DEPLOYMENTS, &body).await.0, 201);
    let (code, answer) = api
        .patch(&format!("{DEPLOYMENTS}/web"), "merge", r#"{"spec":{"selector":{"matchLabels":{"z":"z"}}}}"#)
        .await;
    assert_eq!(code, 422);
    assert!(message(&answer).contains("spec.selector: Invalid value"), "{}", message(&answer));
    let maps = "/api/v1/namespaces/default/configmaps";
    api.post(maps, r#"{"metadata":{"name":"fixed"},"immutable":true,"data":{"a":"b"}}"#).await;
    let (code, answer) = api.patch(&format!("{maps}/fixed"), "merge", r#"{"data":{"a":"c"}}"#).await;
    assert_eq!(
        (code, message(&answer)),
        (422, "ConfigMap \"fixed\" is invalid: data: Forbidden: field is immutable when `immutable` is set")
    );
}

#[tokio::test]
async fn unknown_fields_are_refused_dropped_or_warned_about() {
    let api = Api::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let body = |name: &str| format!(r#"{{"metadata":{{"name":"{name}"}},"extra":1}}"#);
    let (code, answer) = api.post(&format!("{maps}?fieldValidation=Strict"), &body("a")).await;
    assert_eq!(code, 400);
    assert!(
        message(&answer).ends_with("strict decoding error: unknown field \"extra\""),
        "{}",
        message(&answer)
    );
    let (code, answer) = api.post(&format!("{maps}?fieldValidation=Ignore"), &body("b")).await;
    assert_eq!((code, answer.get("extra")), (201, None));
    let (code, answer) = api.post(maps, r#"{"metadata":{"name":"c"},"data":{"a":1}}"#).await;
    assert_eq!(code, 400);
    assert!(
        message(&answer)
            .contains("cannot unmarshal number into Go struct field ConfigMap.data of type string"),
        "{}",
        message(&answer)
    );
}

#[tokio::test]
async fn strange_requests_get_a_status_and_no_panic() {
    let api = Api::start().await;
    let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    for body in [
        "",
        "{",
        "[]",
        "null",
        "1",
        "\"x\"",
        "{\"metadata\":1}",
        "{\"metadata\":{\"name\":1}}",
        deep.as_str(),
        "{\"spec\":[]}",
    ] {
        for path in [
            DEPLOYMENTS,
            "/api/v1/namespaces/default/configmaps",
            "/api/v1/namespaces",
            "/api/v1/namespaces/default/services",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        ] {
            let (code, answer) = api.post(path, body).await;
            assert!((400..500).contains(&code), "{path} {body}: {answer:?}");
        }
    }
    for path in [
        "/api/v1/pods?labelSelector=((",
        "/api/v1/pods?fieldSelector=%3D%3D",
        "/api/v1/pods?continue=%00",
        "/api/v1/pods?resourceVersion=-1",
    ] {
        let (code, _) = api.get(path).await;
        assert_eq!(code, 400, "{path}");
    }
    let huge = format!(r#"{{"metadata":{{"name":"x"}},"data":{{"a":"{}"}}}}"#, "a".repeat(4 << 20));
    assert_eq!(api.post("/api/v1/namespaces/default/configmaps", &huge).await.0, 413);
    let (_, list) = api.get("/api/v1/namespaces").await;
    assert_eq!(list.get("items").and_then(Value::as_array).map(Vec::len), Some(4));
}
