//! A server with one custom kind, and waiting.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_apiserver::{ApiServer, Config, UserInfo};
use gantry_clock::SystemClock;
use gantry_operator::{Operator, Settings};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, JsonSchema)]
#[kube(group = "example.com", version = "v1", kind = "Widget", namespaced, status = "WidgetStatus")]
#[serde(rename_all = "camelCase")]
pub(crate) struct WidgetSpec {
    pub(crate) size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) color: Option<String>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default, JsonSchema)]
pub(crate) struct WidgetStatus {
    #[serde(flatten)]
    #[schemars(skip)]
    pub(crate) results: serde_json::Map<String, Value>,
}

pub(crate) struct Stage {
    pub(crate) client: Client,
    #[allow(dead_code, reason = "the server lives as long as the stage")]
    server: ApiServer,
    cancel: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Stage {
    pub(crate) async fn set() -> Stage {
        let server =
            ApiServer::open(Config::ephemeral(Arc::new(SystemClock::new()))).await.expect("a server");
        let client = Client::new(server.service_as(UserInfo::admin()), "default");
        let mut kind = serde_json::to_value(Widget::crd()).expect("a definition");
        let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/status";
        kind.pointer_mut(schema).expect("a status schema")["x-kubernetes-preserve-unknown-fields"] =
            true.into();
        let kind: CustomResourceDefinition = serde_json::from_value(kind).expect("a definition");
        Api::all(client.clone()).create(&PostParams::default(), &kind).await.expect("a kind");
        let stage = Stage { client, server, cancel: CancellationToken::new() };
        let widgets = stage.widgets();
        eventually("the kind to be served", || async { widgets.list(&Default::default()).await.ok() }).await;
        stage
    }

    pub(crate) fn widgets(&self) -> Api<Widget> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) fn operator(&self) -> Operator {
        let settings = Settings { shutdown_grace: Duration::from_secs(2), ..Settings::default() };
        Operator::with_settings(self.client.clone(), Arc::new(SystemClock::new()), settings)
    }

    /// Runs the operator beside the test; returns how to end it.
    pub(crate) fn run(&self, operator: Operator) -> Running {
        let cancel = self.cancel.child_token();
        let until = cancel.clone();
        Running { task: tokio::spawn(async move { operator.run(until).await }), cancel }
    }

    pub(crate) async fn make(&self, name: &str, size: i64) -> Widget {
        let widget = Widget::new(name, WidgetSpec { size, color: None });
        self.widgets().create(&PostParams::default(), &widget).await.expect("a widget")
    }

    pub(crate) async fn patch(&self, name: &str, patch: Value) -> Widget {
        self.widgets().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched")
    }

    /// Waits until the widget is as wanted.
    pub(crate) async fn widget(&self, name: &str, what: &str, wanted: impl Fn(&Widget) -> bool) -> Widget {
        let widgets = self.widgets();
        eventually(what, || async { widgets.get(name).await.ok().filter(|widget| wanted(widget)) }).await
    }
}

pub(crate) struct Running {
    task: tokio::task::JoinHandle<()>,
    cancel: CancellationToken,
}

impl Running {
    pub(crate) async fn end(self) {
        self.cancel.cancel();
        self.task.await.expect("an operator that ends");
    }
}

pub(crate) async fn eventually<T, F, Fut>(what: &str, mut look: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
