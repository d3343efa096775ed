//! A `Greeting` is a ConfigMap with a text in it: made when the Greeting is, rewritten when its text changes.

use std::sync::Arc;

use gantry_operator::{Ctx, HandlerError, HandlerResult, Operator, SystemClock, connect};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, CustomResource, CustomResourceExt, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, JsonSchema)]
#[kube(group = "example.com", version = "v1", kind = "Greeting", namespaced)]
struct GreetingSpec {
    text: String,
}

/// What it returns is written to `status.created`. If it fails, it is tried again.
async fn created(ctx: Ctx<Greeting>) -> HandlerResult<Value> {
    let greeting = ctx.object();
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": ctx.name(), "ownerReferences": [greeting.controller_owner_ref(&())] },
        "data": { "text": greeting.spec.text },
    }))?;
    Api::namespaced(ctx.client().clone(), ctx.namespace()).create(&PostParams::default(), &map).await?;
    ctx.event_normal("Greeted", format!("made ConfigMap {}", ctx.name()));
    Ok(json!({ "configMap": ctx.name() }))
}

/// `old` and `new` are the field's own.
async fn text_changed(ctx: Ctx<Greeting>) -> HandlerResult {
    if ctx.new() == "" {
        return Err(HandlerError::permanent("a greeting needs a text"));
    }
    let maps: Api<ConfigMap> = Api::namespaced(ctx.client().clone(), ctx.namespace());
    let patch = Patch::Merge(json!({ "data": { "text": ctx.new(), "before": ctx.old() } }));
    maps.patch(ctx.name(), &PatchParams::default(), &patch).await?;
    Ok(())
}

pub(crate) async fn run(client: Client, cancel: CancellationToken) {
    let kinds: Api<CustomResourceDefinition> = Api::all(client.clone());
    // It may be there already.
    let _ = kinds.create(&PostParams::default(), &Greeting::crd()).await;
    let operator = Operator::new(client, Arc::new(SystemClock::new()));
    operator.on::<Greeting>().create(created).field("spec.text", text_changed).run(cancel).await;
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(connect(None, None).await?, CancellationToken::new()).await;
    Ok(())
}
