//! `response-transformer`: fields of a response changed on the way; bodies are left as they are.

use super::request_transformer::pairs;
use super::settings::Settings;
use super::{Plugin, Response};

pub(crate) struct ResponseTransformer {
    removes: Vec<String>,
    renames: Vec<(String, String)>,
    replaces: Vec<(String, String)>,
    adds: Vec<(String, String)>,
    appends: Vec<(String, String)>,
}

impl ResponseTransformer {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<ResponseTransformer, String> {
        for operation in ["remove", "rename", "replace", "add", "append"] {
            let changes_body = settings.inner(operation).texts("json").is_some_and(|list| !list.is_empty());
            if changes_body {
                return Err(format!(
                    "{operation}.json: changing bodies of responses is not supported by this gateway"
                ));
            }
        }
        Ok(ResponseTransformer {
            removes: settings.inner("remove").texts("headers").unwrap_or_default(),
            renames: pairs(settings, "rename", "headers")?,
            replaces: pairs(settings, "replace", "headers")?,
            adds: pairs(settings, "add", "headers")?,
            appends: pairs(settings, "append", "headers")?,
        })
    }
}

impl Plugin for ResponseTransformer {
    fn respond(&self, response: &mut Response<'_>) {
        for entry in &self.removes {
            match entry.split_once(':') {
                None => response.edits.remove(entry),
                Some((name, value)) if response.first(name).as_deref() == Some(value) => {
                    response.edits.remove(name)
                }
                Some(_) => {}
            }
        }
        for (old, new) in &self.renames {
            if let Some(value) = response.first(old) {
                response.edits.remove(old);
                response.edits.set(new, &value);
            }
        }
        for (name, value) in &self.replaces {
            if response.has(name) {
                response.edits.set(name, value);
            }
        }
        for (name, value) in &self.adds {
            if !response.has(name) {
                response.edits.add(name, value);
            }
        }
        for (name, value) in &self.appends {
            response.edits.add(name, value);
        }
    }

    fn responds(&self) -> bool {
        true
    }
}
