//! What is there in every cluster from the start: the system namespaces and the Service of the API server.

use std::sync::Arc;

use gantry_apimachinery::Value;
use http::{Method, Request};

use crate::doors::UserInfo;
use crate::rbac;
use crate::rest;
use crate::server::Inner;
use crate::status::Failure;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

pub(crate) async fn create_system_objects(server: &Arc<Inner>) -> Result<(), Failure> {
    for name in NAMESPACES {
        let body = format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{name}"}}}}"#);
        create(server, "/api/v1/namespaces", body).await?;
    }
    for (resource, object) in rbac::default_objects() {
        let body = serde_json::to_string(&object).map_err(Failure::internal)?;
        create(server, &format!("/apis/rbac.authorization.k8s.io/v1/{resource}"), body).await?;
    }
    let address = server.addresses.range.first();
    let service = format!(
        r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"kubernetes","labels":{{"component":"apiserver","provider":"kubernetes"}}}},"spec":{{"clusterIP":"{address}","ports":[{{"name":"https","port":443,"protocol":"TCP","targetPort":443}}]}}}}"#
    );
    create(server, "/api/v1/namespaces/default/services", service).await
}

/// Creates an object unless it is there.
async fn create(server: &Arc<Inner>, path: &str, body: String) -> Result<(), Failure> {
    let mut request = Request::new(body.into());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(Failure::internal)?;
    request
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    request.extensions_mut().insert(UserInfo {
        name: "system:apiserver".into(),
        groups: vec!["system:masters".into()],
        ..UserInfo::default()
    });
    let response = rest::handle(server.clone(), request).await;
    let status = response.status();
    if status.is_success() || status == http::StatusCode::CONFLICT {
        return Ok(());
    }
    use http_body_util::BodyExt;
    let body = response.into_body().collect().await.map_err(Failure::internal)?.to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    Err(Failure::internal(format!("{path}: {}", answer.str_at(&["message"]).unwrap_or_default())))
}
