use gantry_apimachinery::Value;

use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "ns".into(), name: name.into() }
}

fn encoded(text: &str) -> Encoded {
    let mut value = Value::object();
    *value.entry_at(&["metadata", "labels", "v"]) = text.into();
    Encoded::new(&value)
}

fn put(name: &str, expect: Expect, text: &str) -> Write {
    Write { collection: "/configmaps".into(), key: key(name), expect, change: Change::Put(encoded(text)) }
}

fn delete(name: &str, revision: u64) -> Write {
    Write {
        collection: "/configmaps".into(),
        key: key(name),
        expect: Expect::Revision(revision),
        change: Change::Delete(encoded("gone")),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// The same behaviour is expected of both kinds of store.
async fn behaves(store: &Store) {
    let a = store.commit(put("a", Expect::Absent, "1")).await.unwrap();
    assert!(matches!(store.commit(put("a", Expect::Absent, "1")).await, Err(WriteError::Conflict(Some(_)))));
    let b = store.commit(put("b", Expect::Absent, "1")).await.unwrap();
    assert_eq!(b.revision, a.revision + 1);
    let a2 = store.commit(put("a", Expect::Revision(a.revision), "2")).await.unwrap();
    assert!(matches!(
        store.commit(put("a", Expect::Revision(a.revision), "3")).await,
        Err(WriteError::Conflict(_))
    ));
    let gone = store.commit(delete("b", b.revision)).await.unwrap();
    assert!(store.get("/configmaps", &key("b")).is_none());
    let names = |listing: Listing| {
        listing.objects.iter().map(|o| format!("{}{}", o.key.name, o.label("v").unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(names(store.list("/configmaps", Some("ns"), None, 10, |_| true).0), ["a2"]);
    assert_eq!(names(store.list_at("/configmaps", Some("ns"), None, b.revision).unwrap()), ["a1", "b1"]);
    assert_eq!(names(store.list_at("/configmaps", None, Some(&key("a")), a2.revision).unwrap()), ["b1"]);
    let (events, complete) = store.events_after("/configmaps", a.revision, 100).unwrap();
    let seen: Vec<_> = events.iter().map(|event| (event.kind, event.revision())).collect();
    assert_eq!(
        seen,
        [
            (EventKind::Added, b.revision),
            (EventKind::Modified, a2.revision),
            (EventKind::Deleted, gone.revision)
        ]
    );
    assert_eq!(complete, gone.revision);
}

#[test]
fn an_ephemeral_store_behaves() {
    block_on(behaves(&Store::ephemeral()));
}

#[test]
fn a_durable_store_behaves_and_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    block_on(behaves(&store));
    let revision = store.revision();
    let before = store.list_at("/configmaps", None, None, revision - 1).unwrap().objects.len();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.revision(), revision);
    assert_eq!(store.list_at("/configmaps", None, None, revision - 1).unwrap().objects.len(), before);
    assert_eq!(store.get("/configmaps", &key("a")).unwrap().label("v"), Some("2"));
    // Watches resume from before the restart.
    assert_eq!(store.events_after("/configmaps", revision - 1, 10).unwrap().0.len(), 1);
}

#[test]
fn writers_at_once_are_batched_and_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let writers: Vec<_> = (0..50)
            .map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    for number in 0..10 {
                        store.commit(put(&format!("{writer}-{number}"), Expect::Absent, "x")).await.unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
    let count = |store: &Store| store.list("/configmaps", None, None, usize::MAX, |_| true).0.objects.len();
    assert_eq!(count(&store), 500);
    drop(store);
    assert_eq!(count(&Store::open(folder.path()).unwrap()), 500);
}

#[test]
fn a_watcher_out_of_the_window_is_told() {
    let store = Store::ephemeral();
    block_on(async {
        let first = store.commit(put("a", Expect::Absent, "0")).await.unwrap();
        let mut revision = first.revision;
        for number in 0..10_001 {
            revision = store
                .commit(put("a", Expect::Revision(revision), &number.to_string()))
                .await
                .unwrap()
                .revision;
        }
        assert!(store.events_after("/configmaps", first.revision, 1).is_err());
        assert!(store.list_at("/configmaps", None, None, first.revision).is_err());
        assert_eq!(store.events_after("/configmaps", revision - 1, 10).unwrap().0.len(), 1);
    });
}
