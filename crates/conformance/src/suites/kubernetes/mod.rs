//! The Kubernetes API: sample objects in both encodings, and recorded sessions of real clients.

mod cluster;
mod node;
pub(crate) mod sessions;

use std::path::Path;

use gantry_apimachinery::{Value, protobuf};

use super::Case;

/// Every built-in kind: each encoding read, written and read again is the same object.
pub(crate) fn objects(data: &Path) -> Option<Vec<Case>> {
    let folder = data.join("kubernetes-api/objects");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    Some(names.into_iter().map(|name| Case::new(name.clone(), round_trip(&folder, &name))).collect())
}

fn round_trip(folder: &Path, name: &str) -> Result<(), String> {
    let read = |extension: &str| {
        std::fs::read(folder.join(format!("{name}.{extension}"))).map_err(|error| error.to_string())
    };
    let object: Value = serde_json::from_slice(&read("json")?).map_err(|error| error.to_string())?;
    let kind = name.rsplit('.').next().unwrap_or_default();
    let message = read("pb")?;
    let decode = |bytes: &[u8]| protobuf::decode(bytes, "v1", kind).map_err(|error| error.to_string());
    // A watch event names no kind of its own in JSON.
    let without_type = |value: &Value| {
        let mut value = value.clone();
        if let Some(map) = value.as_object_mut().filter(|_| object.get("kind").is_none()) {
            map.remove("kind");
            map.remove("apiVersion");
        }
        value
    };
    let decoded = decode(&message)?;
    same("decoded", &without_type(&decoded), &object)?;
    let mut named = object.clone();
    if let Some(map) = named.as_object_mut() {
        for field in ["kind", "apiVersion"] {
            if let Some(value) = decoded.get(field).filter(|_| !map.contains_key(field)) {
                map.insert(field, value.clone());
            }
        }
    }
    let encoded = protobuf::encode(&named).ok_or("no message for this kind")?;
    same("encoded and decoded", &without_type(&decode(&encoded)?), &object)
}

fn same(what: &str, found: &Value, expected: &Value) -> Result<(), String> {
    match difference(found, expected, "") {
        None => Ok(()),
        Some(difference) => Err(format!("{what}: {difference}")),
    }
}

/// The first place at which two objects differ.
fn difference(found: &Value, expected: &Value, path: &str) -> Option<String> {
    if let (Some(found), Some(expected)) = (found.as_object(), expected.as_object()) {
        for (key, wanted) in expected.iter() {
            let at = format!("{path}.{key}");
            // Null is what is not there.
            match found.get(key) {
                None if wanted.is_null() => {}
                None => return Some(format!("{at}: expected {wanted:?}, found nothing")),
                Some(value) => {
                    if let Some(difference) = difference(value, wanted, &at) {
                        return Some(difference);
                    }
                }
            }
        }
        let extra = found.iter().find(|(key, _)| !expected.contains_key(key));
        return extra.map(|(key, value)| format!("{path}.{key}: expected nothing, found {value:?}"));
    }
    if let (Some(found), Some(expected)) = (found.as_array(), expected.as_array())
        && found.len() == expected.len()
    {
        let pairs = found.iter().zip(expected).enumerate();
        return pairs
            .map(|(index, (found, expected))| difference(found, expected, &format!("{path}[{index}]")))
            .find_map(|difference| difference);
    }
    (found != expected).then(|| format!("{path}: expected {expected:?}, found {found:?}"))
}
