//! YAML as the API speaks it: bodies that are YAML, answers for `Accept: application/yaml`.

use gantry_apimachinery::Value;

/// JSON is YAML.
pub(crate) fn emit(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

pub(crate) fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
