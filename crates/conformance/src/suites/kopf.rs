//! Kopf's golden annotation keys and diffs, as the operator framework must make them.

use std::path::Path;

use gantry_operator::{Diff, KeyNames};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Case;

#[derive(Deserialize)]
struct KeyVector {
    id: String,
    keys: Vec<String>,
    prefix: Option<String>,
    v1: Option<bool>,
}

#[derive(Deserialize)]
struct DiffVector {
    a: Value,
    b: Value,
    diff: Value,
}

/// Handler ids and the annotations that hold their progress.
pub(crate) fn annotation_keys(data: &Path) -> Option<Vec<Case>> {
    let vectors: Vec<KeyVector> = read(data, "annotation-key-vectors.json")?;
    let cases = vectors.into_iter().map(|vector| {
        let prefix = vector.prefix.as_deref().unwrap_or("kopf.zalando.org");
        let keys = KeyNames::new(prefix, vector.v1.unwrap_or(true)).keys(&vector.id);
        Case::new(vector.id, compare(&json!(keys), &json!(vector.keys)))
    });
    Some(cases.collect())
}

/// Pairs of states and their differences.
pub(crate) fn diffs(data: &Path) -> Option<Vec<Case>> {
    let vectors: Vec<DiffVector> = read(data, "diff-vectors.json")?;
    let cases = vectors.into_iter().map(|vector| {
        let items = Diff::between(&vector.a, &vector.b).items.into_iter();
        let told: Vec<Value> =
            items.map(|item| json!([item.operation.as_str(), item.path, item.old, item.new])).collect();
        Case::new(format!("{} → {}", vector.a, vector.b), compare(&json!(told), &vector.diff))
    });
    Some(cases.collect())
}

fn read<T: serde::de::DeserializeOwned>(data: &Path, file: &str) -> Option<T> {
    let text = std::fs::read_to_string(data.join("kopf").join(file)).ok()?;
    match serde_json::from_str(&text) {
        Ok(vectors) => Some(vectors),
        Err(error) => {
            eprintln!("kopf/{file}: {error}");
            None
        }
    }
}

fn compare(ours: &Value, theirs: &Value) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("expected {theirs}\nfound    {ours}")) }
}
