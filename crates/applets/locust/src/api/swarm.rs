//! `POST /swarm`: starts a run or changes the one that goes on, as Locust's page and its users' scripts ask for it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use gantry_load::locust::{StartOutcome, python_repr};
use serde_json::{Value, json};

use super::{Api, form, json_response};

/// The fields of the form, checked.
#[derive(Default)]
struct Wish {
    users: Option<u64>,
    rate: Option<f64>,
    run_time: Option<u64>,
    classes: Vec<String>,
}

pub(super) async fn swarm(State(api): State<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.is_empty() && !kind.starts_with("application/x-www-form-urlencoded") {
        let text = format!("content-type {kind:?}: expected application/x-www-form-urlencoded");
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
    }
    match begin(&api, &form::parse(&body)) {
        Ok(answer) => json_response(&answer),
        Err(message) => {
            tracing::error!(target: "locust.web", "{message}");
            let host = api.master.lock().host().map(str::to_owned);
            json_response(&json!({"success": false, "message": message, "host": host}))
        }
    }
}

fn begin(api: &Arc<Api>, fields: &[(String, String)]) -> Result<Value, String> {
    let mut wish = Wish::default();
    for (name, value) in fields {
        apply(api, &mut wish, name, value)?;
    }
    if api.class_picker {
        choose_classes(api, &wish)?;
    }
    let (Some(users), Some(rate)) = (wish.users, wish.rate.filter(|rate| rate.is_finite() && *rate > 0.0))
    else {
        return Err("Missing or invalid user_count or spawn_rate from /swarm request".to_owned());
    };
    match api.master.swarm(users, rate) {
        StartOutcome::Started | StartOutcome::NoWorkers => {}
        StartOutcome::NoClasses => return Err("No User class found!".to_owned()),
        StartOutcome::Refused(reason) => return Err(reason),
    }
    api.runs.send_modify(|run| *run += 1);
    let host = api.master.lock().host().map(str::to_owned);
    let mut answer = json!({"success": true, "message": "Swarming started", "host": host});
    if let Some(seconds) = wish.run_time.filter(|seconds| *seconds > 0) {
        answer["run_time"] = json!(seconds);
        stop_after(api.clone(), seconds);
    }
    if api.class_picker {
        let mut names: Vec<String> =
            api.master.lock().chosen_classes().into_iter().map(|class| class.name).collect();
        names.sort_unstable();
        answer["user_classes"] = json!(names);
    }
    Ok(answer)
}

fn apply(api: &Api, wish: &mut Wish, name: &str, value: &str) -> Result<(), String> {
    match name {
        "user_count" => {
            let count: i64 = value.trim().parse().map_err(|_| {
                format!("Invalid user_count value: {} (must be an integer)", python_repr(value))
            })?;
            wish.users = u64::try_from(count).ok();
        }
        "spawn_rate" => {
            let rate = value.trim().parse().map_err(|_| {
                format!("Invalid spawn_rate value: {} (must be a number)", python_repr(value))
            })?;
            wish.rate = Some(rate);
        }
        "host" => api.master.lock().set_host(Some(value.replace(['<', '>'], ""))),
        "run_time" if value.is_empty() => {}
        "run_time" => {
            let seconds = crate::flags::timespan(value).map_err(|_| {
                "Valid run_time formats are : 20, 20s, 3m, 2h, 1h20m, 3h30m10s, etc.".to_owned()
            })?;
            wish.run_time = Some(seconds);
        }
        "user_classes" => wish.classes.push(value.to_owned()),
        "profile" => *api.profile.lock() = Some(value.to_owned()).filter(|profile| !profile.is_empty()),
        "tags" | "exclude_tags" => {
            let tags: Vec<&str> = value.split([',', ' ']).filter(|tag| !tag.is_empty()).collect();
            api.master.lock().set_option(name, if tags.is_empty() { Value::Null } else { json!(tags) });
        }
        // Whatever else the form has is an argument of the locustfile, if it has such a one.
        other => {
            let mut master = api.master.lock();
            if master.option(other).is_some() {
                master.set_option(other, json!(value));
            }
        }
    }
    Ok(())
}

fn choose_classes(api: &Api, wish: &Wish) -> Result<(), String> {
    let mut master = api.master.lock();
    if !master.knows_classes() {
        return Err("UserClass picker is active but there are no available UserClasses".to_owned());
    }
    if wish.classes.is_empty() {
        // A run that goes on keeps its choice; a new one has them all.
        if !master.state().is_active() {
            return master.choose_classes(None).map_err(|names| names.join(", "));
        }
        return Ok(());
    }
    master
        .choose_classes(Some(wish.classes.clone()))
        .map_err(|names| format!("Unknown User(s): {}", names.join(", ")))
}

/// Ends the run after its time, unless another start or stop came first.
fn stop_after(api: Arc<Api>, seconds: u64) {
    let mut runs = api.runs.subscribe();
    runs.borrow_and_update();
    tokio::spawn(async move {
        tokio::select! {
            _ = runs.changed() => {}
            () = tokio::time::sleep(Duration::from_secs(seconds)) => api.master.stop().await,
        }
    });
}
