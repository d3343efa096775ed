//! Where a proof takes place: an `up` of our own, or a cluster that exists.

use std::time::Duration;

use bytes::Bytes;
use gantry_load::report::{Event, Level};
use gantry_load::{Scenario, Target};
use gantry_prom_model::Registry;
use gantry_workloads::health::survey;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Event as ClusterEvent;
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Error, ProveOptions};
use crate::up::load::through_the_gateway;
use crate::up::ports::Ports;
use crate::up::steps::Steps;
use crate::up::{RunningUp, UpOptions};

const READY_TIMEOUT: Duration = Duration::from_secs(300);
/// The reason that HorizontalPodAutoscalers give the Event of a changed count.
const RESCALED: &str = "SuccessfulRescale";
const MOST_ANSWER_BYTES: usize = 64 << 20;

pub(super) enum World {
    Up { up: Box<RunningUp>, _temporary: Option<TemporaryFolder> },
    Cluster { client: Client, prometheus: Option<String>, registry: Registry },
}

/// A state folder that goes when the proof is over.
pub(super) struct TemporaryFolder(std::path::PathBuf);

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl World {
    pub(super) async fn make(
        options: &ProveOptions,
        steps: &mut Steps,
        interrupted: &CancellationToken,
    ) -> Result<World, Error> {
        match &options.context {
            Some(context) => World::existing(options, context, steps, interrupted).await,
            None => World::bring_up(options, steps, interrupted).await,
        }
    }

    async fn bring_up(
        options: &ProveOptions,
        steps: &mut Steps,
        interrupted: &CancellationToken,
    ) -> Result<World, Error> {
        let temporary = match &options.data_dir {
            Some(_) => None,
            None => Some(TemporaryFolder(
                std::env::temp_dir().join(format!("gantry-prove-{}", std::process::id())),
            )),
        };
        let folder = temporary.as_ref().map(|folder| folder.0.clone());
        let up = UpOptions {
            dir: options.dir.clone(),
            data_dir: folder.or_else(|| options.data_dir.clone()).expect("one of the two is given"),
            ports: Ports::AUTOMATIC,
            output: options.output,
        };
        let up = RunningUp::start(&up, steps, interrupted).await?;
        Ok(World::Up { up: Box::new(up), _temporary: temporary })
    }

    /// Nothing is started and nothing applied: what runs there is what is proved.
    async fn existing(
        options: &ProveOptions,
        context: &str,
        steps: &mut Steps,
        interrupted: &CancellationToken,
    ) -> Result<World, Error> {
        let client = gantry_operator::connect(None, Some(context)).await?;
        let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
        loop {
            let workloads = survey(&client).await?;
            let waiting: Vec<_> = workloads.iter().filter(|workload| !workload.healthy).collect();
            let Some(first) = waiting.first() else { break };
            if tokio::time::Instant::now() > deadline || interrupted.is_cancelled() {
                return Err(
                    format!("{} in {} is not ready: {}", first.name, first.namespace, first.reason).into()
                );
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        steps.done("ready", &format!("context {context}"));
        Ok(World::Cluster { client, prometheus: options.prometheus.clone(), registry: Registry::new() })
    }

    pub(super) fn client(&self) -> Client {
        match self {
            World::Up { up, .. } => up.stack.client(),
            World::Cluster { client, .. } => client.clone(),
        }
    }

    /// Where the load's own series are counted.
    pub(super) fn load_registry(&self) -> Registry {
        match self {
            World::Up { up, .. } => up.stack.metrics.registry(),
            World::Cluster { registry, .. } => registry.clone(),
        }
    }

    /// Where the load goes. In our own `up` that is its gateway, asked for the host that the scenario names.
    pub(super) fn target(&self, scenario: &mut Scenario) -> Result<Target, Error> {
        let World::Up { up, .. } = self else {
            return scenario
                .target
                .clone()
                .ok_or_else(|| "the scenario needs a target: the cluster's gateway".into());
        };
        Ok(through_the_gateway(scenario, up.addresses.gateway)?)
    }

    /// The values of an instant query.
    pub(super) async fn query(&self, expr: &str, at_ms: i64) -> Result<Vec<f64>, String> {
        match self {
            World::Up { up, .. } => {
                Ok(up.stack.metrics.query(expr, at_ms).await?.into_iter().map(|(_, value)| value).collect())
            }
            World::Cluster { prometheus, .. } => {
                let time = format!("{}", at_ms as f64 / 1000.0);
                let answer = ask(prometheus.as_deref(), "query", &[("query", expr), ("time", &time)]).await?;
                let result = &answer["data"]["result"];
                if answer["data"]["resultType"] == "scalar" {
                    return Ok(number(&result[1]).into_iter().collect());
                }
                let series = result.as_array().map(Vec::as_slice).unwrap_or_default();
                Ok(series.iter().filter_map(|series| number(&series["value"][1])).collect())
            }
        }
    }

    /// At how many of the steps the query gave something, and how many steps there were.
    pub(super) async fn count_steps(
        &self,
        expr: &str,
        from_ms: i64,
        to_ms: i64,
        step: Duration,
    ) -> Result<(usize, usize), String> {
        let step_ms = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1);
        let steps = usize::try_from((to_ms - from_ms).max(0) / step_ms + 1).unwrap_or(usize::MAX);
        let mut held = std::collections::BTreeSet::new();
        match self {
            World::Up { up, .. } => {
                for (_, points) in up.stack.metrics.range(expr, from_ms, to_ms, step).await? {
                    held.extend(points.into_iter().map(|(at_ms, _)| at_ms));
                }
            }
            World::Cluster { prometheus, .. } => {
                let seconds = |ms: i64| format!("{}", ms as f64 / 1000.0);
                let parameters = [
                    ("query", expr),
                    ("start", &seconds(from_ms)),
                    ("end", &seconds(to_ms)),
                    ("step", &seconds(step_ms)),
                ];
                let answer = ask(prometheus.as_deref(), "query_range", &parameters).await?;
                for series in answer["data"]["result"].as_array().map(Vec::as_slice).unwrap_or_default() {
                    let points = series["values"].as_array().map(Vec::as_slice).unwrap_or_default();
                    held.extend(points.iter().filter_map(|point| Some((point[0].as_f64()? * 1000.0) as i64)));
                }
            }
        }
        Ok((held.len(), steps))
    }

    /// What the autoscaler decided and why, since `from_ms`.
    pub(super) async fn events(&self, from_ms: i64) -> Result<Vec<Event>, Error> {
        match self {
            World::Up { up, .. } => {
                let event = |decision: &crate::up::stack::ScaleDecision| Event {
                    at_ms: decision.at_ms,
                    level: Level::Normal,
                    subject: decision.target.clone(),
                    text: format!("scaled {} → {}", decision.from, decision.to),
                    reason: decision.reason.clone(),
                };
                Ok(up.stack.decisions().iter().map(event).collect())
            }
            // Another's autoscaler says it in Events alone.
            World::Cluster { client, .. } => {
                let events = Api::<ClusterEvent>::all(client.clone());
                let rescales = ListParams::default().fields(&format!("reason={RESCALED}"));
                let mut found: Vec<Event> =
                    events.list(&rescales).await?.into_iter().filter_map(rescaled).collect();
                found.retain(|event| event.at_ms >= from_ms);
                found.sort_by_key(|event| event.at_ms);
                Ok(found)
            }
        }
    }

    pub(super) async fn end(self, steps: &mut Steps) {
        if let World::Up { up, .. } = self {
            up.end(steps).await;
        }
    }
}

fn rescaled(event: ClusterEvent) -> Option<Event> {
    let precise = event.event_time.map(|time| time.0);
    let at =
        precise.or(event.last_timestamp.map(|time| time.0)).or(event.first_timestamp.map(|time| time.0))?;
    let object = event.involved_object;
    Some(Event {
        at_ms: at.as_millisecond(),
        level: Level::Normal,
        subject: format!("{}/{}", object.kind?.to_lowercase(), object.name?),
        text: "scaled".to_owned(),
        reason: event.message.unwrap_or_default(),
    })
}

fn number(value: &Value) -> Option<f64> {
    value.as_str()?.parse().ok()
}

/// One call of the Prometheus HTTP API.
async fn ask(prometheus: Option<&str>, verb: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
    let base = prometheus.ok_or("no metric store: give --prometheus URL with --context")?;
    let query: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let url = format!("{}/api/v1/{verb}?{}", base.trim_end_matches('/'), query.join("&"));
    let uri = url.parse().map_err(|error| format!("{base}: {error}"))?;
    let client: HttpClient<_, Empty<Bytes>> = HttpClient::builder(TokioExecutor::new()).build_http();
    let response = client.get(uri).await.map_err(|error| format!("{base}: {error}"))?;
    let body = Limited::new(response.into_body(), MOST_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| format!("{base}: {error}"))?.to_bytes();
    let answer: Value =
        serde_json::from_slice(&body).map_err(|error| format!("{base}: not JSON: {error}"))?;
    match answer["status"].as_str() {
        Some("success") => Ok(answer),
        _ => Err(format!("{base}: {}", answer["error"].as_str().unwrap_or("no result"))),
    }
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
