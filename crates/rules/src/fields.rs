//! Strict reading of YAML by hand: every mistake of a file is told with its place, not only the first.

use std::fmt;

use gantry_clock::parse_prometheus_duration;
use gantry_yaml::{FileId, Node, Span, nearest, parse_documents};

/// Mistakes past this many are not listed.
const MAX_ERRORS: usize = 200;
/// Larger files are refused.
const MAX_FILE_BYTES: usize = 64 << 20;

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    pub file: String,
    /// From 1; 0 when the whole file is meant.
    pub line: usize,
    /// From 1; 0 when the whole file is meant.
    pub column: usize,
    pub message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}: {}", self.file, self.message);
        }
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

impl std::error::Error for FileError {}

/// Collects the mistakes of one file.
pub(crate) struct Fields<'f> {
    file: &'f str,
    ignore_unknown: bool,
    pub(crate) errors: Vec<FileError>,
}

impl<'f> Fields<'f> {
    pub(crate) fn new(file: &'f str, ignore_unknown: bool) -> Fields<'f> {
        Fields { file, ignore_unknown, errors: Vec::new() }
    }

    /// The documents of the file; none when it is not YAML.
    pub(crate) fn documents(&mut self, text: &str) -> Vec<Node> {
        if text.len() > MAX_FILE_BYTES {
            let message = format!("the file has {} bytes, {MAX_FILE_BYTES} are allowed", text.len());
            self.fail(Span::NONE, message);
            return Vec::new();
        }
        parse_documents(FileId(0), text).unwrap_or_else(|error| {
            self.fail(error.span(), error.message().to_owned());
            Vec::new()
        })
    }

    pub(crate) fn fail(&mut self, span: Span, message: impl Into<String>) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(FileError {
                file: self.file.to_owned(),
                line: span.line(),
                column: span.column(),
                message: message.into(),
            });
        }
    }

    /// Checks that `node` is a mapping (or nothing) of known fields only.
    pub(crate) fn mapping<'n>(&mut self, node: &'n Node, known: &[&str]) -> &'n [(Node, Node)] {
        let entries = self.any_mapping(node);
        for (key, _) in entries {
            let name = key.text().unwrap_or("");
            if known.contains(&name) || self.ignore_unknown {
                continue;
            }
            let hint = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are `{}`", known.join("`, `")),
            };
            self.fail(key.span, format!("unknown field `{name}`, {hint}"));
        }
        entries
    }

    pub(crate) fn any_mapping<'n>(&mut self, node: &'n Node) -> &'n [(Node, Node)] {
        match node.as_mapping() {
            Some(entries) => entries,
            None => {
                if !node.is_null() {
                    self.fail(node.span, format!("expected a mapping, found a {}", node.type_name()));
                }
                &[]
            }
        }
    }

    pub(crate) fn list<'n>(&mut self, node: Option<&'n Node>) -> &'n [Node] {
        let Some(node) = node.filter(|node| !node.is_null()) else { return &[] };
        node.as_sequence().unwrap_or_else(|| {
            self.fail(node.span, format!("expected a list, found a {}", node.type_name()));
            &[]
        })
    }

    /// The text of a scalar; empty when there is none.
    pub(crate) fn text(&mut self, node: Option<&Node>) -> String {
        let Some(node) = node.filter(|node| !node.is_null()) else { return String::new() };
        match node.text() {
            Some(text) => text.to_owned(),
            None => {
                self.fail(node.span, format!("expected a text, found a {}", node.type_name()));
                String::new()
            }
        }
    }

    /// A Prometheus duration in milliseconds.
    pub(crate) fn duration(&mut self, node: Option<&Node>) -> Option<i64> {
        let node = node.filter(|node| !node.is_null())?;
        let text = self.text(Some(node));
        match parse_prometheus_duration(&text) {
            Ok(ms) => Some(ms),
            Err(error) => {
                self.fail(node.span, error.to_string());
                None
            }
        }
    }

    pub(crate) fn boolean(&mut self, node: Option<&Node>) -> bool {
        let Some(node) = node.filter(|node| !node.is_null()) else { return false };
        match node.text() {
            Some("true" | "True" | "TRUE" | "yes" | "on") => true,
            Some("false" | "False" | "FALSE" | "no" | "off") => false,
            _ => {
                self.fail(node.span, "expected true or false");
                false
            }
        }
    }

    /// A mapping of texts with the place of each key, in the file's order.
    pub(crate) fn texts(&mut self, node: Option<&Node>) -> Vec<(String, String, Span)> {
        let Some(node) = node else { return Vec::new() };
        let entries = self.any_mapping(node);
        entries.iter().map(|(key, value)| (self.text(Some(key)), self.text(Some(value)), key.span)).collect()
    }
}

/// The value of a field, if it is given.
pub(crate) fn get<'n>(entries: &'n [(Node, Node)], name: &str) -> Option<&'n Node> {
    entries.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
}
