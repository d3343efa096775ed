//! Doors that others implement: what runs pods, and API groups that are computed instead of stored.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gantry_apimachinery::value::SmolStr;
use http::{Request, Response};

use crate::resources::Resource;
use crate::service::ResponseBody;

/// The caller, as a request extension.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    /// What the answer to `SelfSubjectReview` shows beside them.
    pub extra: Vec<(String, Vec<String>)>,
}

impl UserInfo {
    /// A user of the given name who is authenticated and in no other group.
    pub fn new(name: impl Into<String>) -> UserInfo {
        UserInfo { name: name.into(), groups: vec!["system:authenticated".into()], ..UserInfo::default() }
    }

    /// The user who may do everything.
    pub fn admin() -> UserInfo {
        UserInfo {
            name: "kubernetes-admin".into(),
            groups: vec!["system:masters".into(), "system:authenticated".into()],
            ..UserInfo::default()
        }
    }

    pub fn anonymous() -> UserInfo {
        UserInfo {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..UserInfo::default()
        }
    }

    pub fn is_anonymous(&self) -> bool {
        self.name == "system:anonymous"
    }
}

/// What a request to a pod's or node's inside asks for.
#[derive(Clone, Debug)]
pub struct PodRequest {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// The node the pod is bound to.
    pub node: String,
    /// `log`, `exec`, `attach`, `portforward` or `proxy`.
    pub subresource: String,
    /// What follows `proxy/` in the path.
    pub path: String,
}

/// The way to what runs pods. The request keeps its query, its headers and the extension a connection upgrade needs.
#[async_trait]
pub trait NodeProxy: Send + Sync {
    async fn pod(&self, target: PodRequest, request: Request<Bytes>) -> Response<ResponseBody>;

    /// `nodes/NAME/proxy/PATH`.
    async fn node(&self, node: &str, path: &str, request: Request<Bytes>) -> Response<ResponseBody>;
}

/// What a type is for, in words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TypeDoc {
    pub text: String,
    /// By the fields' JSON names.
    pub fields: HashMap<String, String>,
}

/// Where the words about built-in types come from, for `kubectl explain` and the headings of tables.
pub trait TypeDocs: Send + Sync {
    /// All types that the kinds of a group and version are made of, by their published names
    /// (`io.k8s.api.apps.v1.Deployment`).
    fn of_group_version(&self, group: &str, version: &str) -> HashMap<String, TypeDoc>;
}

/// An API group that is served by someone else in this process, such as `metrics.k8s.io`.
#[async_trait]
pub trait AggregatedApi: Send + Sync {
    /// What discovery says about it; all of one group and version. When it changes,
    /// [`reload_apis`](crate::ApiServer::reload_apis) makes that known. A plural may hold a slash, as `pods/http_requests`.
    fn resources(&self) -> Vec<Arc<Resource>>;

    /// The group and version; must be given where there can be no resource for a while.
    fn group_version(&self) -> Option<(SmolStr, SmolStr)> {
        self.resources().first().map(|resource| (resource.group.clone(), resource.version.clone()))
    }

    /// Answers any request below `/apis/GROUP/VERSION/`. The caller is the extension [`UserInfo`].
    async fn handle(&self, request: Request<Bytes>) -> Response<ResponseBody>;
}
