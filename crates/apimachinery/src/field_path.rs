//! Paths to fields as people write them: `spec.template.spec.containers[name=web].image`.
//!
//! Invariant: what a [`FieldPath`] prints, [`FieldPath::parse`] reads as the same path. Read are also kubectl's spellings:
//! a dot in front, braces around, `\.` for a dot in a name, `[0]`, `[*]`, and no step at all for a list, which means each
//! of its elements.

use std::fmt;

use smol_str::SmolStr;

use crate::value::{Kind, Map, Value};

const MAX_STEPS: usize = 128;
const MAX_BYTES: usize = 4096;
/// More places than these are not found by one path.
const MAX_FOUND: usize = 10_000;

/// The keys by which the elements of a list are told apart, the usual ones first.
const IDENTITIES: &[&[&str]] = &[
    &["name"],
    &["containerPort"],
    &["containerPort", "protocol"],
    &["port"],
    &["port", "protocol"],
    &["mountPath"],
    &["devicePath"],
    &["key"],
    &["id"],
    &["ip"],
    &["type"],
    &["kind", "name", "namespace"],
    &["topologyKey"],
    &["topologyKey", "whenUnsatisfiable"],
];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A field of an object, or of each element of a list.
    Field(SmolStr),
    /// A place in a list, from 0.
    Index(usize),
    /// The elements of a list whose keys have these values.
    Item(Vec<(SmolStr, SmolStr)>),
    /// Every field of an object or element of a list.
    Each,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldPath(Vec<Step>);

/// A text that is no path.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("field path '{path}', character {at}: {why}")]
pub struct ParseError {
    pub path: String,
    /// Counted from 1.
    pub at: usize,
    pub why: &'static str,
}

/// A path that leads nowhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Missing {
    /// As far as it led.
    pub reached: FieldPath,
    /// The step that was not found.
    pub step: String,
    /// The steps that are there instead.
    pub known: Vec<String>,
}

// === impl FieldPath ===

impl FieldPath {
    pub fn parse(text: &str) -> Result<FieldPath, ParseError> {
        let mut reader = Reader { text, chars: text.char_indices().collect(), at: 0 };
        if text.len() > MAX_BYTES {
            return Err(reader.error("it is too long"));
        }
        reader.path()
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    pub fn pop(&mut self) -> Option<Step> {
        self.0.pop()
    }

    /// The steps after those of `outer`; `None` where it does not begin with them.
    pub fn below(&self, outer: &FieldPath) -> Option<&[Step]> {
        self.0.strip_prefix(outer.0.as_slice())
    }

    /// Whether it begins with these field names.
    pub fn starts_with(&self, names: &[&str]) -> bool {
        self.0.len() >= names.len()
            && self.0.iter().zip(names).all(|(step, name)| matches!(step, Step::Field(own) if own == name))
    }

    /// Every place the path leads to, with the path that leads only there.
    pub fn find<'v>(&self, root: &'v Value) -> Result<Vec<(FieldPath, &'v Value)>, Missing> {
        let mut search = Search { found: Vec::new(), missing: None, path: FieldPath::default() };
        search.walk(root, &self.0);
        match (search.found, search.missing) {
            (found, Some(missing)) if found.is_empty() => Err(missing),
            (found, _) => Ok(found),
        }
    }

    /// The place, or the nearest one around it that is there.
    pub fn nearest<'v>(&self, root: &'v Value) -> &'v Value {
        match self.find(root) {
            Ok(found) => found.first().map_or(root, |(_, value)| value),
            Err(missing) => {
                missing.reached.find(root).ok().and_then(|found| Some(found.first()?.1)).unwrap_or(root)
            }
        }
    }
}

/// Follows steps that lead to one place at most; an element is the first that fits.
pub fn follow<'v>(root: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(root, |value, step| match (step, &value.kind) {
        (Step::Field(name), Kind::Object(map)) => map.get(name),
        (Step::Index(index), Kind::Array(items)) => items.get(*index),
        (Step::Item(keys), Kind::Array(items)) => items.iter().find(|item| has_keys(item, keys)),
        _ => None,
    })
}

/// The step to an element of a list: by its keys where all elements of all the lists have them, and different ones in
/// each list.
pub fn identity_of(lists: &[&[Value]]) -> Option<&'static [&'static str]> {
    if lists.iter().all(|items| items.is_empty()) {
        return None;
    }
    IDENTITIES.iter().copied().find(|keys| {
        lists.iter().all(|items| {
            let mut seen = std::collections::HashSet::with_capacity(items.len());
            items.iter().all(|item| key_values(item, keys).is_some_and(|values| seen.insert(values)))
        })
    })
}

/// The values of an element's keys; `None` where it lacks one.
pub fn key_values(item: &Value, keys: &[&str]) -> Option<Vec<(SmolStr, SmolStr)>> {
    let map = item.as_object()?;
    keys.iter().map(|key| Some((SmolStr::new(key), scalar_text(map.get(key)?)?))).collect()
}

fn has_keys(item: &Value, keys: &[(SmolStr, SmolStr)]) -> bool {
    keys.iter().all(|(key, wanted)| {
        // A list of scalars has elements without keys.
        let own = if key.is_empty() { Some(item) } else { item.get(key) };
        own.and_then(scalar_text).is_some_and(|text| text == *wanted)
    })
}

fn scalar_text(value: &Value) -> Option<SmolStr> {
    match &value.kind {
        Kind::String(text) => Some(text.clone()),
        Kind::Bool(_) | Kind::Number(_) => serde_json::to_string(value).ok().map(SmolStr::from),
        _ => None,
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if is_plain(name) => {
                    write!(f, "{}{name}", if index > 0 { "." } else { "" })?;
                }
                Step::Field(name) => write!(f, "[{}]", bracketed(name))?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Item(keys) => {
                    let keys: Vec<String> =
                        keys.iter().map(|(key, value)| format!("{key}={}", bracketed(value))).collect();
                    write!(f, "[{}]", keys.join(","))?;
                }
                Step::Each => f.write_str("[*]")?,
            }
        }
        Ok(())
    }
}

/// A name that needs no brackets.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "*" && !name.contains(['.', '[', ']', '\\', '"', '{', '}', '='])
}

/// A name or value between brackets: in quotes where it could be read as something else.
fn bracketed(text: &str) -> String {
    let special = |c: char| matches!(c, '[' | ']' | '=' | ',' | '"' | '\'' | '\\') || c.is_control();
    let number = text.parse::<usize>().is_ok();
    if text.is_empty() || text == "*" || number && text.contains('.') || text.contains(special) {
        serde_json::to_string(text).unwrap_or_default()
    } else {
        text.to_owned()
    }
}

// === reading ===

struct Reader<'t> {
    text: &'t str,
    chars: Vec<(usize, char)>,
    at: usize,
}

impl Reader<'_> {
    fn error(&self, why: &'static str) -> ParseError {
        let path = self.text.chars().take(120).collect();
        ParseError { path, at: self.at + 1, why }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).map(|(_, c)| *c)
    }

    fn path(&mut self) -> Result<FieldPath, ParseError> {
        let braced = self.peek() == Some('{');
        if braced {
            if !self.text.ends_with('}') {
                return Err(self.error("the brace is not closed"));
            }
            self.chars.pop();
            self.at += 1;
        }
        if self.peek() == Some('.') {
            self.at += 1;
        }
        let mut path = FieldPath::default();
        while let Some(c) = self.peek() {
            if path.0.len() >= MAX_STEPS {
                return Err(self.error("it has too many steps"));
            }
            match c {
                '[' => path.push(self.brackets()?),
                '.' if path.is_empty() => return Err(self.error("a name is missing")),
                '.' => {
                    self.at += 1;
                    // kubectl writes `containers.[0]` as well.
                    if self.peek() != Some('[') {
                        path.push(self.name()?);
                    }
                }
                _ if path.is_empty() => path.push(self.name()?),
                _ => return Err(self.error("a dot or a bracket is missing")),
            }
        }
        Ok(path)
    }

    fn name(&mut self) -> Result<Step, ParseError> {
        let mut name = String::new();
        while let Some(c) = self.peek().filter(|c| !matches!(c, '.' | '[')) {
            self.at += 1;
            match (c, self.peek()) {
                ('\\', Some(next)) => {
                    name.push(next);
                    self.at += 1;
                }
                (']', _) => return Err(self.error("a bracket that was not opened")),
                _ => name.push(c),
            }
        }
        match name.as_str() {
            "" => Err(self.error("a name is missing")),
            "*" => Ok(Step::Each),
            _ => Ok(Step::Field(name.into())),
        }
    }

    fn brackets(&mut self) -> Result<Step, ParseError> {
        self.at += 1;
        let (first, quoted) = self.part()?;
        if self.peek() != Some('=') {
            self.close()?;
            return Ok(match first.parse::<usize>() {
                _ if quoted => Step::Field(first.into()),
                _ if first == "*" => Step::Each,
                Ok(index) => Step::Index(index),
                Err(_) if first.is_empty() => {
                    return Err(self.error("an index, a key or key=value is missing"));
                }
                Err(_) => Step::Field(first.into()),
            });
        }
        let mut keys = Vec::new();
        let mut key = first;
        loop {
            self.at += 1;
            let (value, _) = self.part()?;
            keys.push((SmolStr::from(key), SmolStr::from(value)));
            if self.peek() != Some(',') {
                break;
            }
            self.at += 1;
            (key, _) = self.part()?;
            if self.peek() != Some('=') {
                return Err(self.error("key=value is missing"));
            }
        }
        self.close()?;
        Ok(Step::Item(keys))
    }

    fn close(&mut self) -> Result<(), ParseError> {
        if self.peek() != Some(']') {
            return Err(self.error("the bracket is not closed"));
        }
        self.at += 1;
        Ok(())
    }

    /// A name or value between brackets, and whether it was in quotes.
    fn part(&mut self) -> Result<(String, bool), ParseError> {
        if let Some(quote @ ('"' | '\'')) = self.peek() {
            let begin = self.at;
            self.at += 1;
            while let Some(c) = self.peek() {
                self.at += 1;
                if c == '\\' && quote == '"' {
                    self.at += 1;
                } else if c == quote {
                    let bytes = |at: usize| self.chars.get(at).map_or(self.text.len(), |(byte, _)| *byte);
                    let text = &self.text[bytes(begin)..bytes(self.at)];
                    return match quote {
                        '"' => match serde_json::from_str(text) {
                            Ok(text) => Ok((text, true)),
                            Err(_) => Err(self.error("the quoted text is not well formed")),
                        },
                        _ => Ok((text.trim_matches('\'').to_owned(), true)),
                    };
                }
            }
            return Err(self.error("the quote is not closed"));
        }
        let mut part = String::new();
        while let Some(c) = self.peek().filter(|c| !matches!(c, ']' | '=' | ',')) {
            part.push(c);
            self.at += 1;
        }
        Ok((part, false))
    }
}

// === finding ===

struct Search<'v> {
    found: Vec<(FieldPath, &'v Value)>,
    /// The longest way that led nowhere.
    missing: Option<Missing>,
    path: FieldPath,
}

impl<'v> Search<'v> {
    fn walk(&mut self, value: &'v Value, steps: &[Step]) {
        if self.found.len() >= MAX_FOUND {
            return;
        }
        let Some((step, rest)) = steps.split_first() else {
            self.found.push((self.path.clone(), value));
            return;
        };
        match &value.kind {
            Kind::Object(map) => self.object(map, step, rest, steps),
            Kind::Array(items) => self.list(items, step, rest, steps),
            _ => self.lost(step, Vec::new()),
        }
    }

    fn enter(&mut self, step: Step, value: &'v Value, rest: &[Step]) {
        self.path.push(step);
        self.walk(value, rest);
        self.path.pop();
    }

    fn object(&mut self, map: &'v Map, step: &Step, rest: &[Step], steps: &[Step]) {
        let name: SmolStr = match step {
            Step::Each => {
                for (name, value) in map.iter() {
                    self.enter(Step::Field(name.clone()), value, rest);
                }
                return;
            }
            Step::Field(name) => name.clone(),
            Step::Index(index) => index.to_string().into(),
            Step::Item(_) => return self.lost(step, Vec::new()),
        };
        if let Some(value) = map.get(&name) {
            return self.enter(Step::Field(name), value, rest);
        }
        // A name with dots, written without brackets.
        let mut joined = name.to_string();
        for (index, more) in steps.iter().enumerate().skip(1) {
            let Step::Field(more) = more else { break };
            joined = format!("{joined}.{more}");
            if let Some(value) = map.get(&joined) {
                return self.enter(Step::Field(joined.into()), value, &steps[index + 1..]);
            }
        }
        self.lost(step, map.keys().map(|key| key.to_string()).collect());
    }

    fn list(&mut self, items: &'v [Value], step: &Step, rest: &[Step], steps: &[Step]) {
        let keys = identity_of(&[items]);
        let name_of = |index: usize| -> Step {
            let values = keys.and_then(|keys| key_values(items.get(index)?, keys));
            values.map_or(Step::Index(index), Step::Item)
        };
        let index = match step {
            Step::Index(index) => Some(*index),
            Step::Field(name) => name.parse::<usize>().ok(),
            _ => None,
        };
        match (step, index) {
            (_, Some(index)) => match items.get(index) {
                Some(item) => self.enter(name_of(index), item, rest),
                None => self.lost(step, (0..items.len()).map(|index| index.to_string()).collect()),
            },
            (Step::Item(wanted), None) => {
                let before = self.found.len();
                let mut fits = false;
                for (index, item) in items.iter().enumerate().filter(|(_, item)| has_keys(item, wanted)) {
                    fits = true;
                    self.enter(name_of(index), item, rest);
                }
                if !fits && self.found.len() == before {
                    let known = (0..items.len()).map(|index| FieldPath(vec![name_of(index)]).to_string());
                    self.lost(step, known.collect());
                }
            }
            (Step::Each, None) => {
                for (index, item) in items.iter().enumerate() {
                    self.enter(name_of(index), item, rest);
                }
            }
            // Each element, as kubectl explain names their fields.
            _ => {
                for (index, item) in items.iter().enumerate() {
                    self.enter(name_of(index), item, steps);
                }
            }
        }
    }

    fn lost(&mut self, step: &Step, known: Vec<String>) {
        let further = self.missing.as_ref().is_none_or(|missing| self.path.0.len() > missing.reached.0.len());
        if further {
            let step = match step {
                Step::Field(name) => name.to_string(),
                other => FieldPath(vec![other.clone()]).to_string(),
            };
            self.missing = Some(Missing { reached: self.path.clone(), step, known });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FieldPath {
        FieldPath::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn object() -> Value {
        serde_json::from_str(
            r#"{"metadata":{"labels":{"app.kubernetes.io/name":"web","0":"zero"}},
                "spec":{"containers":[{"name":"web","image":"a:1","ports":[{"containerPort":80}]},{"name":"log","image":"b:1"}],
                "args":["x","y"]}}"#,
        )
        .unwrap()
    }

    #[test]
    fn what_is_printed_is_read_the_same() {
        for text in [
            "spec.template.spec.containers[name=web].image",
            "metadata.labels[app.kubernetes.io/name]",
            "spec.ports[containerPort=80,protocol=TCP].name",
            "spec.args[1]",
            "data[\"a]b\"].c",
            "x[name=\"a,b=c\"]",
            "spec.containers[*].image",
            "data[\"\"]",
        ] {
            assert_eq!(path(text).to_string(), text);
            assert_eq!(path(&path(text).to_string()), path(text));
        }
        assert_eq!(path("{.spec.containers[0].image}").to_string(), "spec.containers[0].image");
        assert_eq!(
            path(r"metadata.labels.app\.kubernetes\.io/name"),
            path("metadata.labels[app.kubernetes.io/name]")
        );
        assert_eq!(path("metadata.labels['a.b']"), path("metadata.labels[a.b]"));
    }

    #[test]
    fn what_is_no_path_says_where() {
        for (text, at) in
            [("a..b", 3), ("a[", 3), ("a[name=x", 9), ("a]", 3), ("a[0]b", 5), ("a['x]", 6), ("{.a", 1)]
        {
            assert_eq!(FieldPath::parse(text).unwrap_err().at, at, "{text}");
        }
        assert!(FieldPath::parse(&"a.".repeat(5000)).is_err());
        assert!(FieldPath::parse(&"a.".repeat(200)).is_err());
    }

    #[test]
    fn places_are_found_by_any_spelling() {
        let object = object();
        let found = |text: &str| -> Vec<String> {
            let found = path(text).find(&object).unwrap();
            found.iter().map(|(path, value)| format!("{path} {value:?}")).collect()
        };
        let web = r#"spec.containers[name=web].image "a:1""#;
        assert_eq!(found("spec.containers[name=web].image"), [web]);
        assert_eq!(found("spec.containers[0].image"), [web]);
        assert_eq!(found("spec.containers.0.image"), [web]);
        assert_eq!(found("spec.containers.image"), [web, r#"spec.containers[name=log].image "b:1""#]);
        assert_eq!(found("spec.containers[*].image").len(), 2);
        assert_eq!(
            found("spec.containers[name=web].ports[0].containerPort"),
            ["spec.containers[name=web].ports[containerPort=80].containerPort 80"]
        );
        assert_eq!(
            found("metadata.labels.app.kubernetes.io/name"),
            [r#"metadata.labels[app.kubernetes.io/name] "web""#]
        );
        assert_eq!(found("metadata.labels[0]"), [r#"metadata.labels.0 "zero""#]);
        assert_eq!(found("spec.args[1]"), [r#"spec.args[1] "y""#]);
        assert_eq!(found("spec.args[=y]"), [r#"spec.args[1] "y""#]);
    }

    #[test]
    fn a_path_that_leads_nowhere_says_how_far_it_led() {
        let object = object();
        let missing = path("spec.containers[name=web].imag").find(&object).unwrap_err();
        assert_eq!(missing.reached.to_string(), "spec.containers[name=web]");
        assert_eq!(
            (missing.step.as_str(), missing.known),
            ("imag", vec!["name".into(), "image".into(), "ports".into()])
        );
        let missing = path("spec.containers[name=wbe].image").find(&object).unwrap_err();
        assert_eq!(
            (missing.step.as_str(), missing.known),
            ("[name=wbe]", vec!["[name=web]".into(), "[name=log]".into()])
        );
        assert!(path("spec.args[7]").find(&object).is_err());
        assert!(path("spec.args[0].x").find(&object).is_err());
        assert_eq!(path("spec.containers[1].none").nearest(&object).str_at(&["name"]), Some("log"));
    }

    #[test]
    fn elements_are_told_apart_by_what_all_of_them_have() {
        let list = |text: &str| -> Vec<Value> { serde_json::from_str(text).unwrap() };
        let ports = list(r#"[{"port":53,"protocol":"TCP"},{"port":53,"protocol":"UDP"}]"#);
        assert_eq!(identity_of(&[&ports]), Some(&["port", "protocol"][..]));
        assert_eq!(identity_of(&[&ports[..1]]), Some(&["port"][..]));
        let mounts = list(r#"[{"name":"a","mountPath":"/x"},{"name":"a","mountPath":"/y"}]"#);
        assert_eq!(identity_of(&[&mounts]), Some(&["mountPath"][..]));
        assert_eq!(identity_of(&[&list(r#"[{"name":"a"},{"x":1}]"#)]), None);
        assert_eq!(identity_of(&[&list(r#"["a"]"#)]), None);
        assert_eq!(identity_of(&[&list(r#"[{"name":"a"}]"#), &[]]), Some(&["name"][..]));
    }
}
