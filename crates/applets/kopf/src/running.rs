//! `kopf run`: a worker process, the operators over it, and what happens at their start and end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use gantry_operator::{
    Clock, Ctx, EventPoster, HandlerError, InformerSettings, NamespaceFilter, Operator, PlainEvent, Settings,
    SystemClock, connect_as_found,
};
use kube::Client;
use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::calls::{Calls, parts_of};
use crate::declared::{Declaration, Declared, Kind, Posting};
use crate::feed::Feed;
use crate::flags::{RunFlags, is_exact, namespace_matches};
use crate::peering::Pausing;
use crate::probe::{self, Endpoint};
use crate::python::interpreter;
use crate::resources::{self, Served};
use crate::session::{Asks, Said, Session};
use crate::worker::{Launch, Worker};

/// Runs the handlers until a signal.
pub(crate) async fn run(flags: RunFlags) -> Result<(), String> {
    let endpoint = flags.liveness.as_deref().map(Endpoint::parse).transpose()?;
    let virtual_env = std::env::var_os("VIRTUAL_ENV").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH");
    let python = interpreter(flags.python.as_deref(), virtual_env.as_deref(), path.as_deref())?;
    let asks = Arc::new(Engine::default());
    let feed: Arc<Feed> = Arc::default();
    let launch = Launch { python, load: load_frame(&flags), feed: feed.clone(), asks: asks.clone() };
    let (publish, sessions) = watch::channel(None);
    let worker = Worker { sessions };
    let asked: Arc<Mutex<Option<Value>>> = Arc::default();
    let declared: Arc<OnceLock<Declaration>> = Arc::default();
    let stop_worker = CancellationToken::new();
    let keeping = {
        let (asked, declared) = (asked.clone(), declared.clone());
        let prepare = move |session| prepare(session, declared.clone(), asked.clone());
        launch.keep(publish, stop_worker.clone(), prepare)
    };
    let serving = async {
        // When the worker cannot be prepared, `keeping` tells why.
        if worker.session().await.is_none() {
            return Ok(());
        }
        let Some(declaration) = declared.get().cloned() else { return Ok(()) };
        let outcome = serve(&flags, declaration, worker.clone(), feed, asks, asked, endpoint).await;
        // Not within the condition: the borrow would last as long as the cleanup, and block who publishes a new process.
        let session = worker.sessions.borrow().clone();
        if let Some(session) = session {
            activity(&session, "cleanup").await?;
        }
        outcome
    };
    tokio::pin!(keeping);
    let outcome = tokio::select! {
        kept = &mut keeping => return kept,
        served = serving => served,
    };
    stop_worker.cancel();
    keeping.await?;
    outcome
}

fn load_frame(flags: &RunFlags) -> Value {
    let paths: Vec<&Path> = flags.paths.iter().map(PathBuf::as_path).collect();
    json!({
        "paths": paths,
        "modules": flags.modules,
        "log": {
            "debug": flags.log.debug, "verbose": flags.log.verbose, "quiet": flags.log.quiet,
            "format": flags.log.format, "prefix": flags.log.prefixed(), "refkey": flags.log.refkey,
        },
    })
}

/// Makes a new process ready: runs what is to be run at the start, and learns what it declares.
async fn prepare(
    session: Arc<Session>,
    declared: Arc<OnceLock<Declaration>>,
    asked: Arc<Mutex<Option<Value>>>,
) -> Result<(), String> {
    activity(&session, "startup").await?;
    let said = session.ask(json!({ "op": "declare" })).await.map_err(|error| error.to_string());
    let Ok(said) = said else {
        // It died; it will be started again.
        return std::future::pending().await;
    };
    if let Some(raised) = said.error {
        return Err(raised.message);
    }
    let declaration: Declaration = serde_json::from_value(said.result)
        .map_err(|error| format!("the worker process declared what is not understood: {error}"))?;
    check(&declaration)?;
    let known = declared.get_or_init(|| declaration.clone());
    if known.handlers != declaration.handlers {
        return Err("the handlers have changed since the start: start the operator anew".into());
    }
    let resources = asked.lock().clone();
    if let Some(frame) = resources {
        resources::ask(&session, &frame).await?;
    }
    Ok(())
}

fn check(declaration: &Declaration) -> Result<(), String> {
    let admission = |kind: &Kind| matches!(kind, Kind::Validate | Kind::Mutate);
    if let Some(handler) = declaration.handlers.iter().find(|handler| admission(&handler.kind)) {
        return Err(format!(
            "handler {} is for admission (kopf.on.validate, kopf.on.mutate), which gantry does not serve yet: remove \
             it, or run this operator with Kopf itself",
            handler.id
        ));
    }
    let timer =
        declaration.handlers.iter().find(|handler| handler.interval.is_some_and(|every| every <= 0.0));
    if let Some(Declared { id, interval: Some(interval), .. }) = timer {
        return Err(format!("handler {id}: interval {interval}: expected a number of seconds above zero"));
    }
    Ok(())
}

async fn activity(session: &Arc<Session>, kind: &str) -> Result<(), String> {
    match session.ask(json!({ "op": "activity", "kind": kind })).await {
        Ok(Said { error: Some(raised), .. }) => Err(raised.message),
        // A process that died meanwhile is started again, and told again.
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn serve(
    flags: &RunFlags,
    declaration: Declaration,
    worker: Worker,
    feed: Arc<Feed>,
    engine: Arc<Engine>,
    asked: Arc<Mutex<Option<Value>>>,
    endpoint: Option<Endpoint>,
) -> Result<(), String> {
    let (client, default_namespace) = connect_as_found().await.map_err(|error| error.to_string())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    if declaration.has(Kind::Login) {
        tracing::info!("login handlers are not called: gantry takes the kubeconfig or the service account");
    }
    let exiting = CancellationToken::new();
    let posting_end = CancellationToken::new();
    let (poster, posting) =
        EventPoster::start(client.clone(), clock.clone(), &default_namespace, posting_end.clone());
    engine.begin(poster, declaration.settings.posting.clone());
    let probing =
        endpoint.map(|endpoint| probe::serve(endpoint, worker.clone(), clock.clone(), exiting.clone()));
    let probing = async {
        match probing {
            Some(probing) => probing.await,
            None => std::future::pending().await,
        }
    };
    let mut pausing = Pausing::begin(flags, &declaration.settings.peering, &client, &clock, &exiting).await?;
    let working = async {
        // Each pause ends all watches; when it is over everything is listed anew, as Kopf does.
        while pausing.until_active(&exiting).await {
            let active = exiting.child_token();
            let calls = Calls { worker: worker.clone(), feed: feed.clone(), exiting: exiting.clone() };
            let work = operate(flags, &declaration, calls, &client, &clock, asked.clone(), active.clone());
            tokio::pin!(work);
            tokio::select! {
                biased;
                () = &mut work => {}
                () = pausing.until_paused() => {
                    active.cancel();
                    work.await;
                }
            }
        }
    };
    let ending = async {
        let ended = tokio::select! {
            ended = signalled() => ended,
            ended = probing => ended,
        };
        exiting.cancel();
        ended
    };
    // Begun work ends, and daemons are told.
    let (ended, ()) = tokio::join!(ending, working);
    ended?;
    pausing.end().await;
    posting_end.cancel();
    // What cannot be written by now is dropped: events are best effort.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), posting).await;
    Ok(())
}

/// Runs operators until `cancel`.
async fn operate(
    flags: &RunFlags,
    declaration: &Declaration,
    calls: Calls,
    client: &Client,
    clock: &Arc<dyn Clock>,
    asked: Arc<Mutex<Option<Value>>>,
    cancel: CancellationToken,
) {
    let operator = |namespace: Option<String>| {
        let informers = InformerSettings { namespace, ..InformerSettings::default() };
        let settings = Settings { name: "kopf".to_owned(), informers, ..Settings::default() };
        Operator::with_settings(client.clone(), clock.clone(), settings)
    };
    if flags.namespaces.is_empty() && !flags.all_namespaces {
        tracing::warn!("neither --namespace nor --all-namespaces is given: the whole cluster is served");
    }
    let single = match flags.namespaces.as_slice() {
        [one] if is_exact(one) => Some(one.clone()),
        _ => None,
    };
    let filter = (single.is_none() && !flags.namespaces.is_empty()).then(|| {
        let patterns = flags.namespaces.clone();
        NamespaceFilter(Arc::new(move |name| patterns.iter().any(|pattern| namespace_matches(name, pattern))))
    });
    let (cluster, namespaced) = (operator(None), single.map(|name| operator(Some(name))));
    let served = Served {
        cluster: cluster.clone(),
        namespaced: namespaced.clone(),
        namespaces: filter,
        declaration: declaration.clone(),
        calls,
        asked,
    };
    let in_namespace = async {
        if let Some(operator) = namespaced {
            operator.run(cancel.clone()).await;
        }
    };
    tokio::join!(cluster.run(cancel.clone()), in_namespace, served.follow(cancel.clone()));
}

/// Returns when the process is told to end.
async fn signalled() -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("cannot wait for signals: {error}");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let name = tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    };
    tracing::info!("Signal {name} is received. Operator is stopping.");
    // Handlers may take as long as they like to end; whoever asks twice does not want to wait for them.
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::warn!("A second signal is received. Operator ends without waiting for its handlers.");
        std::process::exit(1);
    });
    Ok(())
}

/// What the worker may ask for on its own.
#[derive(Default)]
struct Engine {
    posting: OnceLock<(EventPoster, Posting)>,
}

impl Engine {
    fn begin(&self, poster: EventPoster, posting: Posting) {
        // There is one server per process; a second start keeps the first.
        let _ = self.posting.set((poster, posting));
    }
}

impl Asks for Engine {
    fn execute(&self, session: &Arc<Session>, context: Option<Ctx<DynamicObject>>, said: Said) {
        let session = session.clone();
        tokio::spawn(async move {
            let wait = match context {
                // The handler is gone: its parts are tried again with it.
                None => Some(0.0),
                Some(context) => match context.execute(parts_of(&session, said.call, said.parts)).await {
                    Ok(()) => None,
                    Err(HandlerError::Unfinished { delay }) => Some(delay.as_secs_f64()),
                    Err(error) => {
                        tracing::error!("sub-handlers were not called: {error}");
                        Some(1.0)
                    }
                },
            };
            // The handler waits for it. If it cannot be told, it has ended with its process.
            let _ = session.send(&json!({ "op": "executed", "id": said.id, "wait": wait })).await;
        });
    }

    fn event(&self, said: Said) {
        let Some((poster, posting)) = self.posting.get() else {
            tracing::warn!("an event was dropped: there is no connection to a cluster yet");
            return;
        };
        let regarding = match serde_json::from_value(said.regarding) {
            Ok(regarding) => regarding,
            Err(error) => {
                tracing::warn!("an event was dropped, it is not clear what it is about: {error}");
                return;
            }
        };
        poster.post(PlainEvent {
            regarding,
            kind: said.kind,
            reason: said.reason,
            message: said.message,
            name_prefix: posting.prefix.clone(),
            component: posting.component.clone(),
            instance: posting.instance.clone(),
        });
    }
}
