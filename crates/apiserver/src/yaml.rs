//! YAML as the API speaks it: bodies that are YAML, answers for `Accept: application/yaml`.

use gantry_apimachinery::{Value, parse_yaml, to_yaml};
use gantry_yaml::FileId;

pub(crate) fn emit(value: &Value) -> String {
    gantry_yaml::emit(&to_yaml(value))
}

/// The one document of a body.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let documents = parse_yaml(FileId::default(), text).map_err(|error| error.to_string())?;
    documents.into_iter().next().ok_or_else(|| "the body holds no document".to_owned())
}
