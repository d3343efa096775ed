//! Stored objects in the version and shape a client asked for.

use std::sync::Arc;

use bytes::Bytes;
use gantry_apimachinery::{Map, Value};
use http::Response;

use crate::convert;
use crate::negotiate::{Format, Shape};
use crate::resources::Resource;
use crate::response;
use crate::rest::Call;
use crate::service::ResponseBody;
use crate::store::Object;
use crate::table;

/// The object as JSON in the version of `resource`. Shares the stored bytes where that is the stored version.
pub(crate) fn object_json(resource: &Resource, object: &Object) -> Bytes {
    if resource.api_version() == resource.stored_version {
        return object.bytes.clone();
    }
    response::to_json(&convert::from_stored(resource, object.value())).into()
}

/// One object as the answer to a request for it.
pub(crate) fn object(call: &Call, code: u16, object: &Object) -> Response<ResponseBody> {
    response::negotiated(code, call.accepted, shaped(call, object))
}

/// One object in the shape that was asked for.
pub(crate) fn shaped(call: &Call, object: &Object) -> Bytes {
    match call.accepted.shape {
        Shape::Object => object_json(&call.resource, object),
        Shape::Metadata => response::to_json(&metadata_only(&object.value())).into(),
        Shape::Table => {
            let meta =
                table::ListMeta { revision: object.revision.to_string(), ..table::ListMeta::default() };
            table::render(call, &[object], &meta, table::Columns::Shown)
        }
    }
}

/// `PartialObjectMetadata` of an object.
pub(crate) fn metadata_only(object: &Value) -> Value {
    let mut partial = Map::with_capacity(3);
    partial.insert("kind", "PartialObjectMetadata");
    partial.insert("apiVersion", "meta.k8s.io/v1");
    partial.insert("metadata", object.get("metadata").cloned().unwrap_or_else(Value::object));
    partial.into()
}

/// A list of objects in the shape that was asked for.
pub(crate) fn list(call: &Call, objects: &[Arc<Object>], meta: &table::ListMeta) -> Response<ResponseBody> {
    let borrowed: Vec<&Object> = objects.iter().map(|object| &**object).collect();
    let body = match call.accepted.shape {
        Shape::Table => table::render(call, &borrowed, meta, table::Columns::Shown),
        Shape::Metadata => metadata_list(&borrowed, meta),
        Shape::Object => object_list(call, &borrowed, meta),
    };
    if call.accepted.format == Format::Json && !call.accepted.pretty {
        return response::json_bytes(200, body);
    }
    response::negotiated(200, call.accepted, body)
}

fn object_list(call: &Call, objects: &[&Object], meta: &table::ListMeta) -> Bytes {
    let resource = &call.resource;
    let size: usize = objects.iter().map(|object| object.bytes.len() + 1).sum();
    let mut out = Vec::with_capacity(size + 256);
    open_list(&mut out, &resource.list_kind, &resource.api_version(), meta);
    // Items of built-in lists do not repeat kind and version, which stand at the start of every stored object.
    let prefix = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",", resource.kind, resource.api_version());
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let json = object_json(resource, object);
        match json.strip_prefix(prefix.as_bytes()) {
            Some(rest) if resource.custom.is_none() => {
                out.push(b'{');
                out.extend_from_slice(rest);
            }
            _ => out.extend_from_slice(&json),
        }
    }
    out.extend_from_slice(b"]}\n");
    out.into()
}

fn metadata_list(objects: &[&Object], meta: &table::ListMeta) -> Bytes {
    let mut out = Vec::new();
    open_list(&mut out, "PartialObjectMetadataList", "meta.k8s.io/v1", meta);
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&response::to_json(&metadata_only(&object.value())));
    }
    out.extend_from_slice(b"]}\n");
    out.into()
}

fn open_list(out: &mut Vec<u8>, kind: &str, api_version: &str, meta: &table::ListMeta) {
    let mut head = Map::new();
    head.insert("kind", kind);
    head.insert("apiVersion", api_version);
    head.insert("metadata", meta.to_value());
    out.extend_from_slice(&response::to_json(&head.into()));
    out.pop();
    out.extend_from_slice(b",\"items\":[");
}
