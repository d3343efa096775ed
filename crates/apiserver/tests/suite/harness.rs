//! A server in memory and one-line requests to it.

use std::sync::Arc;

use gantry_apimachinery::Value;
use gantry_apiserver::{ApiServer, ApiService, Config, UserInfo};
use gantry_clock::SystemClock;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::Service;

pub(crate) struct Api {
    pub(crate) server: ApiServer,
    service: ApiService,
}

impl Api {
    pub(crate) async fn start() -> Api {
        let server = ApiServer::open(Config::ephemeral(Arc::new(SystemClock::new()))).await.unwrap();
        Api { service: server.service_as(UserInfo::admin()), server }
    }

    /// The same server as another user sees it.
    pub(crate) fn as_user(&self, user: UserInfo) -> Api {
        Api { service: self.server.service_as(user), server: self.server.clone() }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        accept: &str,
        body: &str,
    ) -> (StatusCode, String) {
        let (status, body) = self.send_bytes(method, path, content_type, accept, body.as_bytes()).await;
        (status, String::from_utf8(body).unwrap())
    }

    pub(crate) async fn send_bytes(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        accept: &str,
        body: &[u8],
    ) -> (StatusCode, Vec<u8>) {
        let headers = [("content-type", content_type.as_bytes()), ("accept", accept.as_bytes())];
        self.send_with(method, path, &headers, body).await
    }

    pub(crate) async fn send_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &[u8])],
        body: &[u8],
    ) -> (StatusCode, Vec<u8>) {
        let body = Full::new(bytes::Bytes::copy_from_slice(body));
        let mut request = Request::builder().method(method).uri(path).body(body).unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        let response = self.service.clone().call(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, body.to_vec())
    }

    async fn json(&self, method: Method, path: &str, content_type: &str, body: &str) -> (u16, Value) {
        let (status, text) = self.send(method, path, content_type, "application/json", body).await;
        (status.as_u16(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.json(Method::GET, path, "", "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        self.json(Method::POST, path, "application/json", body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &str) -> (u16, Value) {
        self.json(Method::PUT, path, "application/json", body).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: &str) -> (u16, Value) {
        self.json(Method::PATCH, path, &format!("application/{kind}-patch+json"), body).await
    }

    pub(crate) async fn delete(&self, path: &str, body: &str) -> (u16, Value) {
        self.json(Method::DELETE, path, "application/json", body).await
    }
}

pub(crate) fn message(value: &Value) -> &str {
    value.str_at(&["message"]).unwrap_or_default()
}
