//! What happens to the objects of a definition that is being deleted: they go first.

use std::sync::Arc;
use std::time::Duration;

use gantry_apimachinery::Value;
use http::{Method, Request};

use crate::crd;
use crate::doors::UserInfo;
use crate::rest;
use crate::server::Inner;
use crate::store::{Change, Encoded, Expect, ObjectKey, Write};

/// Objects with finalizers of others can take as long as those need; we look again this often.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(crate) async fn remove_objects(server: &Arc<Inner>, name: &str) {
    let key = ObjectKey { namespace: "".into(), name: name.into() };
    loop {
        let Some(definition) = server.store.get(crd::COLLECTION, &key) else { return };
        let mut value = definition.value();
        let held =
            value.at(&["metadata", "finalizers"]).and_then(Value::as_array).is_some_and(|finalizers| {
                finalizers.iter().any(|finalizer| finalizer.as_str() == Some(crd::CLEANUP))
            });
        if value.at(&["metadata", "deletionTimestamp"]).is_none() || !held {
            return;
        }
        let resources = crd::resources_of(&value, 0);
        let Some(resource) = resources.first() else { return };
        let (listing, _) = server.store.list(&resource.collection, None, None, usize::MAX, |_| true);
        if !listing.objects.is_empty() {
            for object in &listing.objects {
                let namespace = if object.key.namespace.is_empty() {
                    String::new()
                } else {
                    format!("/namespaces/{}", object.key.namespace)
                };
                delete(
                    server,
                    &format!(
                        "/apis/{}/{}{namespace}/{}/{}",
                        resource.group, resource.version, resource.plural, object.key.name
                    ),
                )
                .await;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        }
        if let Some(finalizers) = value.at_mut(&["metadata", "finalizers"]).and_then(Value::as_array_mut) {
            finalizers.retain(|finalizer| finalizer.as_str() != Some(crd::CLEANUP));
        }
        let encoded = Encoded::new(&value);
        let change = if rest::write::may_go(&value) { Change::Delete(encoded) } else { Change::Put(encoded) };
        let write = Write {
            collection: crd::COLLECTION.into(),
            key: key.clone(),
            expect: Expect::Revision(definition.revision),
            change,
        };
        match server.store.commit(write).await {
            Ok(_) => {
                crd::load(server);
                return;
            }
            Err(crate::store::WriteError::Conflict(_)) => continue,
            Err(error) => {
                tracing::error!(%error, definition = name, "removing a definition failed");
                return;
            }
        }
    }
}

async fn delete(server: &Arc<Inner>, path: &str) {
    let mut request = Request::new(bytes::Bytes::new());
    *request.method_mut() = Method::DELETE;
    let Ok(uri) = path.parse() else { return };
    *request.uri_mut() = uri;
    request.extensions_mut().insert(UserInfo {
        name: "system:apiserver".into(),
        groups: vec!["system:masters".into()],
        ..UserInfo::default()
    });
    rest::handle(server.clone(), request).await;
}
