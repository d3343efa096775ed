//! A plugin's configuration, read field by field; what is absent or null takes the schema's default.

use serde_json::Value;

pub(crate) struct Settings<'a>(pub(crate) &'a Value);

impl<'a> Settings<'a> {
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(default)
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(Value::as_str).map(str::to_owned)
    }

    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.get(name).and_then(Value::as_f64)
    }

    /// A list of texts; absent when the field is.
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<String>> {
        let list = self.get(name)?.as_array()?;
        Some(list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect())
    }

    pub(crate) fn inner(&self, name: &str) -> Settings<'a> {
        Settings(self.0.get(name).unwrap_or(&Value::Null))
    }
}
