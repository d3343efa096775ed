//! Handlers over the life of an object: what is called, with what, how often, and what is left on the object.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gantry_operator::{Ctx, HandlerError, HandlerSettings, Lifecycle, Operator, Persistence, handler};
use kube::ResourceExt;
use kube::api::DeleteParams;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::quickstart;
use crate::stage::{Stage, Widget, eventually};

const LAST_HANDLED: &str = "kopf.zalando.org/last-handled-configuration";

#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    fn add(&self, line: String) {
        self.lines.lock().push(line);
    }

    fn all(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    async fn has(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} calls, there are {:?}", self.all()), || async {
            (self.all().len() >= count).then(|| self.all())
        })
        .await
    }
}

fn everything(operator: Operator, log: &Log) -> Operator {
    let note = |what: &'static str| {
        let log = log.clone();
        handler(move |ctx: Ctx<Widget>| {
            let log = log.clone();
            async move {
                log.add(format!(
                    "{what} {} {}>{}",
                    ctx.name(),
                    ctx.old()["spec"]["size"],
                    ctx.new()["spec"]["size"]
                ));
                Ok(())
            }
        })
        .id(what)
    };
    let field = log.clone();
    let field = handler(move |ctx: Ctx<Widget>| {
        let field = field.clone();
        async move {
            field.add(format!("field {} {}>{}", ctx.name(), ctx.old(), ctx.new()));
            Ok(())
        }
    });
    operator
        .on::<Widget>()
        .create(note("create"))
        .update(note("update"))
        .resume(note("resume"))
        .delete(note("delete"))
        .field("spec.color", field.id("color"))
        .done()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_an_object() {
    let stage = Stage::set().await;
    let log = Log::default();
    let running = stage.run(everything(stage.operator(), &log));
    stage.make("a", 1).await;
    assert_eq!(log.has(1).await, ["create a null>1"]);
    let handled =
        stage.widget("a", "the note", |widget| widget.annotations().contains_key(LAST_HANDLED)).await;
    assert_eq!(
        handled.annotations().get(LAST_HANDLED).map(String::as_str),
        Some("{\"spec\":{\"size\":1}}\n")
    );
    assert_eq!(handled.finalizers(), ["kopf.zalando.org/KopfFinalizerMarker"]);

    stage.patch("a", json!({ "spec": { "size": 2 } })).await;
    assert_eq!(log.has(2).await[1..], ["update a 1>2"]);
    stage.patch("a", json!({ "spec": { "color": "red" } })).await;
    let mut both = log.has(4).await.split_off(2);
    both.sort();
    assert_eq!(both, ["field a null>\"red\"", "update a 2>2"]);
    stage.widget("a", "the progress to be wiped", |widget| widget.annotations().len() == 1).await;
    running.end().await;

    let running = stage.run(everything(stage.operator(), &log));
    assert_eq!(log.has(5).await[4..], ["resume a 2>2"]);
    stage.widgets().delete("a", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(log.has(6).await[5..], ["delete a 2>2"]);
    eventually("the object to go", || async {
        stage.widgets().get_opt("a").await.expect("an answer").is_none().then_some(())
    })
    .await;
    running.end().await;
    assert_eq!(log.all().len(), 6, "nothing was called twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_retried_and_given_up() {
    let stage = Stage::set().await;
    let log = Log::default();
    let failing = |id: &'static str, error: fn(u32) -> Result<Value, HandlerError>| {
        let log = log.clone();
        handler(move |ctx: Ctx<Widget>| {
            let log = log.clone();
            async move {
                log.add(format!("{id} {}", ctx.retry()));
                error(ctx.retry())
            }
        })
        .id(id)
    };
    let soon = Duration::from_millis(10);
    let twice = failing("twice", |retry| match retry {
        0 | 1 => Err(HandlerError::temporary("not yet", Duration::from_millis(10))),
        _ => Ok(json!({ "answer": 42 })),
    });
    let never = failing("never", |_| Err(HandlerError::permanent("no")));
    let limited =
        failing("limited", |_| Err(std::io::Error::other("broken").into())).backoff(soon).retries(3);
    let panics =
        failing("panics", |retry| if retry == 0 { panic!("once") } else { Ok(Value::Null) }).backoff(soon);
    let operator =
        stage.operator().on::<Widget>().create(twice).create(never).create(limited).create(panics).done();
    let running = stage.run(operator);
    stage.make("a", 1).await;
    let widget =
        stage.widget("a", "all to end", |widget| widget.annotations().contains_key(LAST_HANDLED)).await;
    let mut calls = log.all();
    calls.sort();
    let expected = [
        "limited 0",
        "limited 1",
        "limited 2",
        "never 0",
        "panics 0",
        "panics 1",
        "twice 0",
        "twice 1",
        "twice 2",
    ];
    assert_eq!(calls, expected);
    assert_eq!(widget.annotations().len(), 1, "no progress is left: {:?}", widget.annotations());
    assert!(widget.finalizers().is_empty(), "nothing holds an object without delete handler");
    let results = widget.status.map(|status| Value::Object(status.results));
    assert_eq!(results, Some(json!({ "twice": { "answer": 42 } })));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_survives_a_restart() {
    let stage = Stage::set().await;
    let log = Log::default();
    let build = |gate_open: bool| {
        let (first, second) = (log.clone(), log.clone());
        let first = handler(move |_: Ctx<Widget>| {
            let first = first.clone();
            async move {
                first.add("first".to_owned());
                Ok(())
            }
        });
        let second = handler(move |ctx: Ctx<Widget>| {
            let second = second.clone();
            async move {
                second.add(format!("second {}", ctx.retry()));
                if gate_open {
                    Ok(())
                } else {
                    Err(HandlerError::temporary("closed", Duration::from_millis(300)))
                }
            }
        });
        stage.operator().on::<Widget>().create(first.id("first")).create(second.id("second")).done()
    };
    let running = stage.run(build(false));
    stage.make("a", 1).await;
    log.has(2).await;
    let noted = stage
        .widget("a", "both records", |widget| {
            let record = |name: &str| widget.annotations().get(name).cloned().unwrap_or_default();
            record("kopf.zalando.org/first").contains("\"success\":true")
                && record("kopf.zalando.org/second").contains("\"retries\":1")
        })
        .await;
    assert!(!noted.annotations().contains_key(LAST_HANDLED));
    running.end().await;
    let tried = log.all().len();
    let running = stage.run(build(true));
    stage.widget("a", "the end", |widget| widget.annotations().contains_key(LAST_HANDLED)).await;
    running.end().await;
    assert_eq!(
        log.all().split_off(tried),
        [format!("second {}", tried - 1)],
        "the first was not called again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_and_daemons_live_with_their_object() {
    let stage = Stage::set().await;
    let log = Log::default();
    let (ticks, runs) = (log.clone(), log.clone());
    let tick = handler(move |ctx: Ctx<Widget>| {
        let ticks = ticks.clone();
        async move {
            ticks.add("tick".to_owned());
            ctx.patch().status("ticked", true);
            Ok(())
        }
    });
    let daemon = handler(move |ctx: Ctx<Widget>| {
        let runs = runs.clone();
        async move {
            runs.add("begin".to_owned());
            ctx.stopped().cancelled().await;
            runs.add("end".to_owned());
            Ok(())
        }
    });
    let operator = stage
        .operator()
        .on::<Widget>()
        .timer(Duration::from_millis(20), tick.id("tick").field_is("spec.size", json!(1)))
        .daemon(daemon.id("daemon"))
        .done();
    let running = stage.run(operator);
    stage.make("a", 1).await;
    eventually("several ticks", || async {
        (log.all().iter().filter(|line| *line == "tick").count() > 3).then_some(())
    })
    .await;
    stage
        .widget("a", "the status", |widget| {
            widget.status.as_ref().is_some_and(|status| status.results.get("ticked") == Some(&json!(true)))
        })
        .await;
    assert_eq!(log.all().iter().filter(|line| *line == "begin").count(), 1);
    stage.widgets().delete("a", &DeleteParams::default()).await.expect("deleted");
    eventually("the daemon to end", || async { log.all().contains(&"end".to_owned()).then_some(()) }).await;
    stage.make("b", 2).await;
    eventually("the second daemon", || async {
        (log.all().iter().filter(|line| *line == "begin").count() == 2).then_some(())
    })
    .await;
    running.end().await;
    assert_eq!(log.all().iter().filter(|line| *line == "end").count(), 2, "daemons end with the operator");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_indices_filters_and_memos() {
    let stage = Stage::set().await;
    let log = Log::default();
    let operator = stage.operator();
    let by_size = operator.index(|widget: &Widget| vec![(widget.spec.size, widget.name_any())]);
    let (heard, noted) = (log.clone(), log.clone());
    let event = handler(move |ctx: Ctx<Widget>| {
        let heard = heard.clone();
        async move {
            let count = ctx.memo().get::<Mutex<u32>>();
            *count.lock() += 1;
            let number = *count.lock();
            heard.add(format!("{} {} {number}", ctx.event().unwrap_or("LISTED"), ctx.name()));
            Ok(())
        }
    });
    let only = handler(move |ctx: Ctx<Widget>| {
        let noted = noted.clone();
        async move {
            noted.add(format!("created {}", ctx.name()));
            Ok(())
        }
    });
    let only = only.label("use", "yes").when(|ctx| ctx.object().spec.size > 1);
    let operator = operator.on::<Widget>().event(event.id("event")).create(only.id("only")).done();
    stage.make("early", 7).await;
    let running = stage.run(operator);
    log.has(1).await;
    assert_eq!(log.all().first().map(String::as_str), Some("LISTED early 1"));
    stage.make("late", 7).await;
    eventually("both in the index", || async {
        let mut names = by_size.get(&7);
        names.sort();
        (names == ["early", "late"]).then_some(())
    })
    .await;
    stage.patch("late", json!({ "metadata": { "labels": { "use": "yes" } } })).await;
    stage.widgets().delete("late", &DeleteParams::default()).await.expect("deleted");
    eventually("the deletion", || async {
        log.all().iter().any(|line| line.starts_with("DELETED late")).then_some(())
    })
    .await;
    eventually("the index to shrink", || async { (by_size.get(&7) == ["early"]).then_some(()) }).await;
    running.end().await;
    assert!(log.all().contains(&"ADDED late 1".to_owned()), "{:?}", log.all());
    assert!(!log.all().contains(&"created early".to_owned()), "it has no label");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_gives_no_answer_is_neither_yes_nor_no() {
    let stage = Stage::set().await;
    let log = Log::default();
    let down = Arc::new(AtomicBool::new(false));
    let note = |what: &'static str| {
        let (log, asked, down) = (log.clone(), log.clone(), down.clone());
        let noting = handler(move |ctx: Ctx<Widget>| {
            let log = log.clone();
            async move {
                log.add(format!("{what} {}", ctx.new()["spec"]["size"]));
                Ok(())
            }
        });
        noting.id(what).when_asked(move |_: Ctx<Widget>, _| {
            let (asked, down) = (asked.clone(), down.clone());
            async move {
                if down.load(Ordering::SeqCst) {
                    asked.add("unanswered".to_owned());
                    return Err(HandlerError::temporary("away", Duration::from_millis(10)));
                }
                Ok(true)
            }
        })
    };
    let operator = stage.operator().on::<Widget>().update(note("update")).delete(note("delete")).done();
    let running = stage.run(operator);
    let unanswered_after = |count: usize| {
        let log = log.clone();
        async move {
            eventually("a question without an answer", || async {
                log.all()[count..].contains(&"unanswered".to_owned()).then_some(())
            })
            .await;
        }
    };
    let told = || log.all().into_iter().filter(|line| line != "unanswered").collect::<Vec<_>>();
    stage.make("a", 1).await;
    stage.widget("a", "the note", |widget| widget.annotations().contains_key(LAST_HANDLED)).await;
    down.store(true, Ordering::SeqCst);
    stage.patch("a", json!({ "spec": { "size": 2 } })).await;
    unanswered_after(0).await;
    down.store(false, Ordering::SeqCst);
    eventually("the change", || async { (told() == ["update 2"]).then_some(()) }).await;
    stage
        .widget("a", "the new note", |widget| {
            widget.annotations().get(LAST_HANDLED).is_some_and(|note| note.contains("\"size\":2"))
        })
        .await;
    down.store(true, Ordering::SeqCst);
    let asked = log.all().len();
    stage.widgets().delete("a", &DeleteParams::default()).await.expect("deleted");
    unanswered_after(asked).await;
    down.store(false, Ordering::SeqCst);
    eventually("the object to go", || async {
        stage.widgets().get_opt("a").await.expect("an answer").is_none().then_some(())
    })
    .await;
    assert_eq!(told(), ["update 2", "delete 2"]);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lean_persistence_keeps_a_digest_only() {
    let stage = Stage::set().await;
    let log = Log::default();
    let build = || {
        let (log, again) = (log.clone(), log.clone());
        let settings = HandlerSettings {
            prefix: "mine.example.com".to_owned(),
            persistence: Persistence::Lean,
            lifecycle: Lifecycle::AllAtOnce,
            ..HandlerSettings::default()
        };
        let note = handler(move |ctx: Ctx<Widget>| {
            let log = log.clone();
            async move {
                log.add(format!(
                    "{} {}>{}",
                    ctx.reason().as_str(),
                    ctx.old()["spec"]["size"],
                    ctx.new()["spec"]["size"]
                ));
                Ok(())
            }
        });
        let update = handler(move |ctx: Ctx<Widget>| {
            let log = again.clone();
            async move {
                log.add(format!(
                    "{} {}>{}",
                    ctx.reason().as_str(),
                    ctx.old()["spec"]["size"],
                    ctx.new()["spec"]["size"]
                ));
                Ok(())
            }
        });
        stage
            .operator()
            .on::<Widget>()
            .settings(settings)
            .create(note.id("made"))
            .update(update.id("changed"))
            .done()
    };
    let running = stage.run(build());
    stage.make("a", 1).await;
    log.has(1).await;
    stage.patch("a", json!({ "spec": { "size": 2 } })).await;
    log.has(2).await;
    let widget = stage.widget("a", "the notes", |widget| widget.annotations().len() == 2).await;
    let names: Vec<&str> = widget.annotations().keys().map(String::as_str).collect();
    assert_eq!(names, ["mine.example.com/kopf-managed", "mine.example.com/last-handled-digest"]);
    running.end().await;
    stage.patch("a", json!({ "spec": { "size": 3 } })).await;
    let running = stage.run(build());
    assert_eq!(log.has(3).await, ["create null>1", "update 1>2", "update null>3"]);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quickstart_greets() {
    use k8s_openapi::api::core::v1::{ConfigMap, Event};
    use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
    use tokio_util::sync::CancellationToken;

    let stage = Stage::set().await;
    let cancel = CancellationToken::new();
    let running = tokio::spawn(quickstart::run(stage.client.clone(), cancel.clone()));
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Greeting"));
    let greetings: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), "default", &kind);
    let greeting = DynamicObject::new("hello", &kind).data(json!({ "spec": { "text": "good morning" } }));
    eventually("the kind", || async { greetings.create(&PostParams::default(), &greeting).await.ok() }).await;
    let maps: Api<ConfigMap> = Api::namespaced(stage.client.clone(), "default");
    let text = |wanted: &'static str| {
        let maps = maps.clone();
        async move {
            eventually(wanted, || async {
                let map = maps.get_opt("hello").await.expect("an answer")?;
                (map.data?.get("text")? == wanted).then_some(())
            })
            .await;
        }
    };
    text("good morning").await;
    let patch = Patch::Merge(json!({ "spec": { "text": "good night" } }));
    greetings.patch("hello", &PatchParams::default(), &patch).await.expect("patched");
    text("good night").await;
    let events: Api<Event> = Api::namespaced(stage.client.clone(), "default");
    let event = eventually("the event", || async {
        events
            .list(&Default::default())
            .await
            .ok()?
            .items
            .into_iter()
            .find(|event| event.reason.as_deref() == Some("Greeted"))
    })
    .await;
    assert_eq!(event.message.as_deref(), Some("made ConfigMap hello"));
    cancel.cancel();
    running.await.expect("an operator that ends");
}
