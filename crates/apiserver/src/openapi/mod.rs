//! OpenAPI documents: the schemas and writable paths of every group and version, as kubectl reads them.
//!
//! Invariant: a document is made when it is first asked for and then kept compressed; its hash changes when, and only
//! when, what it says may have changed.

mod custom;
mod paths;
mod schemas;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use gantry_apimachinery::{Map, Value};
use http::{HeaderMap, HeaderValue, Response, header};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::doors::TypeDocs;
use crate::query::Query;
use crate::resources::{GroupVersion, Registry};
use crate::response;
use crate::rest::Answer;
use crate::server::Inner;
use crate::service::{ResponseBody, full};
use crate::status::Failure;

/// What kubectl accepts of version 2, and nothing else.
const V2_PROTOBUF: &str = "proto-openapi.spec.v2";
/// A document of version 2 in protobuf without paths and definitions: `swagger` (1) is "2.0", and `info` (2) holds `title`
/// (1) and `version` (2). kubectl reads version 3, and asks this one for kinds that it has not found there. They are not
/// here either, and it goes on to say so.
const V2_EMPTY: &[u8] = b"\x0a\x032.0\x12\x15\x0a\x0aKubernetes\x12\x07v1.36.2";

/// Where references to schemas point.
#[derive(Clone, Copy, PartialEq)]
enum Version {
    V2,
    V3,
}

impl Version {
    fn reference(self, name: &str) -> String {
        match self {
            Version::V2 => format!("#/definitions/{name}"),
            Version::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// Documents that were asked for.
#[derive(Default)]
pub(crate) struct Documents {
    made: Mutex<HashMap<String, Arc<Document>>>,
}

struct Document {
    hash: String,
    gzip: Bytes,
}

pub(crate) fn handle(server: &Inner, path: &[&str], query: &Query, headers: &HeaderMap) -> Answer {
    let registry = server.registry.load();
    match path {
        ["v3"] => Ok(response::value(200, &index(&registry, server))),
        ["v3", "api", version] => document(server, &registry, "", version, query, headers),
        ["v3", "apis", group, version] => document(server, &registry, group, version, query, headers),
        ["v2"] if wants_protobuf(headers) => Ok(response::openapi_protobuf(V2_EMPTY)),
        ["v2"] => {
            let hash = hash_of(&registry.group_versions, server);
            let docs = server.type_docs.read().clone();
            let made = server.documents.get("v2", &hash, || v2(&registry, docs.as_deref()));
            Ok(serve(&made, headers, false))
        }
        _ => Err(Failure::no_such_resource()),
    }
}

/// JSON is what everyone else gets, whatever they accept.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accepted =
        headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    accepted.split(',').next().is_some_and(|first| first.contains(V2_PROTOBUF))
}

fn base_path(group_version: &GroupVersion) -> String {
    if group_version.group.is_empty() {
        return format!("api/{}", group_version.version);
    }
    format!("apis/{}/{}", group_version.group, group_version.version)
}

fn index(registry: &Registry, server: &Inner) -> Value {
    let mut paths = Map::new();
    for group_version in &registry.group_versions {
        let path = base_path(group_version);
        let hash = hash_of(std::slice::from_ref(group_version), server);
        let mut entry = Map::new();
        entry.insert("serverRelativeURL", format!("/openapi/v3/{path}?hash={hash}"));
        paths.insert(path, entry);
    }
    let mut index = Map::new();
    index.insert("paths", paths);
    index.into()
}

/// Of what the documents are made from, so that they need not be made to be told apart.
fn hash_of(group_versions: &[GroupVersion], server: &Inner) -> String {
    let mut hash = Sha256::new();
    hash.update(server.product_version.as_bytes());
    hash.update([u8::from(server.type_docs.read().is_some())]);
    for group_version in group_versions {
        hash.update(base_path(group_version).as_bytes());
        for resource in &group_version.resources {
            hash.update(resource.plural.as_bytes());
            if let Some(custom) = &resource.custom {
                hash.update(custom.revision.to_le_bytes());
            }
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

fn document(
    server: &Inner,
    registry: &Registry,
    group: &str,
    version: &str,
    query: &Query,
    headers: &HeaderMap,
) -> Answer {
    let Some(group_version) = registry.group_version(group, version) else {
        return Err(Failure::no_such_resource());
    };
    let hash = hash_of(std::slice::from_ref(group_version), server);
    let docs = server.type_docs.read().clone();
    let key = base_path(group_version);
    let made = server.documents.get(&key, &hash, || v3(group_version, docs.as_deref()));
    let by_hash = query.get("hash") == Some(&hash);
    Ok(serve(&made, headers, by_hash))
}

fn v3(group_version: &GroupVersion, docs: Option<&dyn TypeDocs>) -> Value {
    let mut out = Map::new();
    out.insert("openapi", "3.0.0");
    out.insert("info", info());
    out.insert("paths", paths::of(group_version));
    let mut components = Map::new();
    components.insert("schemas", schemas::of(group_version, docs, Version::V3));
    out.insert("components", components);
    out.into()
}

fn v2(registry: &Registry, docs: Option<&dyn TypeDocs>) -> Value {
    let mut definitions = Map::new();
    let mut all_paths = Map::new();
    for group_version in &registry.group_versions {
        for (name, schema) in schemas::of(group_version, docs, Version::V2) {
            definitions.insert(name, schema);
        }
        for (path, operations) in paths::of(group_version) {
            all_paths.insert(path, operations);
        }
    }
    let mut out = Map::new();
    out.insert("swagger", "2.0");
    out.insert("info", info());
    out.insert("paths", all_paths);
    out.insert("definitions", definitions);
    out.into()
}

fn info() -> Map {
    let mut info = Map::new();
    info.insert("title", "Kubernetes");
    info.insert("version", "v1.36.2");
    info
}

impl Documents {
    /// The document of this key and hash, made if it is not there.
    fn get(&self, key: &str, hash: &str, make: impl FnOnce() -> Value) -> Arc<Document> {
        if let Some(known) = self.made.lock().get(key).filter(|known| known.hash == hash) {
            return known.clone();
        }
        let text = response::to_json(&make());
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        // Writing to a vector cannot fail.
        let _ = encoder.write_all(&text);
        let gzip = encoder.finish().unwrap_or_default().into();
        let document = Arc::new(Document { hash: hash.to_owned(), gzip });
        self.made.lock().insert(key.to_owned(), document.clone());
        document
    }

    /// Forgets the documents of groups that are not served any more.
    pub(crate) fn keep_served(&self, registry: &Registry) {
        let served: Vec<String> = registry.group_versions.iter().map(base_path).collect();
        self.made.lock().retain(|key, _| key == "v2" || served.contains(key));
    }
}

fn serve(document: &Document, headers: &HeaderMap, immutable: bool) -> Response<ResponseBody> {
    let accepts_gzip = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|accepted| accepted.to_str().ok())
        .is_some_and(|accepted| accepted.split(',').any(|one| one.trim().starts_with("gzip")));
    let mut response = if accepts_gzip {
        let mut response = response::json_bytes(200, Bytes::new());
        *response.body_mut() = full(document.gzip.clone());
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    } else {
        let mut text = Vec::new();
        // What this server compressed can be read again.
        let _ = GzDecoder::new(&document.gzip[..]).read_to_end(&mut text);
        response::json_bytes(200, text)
    };
    let out = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", document.hash)) {
        out.insert(header::ETAG, tag);
    }
    out.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if immutable {
        // The hash is part of the address: what is there never changes.
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    response
}
