//! `request-transformer`: fields, query and body of a request changed on the way.
//!
//! Order, as Kong's: remove, rename, replace, add, append. Values may hold `$(headers.x)`, `$(query_params.x)`,
//! `$(uri_captures.x)`, also with `["x"]`, and `$(x == nil and "a" or "b" .. x)` over them; other expressions are refused
//! when the plugin is configured.

use super::settings::Settings;
use super::{Answer, MAX_PLUGIN_BODY_BYTES, Plugin, Request, query};
use serde_json::{Map, Value};

enum Part {
    Text(String),
    Header(String),
    Query(String),
    Capture(String),
    /// What stands for a reference that is not there, and what for one that is.
    Choice {
        of: Box<Part>,
        absent: String,
        present: Vec<Part>,
    },
}

struct Template(Vec<Part>);

/// What one operation does to one place.
struct Rules {
    removes: Vec<String>,
    renames: Vec<(String, String)>,
    replaces: Vec<(String, Template)>,
    adds: Vec<(String, Template)>,
    appends: Vec<(String, Template)>,
}

pub(crate) struct RequestTransformer {
    method: Option<String>,
    uri: Option<Template>,
    headers: Rules,
    query: Rules,
    body: Rules,
}

fn reference<'t>(expression: &'t str, table: &str) -> Option<&'t str> {
    let rest = expression.strip_prefix(table)?;
    if let Some(name) = rest.strip_prefix('.') {
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return is_name.then_some(name);
    }
    let inner = rest.strip_prefix('[')?.strip_suffix(']')?.trim();
    if inner.bytes().all(|byte| byte.is_ascii_digit()) && !inner.is_empty() {
        return Some(inner);
    }
    let quote = inner.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    inner.strip_prefix(quote)?.strip_suffix(quote).filter(|name| !name.contains(quote))
}

fn operand(text: &str) -> Option<Part> {
    let text = text.trim();
    if let Some(name) = reference(text, "headers") {
        return Some(Part::Header(name.to_ascii_lowercase()));
    }
    if let Some(name) = reference(text, "query_params") {
        return Some(Part::Query(name.to_owned()));
    }
    reference(text, "uri_captures").map(|name| Part::Capture(name.to_owned()))
}

/// A string of Lua without escapes.
fn literal(text: &str) -> Option<&str> {
    let text = text.trim();
    let quote = text.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains(quote) && !inner.contains('\\')).then_some(inner)
}

/// `x == nil and "a" or "b" .. x`.
fn choice(expression: &str) -> Option<Part> {
    let (of, rest) = expression.split_once("== nil and ")?;
    let (absent, rest) = rest.split_once(" or ")?;
    let mut present = Vec::new();
    for part in rest.split(" .. ") {
        present.push(match literal(part) {
            Some(text) => Part::Text(text.to_owned()),
            None => operand(part)?,
        });
    }
    Some(Part::Choice { of: Box::new(operand(of)?), absent: literal(absent)?.to_owned(), present })
}

impl Part {
    /// What the part stands for; `None` when that is not there.
    fn render(&self, request: &Request<'_>) -> Option<String> {
        match self {
            Part::Text(text) => Some(text.clone()),
            Part::Header(name) => request.header(name).or_else(|| request.header(&name.replace('_', "-"))),
            Part::Query(name) => query::values(request.query(), name).into_iter().next(),
            Part::Capture(name) => {
                request.captures.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            }
            Part::Choice { of, absent, present } => match of.render(request) {
                None => Some(absent.clone()),
                Some(_) => present.iter().map(|part| part.render(request)).collect(),
            },
        }
    }
}

impl Template {
    fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("$(") {
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            let after = &rest[at + 2..];
            let end = after.find(')').ok_or_else(|| format!("{text:?}: $( without its )"))?;
            let expression = after[..end].trim();
            let part = operand(expression).or_else(|| choice(expression));
            parts.push(part.ok_or_else(|| {
                format!(
                    "{text:?}: $({expression}) is not supported, use $(headers.x), $(query_params.x) or $(uri_captures.x)"
                )
            })?);
            rest = &after[end + 1..];
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template(parts))
    }

    /// The value for a request; `None` when something it is made of is not there.
    fn render(&self, request: &Request<'_>) -> Option<String> {
        if let [Part::Text(text)] = self.0.as_slice() {
            return Some(text.clone());
        }
        let mut out = String::new();
        for part in &self.0 {
            out.push_str(&part.render(request)?);
        }
        Some(out)
    }

    /// The same for a path: what a pattern did not capture is nothing.
    fn render_path(&self, request: &Request<'_>) -> Option<String> {
        let mut out = String::new();
        for part in &self.0 {
            match (part, part.render(request)) {
                (_, Some(text)) => out.push_str(&text),
                (Part::Capture(_), None) => {}
                (_, None) => return None,
            }
        }
        Some(out)
    }
}

/// `name:value` pairs of a list.
pub(super) fn pairs(
    settings: &Settings<'_>,
    operation: &str,
    place: &str,
) -> Result<Vec<(String, String)>, String> {
    let mut out = Vec::new();
    for text in settings.inner(operation).texts(place).unwrap_or_default() {
        let (name, value) =
            text.split_once(':').ok_or_else(|| format!("{operation}.{place}: {text:?} is not name:value"))?;
        out.push((name.to_owned(), value.to_owned()));
    }
    Ok(out)
}

impl Rules {
    fn new(settings: &Settings<'_>, place: &str) -> Result<Rules, String> {
        let templates = |operation: &str| -> Result<Vec<(String, Template)>, String> {
            let mut out = Vec::new();
            for (name, value) in pairs(settings, operation, place)? {
                let template =
                    Template::parse(&value).map_err(|reason| format!("{operation}.{place}: {reason}"))?;
                out.push((name, template));
            }
            Ok(out)
        };
        Ok(Rules {
            removes: settings.inner("remove").texts(place).unwrap_or_default(),
            renames: pairs(settings, "rename", place)?,
            replaces: templates("replace")?,
            adds: templates("add")?,
            appends: templates("append")?,
        })
    }

    fn is_empty(&self) -> bool {
        self.removes.is_empty()
            && self.renames.is_empty()
            && self.replaces.is_empty()
            && self.adds.is_empty()
            && self.appends.is_empty()
    }
}

fn rendered(list: &[(String, Template)], request: &Request<'_>) -> Vec<(String, String)> {
    list.iter().filter_map(|(name, template)| Some((name.clone(), template.render(request)?))).collect()
}

impl RequestTransformer {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<RequestTransformer, String> {
        let uri = settings.inner("replace").text("uri");
        Ok(RequestTransformer {
            method: settings.text("http_method"),
            uri: uri
                .map(|uri| Template::parse(&uri))
                .transpose()
                .map_err(|reason| format!("replace.uri: {reason}"))?,
            headers: Rules::new(settings, "headers")?,
            query: Rules::new(settings, "querystring")?,
            body: Rules::new(settings, "body")?,
        })
    }

    fn change_headers(&self, request: &mut Request<'_>) {
        let replaces = rendered(&self.headers.replaces, request);
        let adds = rendered(&self.headers.adds, request);
        let appends = rendered(&self.headers.appends, request);
        for name in &self.headers.removes {
            request.edits.remove(name);
        }
        for (old, new) in &self.headers.renames {
            let values = request.headers(&old.to_ascii_lowercase());
            if !values.is_empty() {
                request.edits.remove(old);
                request.edits.remove(new);
                for value in values {
                    request.edits.add(new, &value);
                }
            }
        }
        for (name, value) in replaces {
            if request.header(&name.to_ascii_lowercase()).is_some() || name.eq_ignore_ascii_case("host") {
                request.edits.set(&name, &value);
            }
        }
        for (name, value) in adds {
            if request.header(&name.to_ascii_lowercase()).is_none() {
                request.edits.add(&name, &value);
            }
        }
        for (name, value) in appends {
            request.edits.add(&name, &value);
        }
    }

    fn change_query(&self, request: &mut Request<'_>) {
        let mut all = query::parse(request.query());
        let (replaces, adds, appends) = (
            rendered(&self.query.replaces, request),
            rendered(&self.query.adds, request),
            rendered(&self.query.appends, request),
        );
        all.retain(|(name, _)| !self.query.removes.contains(name));
        for (old, new) in &self.query.renames {
            for (name, _) in all.iter_mut().filter(|(name, _)| name == old) {
                name.clone_from(new);
            }
        }
        for (name, value) in replaces {
            if all.iter().any(|(known, _)| *known == name) {
                all.retain(|(known, _)| *known != name);
                all.push((name, Some(value)));
            }
        }
        for (name, value) in adds {
            if !all.iter().any(|(known, _)| *known == name) {
                all.push((name, Some(value)));
            }
        }
        all.extend(appends.into_iter().map(|(name, value)| (name, Some(value))));
        request.set_query(&query::write(&all));
    }

    fn change_body(&self, request: &mut Request<'_>) {
        let kind = request.content_type();
        let (replaces, adds, appends) = (
            rendered(&self.body.replaces, request),
            rendered(&self.body.adds, request),
            rendered(&self.body.appends, request),
        );
        let Some(body) = &mut request.body else { return };
        if kind.contains("application/json") {
            let parsed = if body.is_empty() {
                Some(Value::Object(Map::new()))
            } else {
                serde_json::from_slice(body).ok()
            };
            let Some(Value::Object(mut json)) = parsed else { return };
            for name in &self.body.removes {
                json.remove(name);
            }
            for (old, new) in &self.body.renames {
                if let Some(value) = json.remove(old) {
                    json.insert(new.clone(), value);
                }
            }
            for (name, value) in replaces {
                if json.contains_key(&name) {
                    json.insert(name, Value::String(value));
                }
            }
            for (name, value) in adds {
                json.entry(name).or_insert(Value::String(value));
            }
            for (name, value) in appends {
                let old = json.remove(&name);
                let new = match old {
                    None => Value::Array(vec![Value::String(value)]),
                    Some(Value::Array(mut list)) => {
                        list.push(Value::String(value));
                        Value::Array(list)
                    }
                    Some(other) => Value::Array(vec![other, Value::String(value)]),
                };
                json.insert(name, new);
            }
            **body = Value::Object(json).to_string().into_bytes();
            *request.body_changed = true;
        } else if kind.contains("application/x-www-form-urlencoded") {
            let mut all = query::parse(&String::from_utf8_lossy(body));
            all.retain(|(name, _)| !self.body.removes.contains(name));
            for (old, new) in &self.body.renames {
                for (name, _) in all.iter_mut().filter(|(name, _)| name == old) {
                    name.clone_from(new);
                }
            }
            for (name, value) in replaces {
                for (_, old) in all.iter_mut().filter(|(known, _)| *known == name) {
                    *old = Some(value.clone());
                }
            }
            for (name, value) in adds {
                if !all.iter().any(|(known, _)| *known == name) {
                    all.push((name, Some(value)));
                }
            }
            all.extend(appends.into_iter().map(|(name, value)| (name, Some(value))));
            **body = query::write(&all).into_bytes();
            *request.body_changed = true;
        }
    }
}

impl Plugin for RequestTransformer {
    fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        let uri = self.uri.as_ref().map(|uri| uri.render_path(request));
        if !self.body.is_empty() {
            self.change_body(request);
        }
        if !self.headers.is_empty() {
            self.change_headers(request);
        }
        if !self.query.is_empty() {
            self.change_query(request);
        }
        match uri {
            None => {}
            Some(Some(uri)) => request.set_path(&uri),
            Some(None) => return Err(Answer::error(500, "An unexpected error occurred")),
        }
        if let Some(method) = &self.method {
            *request.method = Some(method.clone());
        }
        Ok(())
    }

    fn reads_body(&self) -> Option<usize> {
        (!self.body.is_empty()).then_some(MAX_PLUGIN_BODY_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_references_are_understood_and_others_refused() {
        assert_eq!(reference("headers.x_a", "headers"), Some("x_a"));
        assert_eq!(reference("headers[\"x-a\"]", "headers"), Some("x-a"));
        assert_eq!(reference("uri_captures[1]", "uri_captures"), Some("1"));
        assert_eq!(reference("headers.x or 1", "headers"), None);
        assert!(Template::parse("a-$(headers.x)-b").is_ok());
        assert!(Template::parse("$(headers.x or 'y')").is_err());
        assert!(Template::parse(r#"/a$(uri_captures[1] == nil and "" or "/" .. uri_captures[1])"#).is_ok());
        assert!(Template::parse(r#"$(uri_captures[1] == nil and x or "/")"#).is_err());
        assert!(Template::parse("$(").is_err());
    }
}
