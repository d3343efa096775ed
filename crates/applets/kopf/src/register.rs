//! From what the user's files declare to handlers of the engine.

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{
    Ctx, ErrorsMode, Expect, Handler, HandlerSettings, Informer, LastHandledName, Lifecycle, NamespaceFilter,
    On, Operator, Stopping, handler,
};
use kube::api::ApiResource;
use kube::core::DynamicObject;

use crate::calls::{Calls, Target};
use crate::declared::{Declaration, Declared, Kind, Settings, expect, seconds};

/// Objects of a kind that are handled at the same time, unless the settings say otherwise.
const CONCURRENCY: usize = 256;
/// How long a daemon that names no time may take to end with the operator.
const DAEMON_GRACE: Duration = Duration::from_secs(5);

/// Registers the handlers at `positions` for one kind.
#[allow(clippy::too_many_arguments, reason = "each is a part of what is registered, given once")]
pub(crate) fn register(
    operator: &Operator,
    resource: &ApiResource,
    key: &Arc<str>,
    positions: &[usize],
    declaration: &Declaration,
    calls: &Calls,
    namespaces: Option<NamespaceFilter>,
    indices: &[Informer<DynamicObject>],
) {
    let settings =
        HandlerSettings { namespaces, ..settings_of(&declaration.settings, &declaration.lifecycle) };
    let mut on: On<DynamicObject> = operator.on_dynamic(resource).settings(settings);
    for informer in indices {
        on = on.reads(informer);
    }
    for position in positions {
        let Some(declared) = declaration.handlers.get(*position) else { continue };
        let target = Target { position: *position, resource: key.clone() };
        let called = handler_of(declared, target, calls);
        on = match declared.kind {
            Kind::Create => on.create(called),
            Kind::Update => on.update(called),
            Kind::Delete => on.delete(called),
            Kind::Resume => on.resume(called),
            Kind::Field => on.field(&declared.field.clone().unwrap_or_default().join("."), called),
            Kind::Event => on.event(called),
            Kind::Daemon => on.daemon(called),
            Kind::Timer => match declared.interval {
                Some(interval) => on.timer(seconds(interval), called),
                None => on.timer_when_idle(called),
            },
            _ => on,
        };
    }
    // The operator runs already, or will.
    let _ = on.done();
}

fn handler_of(declared: &Declared, target: Target, calls: &Calls) -> Handler<DynamicObject> {
    let (calling, at) = (calls.clone(), target.clone());
    let mut made = with_options(
        handler(move |context: Ctx<DynamicObject>| {
            let (calls, target) = (calling.clone(), at.clone());
            async move { calls.call(&target, context).await }
        }),
        declared,
    );
    if declared.asks {
        let (calls, target) = (calls.clone(), target.clone());
        made = made.when_asked(move |context, question| {
            let (calls, target) = (calls.clone(), target.clone());
            async move { calls.accepts(&target, context, question).await }
        });
    }
    if declared.asks_delay {
        let calls = calls.clone();
        made = made.initial_delay_asked(move |context| {
            let (calls, target) = (calls.clone(), target.clone());
            async move { calls.delay(&target, context).await }
        });
    }
    made
}

/// Gives a handler all options that were declared for it, apart from functions.
pub(crate) fn with_options(handler: Handler<DynamicObject>, declared: &Declared) -> Handler<DynamicObject> {
    let mut made = handler.id(&declared.id);
    for (name, pattern) in &declared.labels {
        made = made.label(name, expect(pattern));
    }
    for (name, pattern) in &declared.annotations {
        made = made.annotation(name, expect(pattern));
    }
    if let Some(path) = &declared.field {
        made = made.field(&path.join("."));
        let given = |pattern: &Option<serde_json::Value>| -> Option<Expect> { pattern.as_ref().map(expect) };
        if let Some(value) = given(&declared.value) {
            made = made.value(value);
        }
        if let Some(old) = given(&declared.old) {
            made = made.old_value(old);
        }
        if let Some(new) = given(&declared.new) {
            made = made.new_value(new);
        }
    }
    if let Some(errors) = &declared.errors {
        made = made.errors(match errors.as_str() {
            "ignored" => ErrorsMode::Ignored,
            "permanent" => ErrorsMode::Permanent,
            _ => ErrorsMode::Temporary,
        });
    }
    if let Some(timeout) = declared.timeout {
        made = made.timeout(seconds(timeout));
    }
    if let Some(retries) = declared.retries {
        made = made.retries(retries);
    }
    if let Some(backoff) = declared.backoff {
        made = made.backoff(seconds(backoff));
    }
    if declared.optional {
        made = made.optional();
    }
    if declared.deleted {
        made = made.deleted();
    }
    if let Some(delay) = declared.initial_delay {
        made = made.initial_delay(seconds(delay));
    }
    if let Some(idle) = declared.idle {
        made = made.idle(seconds(idle));
    }
    if declared.sharp {
        made = made.sharp();
    }
    made.stopping(Stopping {
        backoff: declared.cancellation_backoff.map(seconds),
        timeout: declared.cancellation_timeout.map(seconds),
    })
}

fn settings_of(settings: &Settings, lifecycle: &str) -> HandlerSettings {
    HandlerSettings {
        prefix: settings.progress.prefix.clone(),
        v1_names: settings.progress.v1,
        finalizer: settings.finalizer.clone(),
        lifecycle: if lifecycle == "all_at_once" { Lifecycle::AllAtOnce } else { Lifecycle::OneAtATime },
        last_handled: Some(LastHandledName {
            prefix: settings.diffbase.prefix.clone(),
            name: settings.diffbase.key.clone(),
            v1_names: settings.diffbase.v1,
        }),
        ignored_fields: settings.diffbase.ignored.clone(),
        default_backoff: seconds(settings.default_backoff),
        consistency: seconds(settings.consistency.unwrap_or(0.0)),
        hold_for_timers: true,
        concurrency: settings.worker_limit.unwrap_or(CONCURRENCY),
        daemon_grace: DAEMON_GRACE,
        ..HandlerSettings::default()
    }
}
