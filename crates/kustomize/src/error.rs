//! Why a build was refused: what was being done, with what, and at which place of which file.

use std::fmt;

use gantry_yaml::{Data, Node, Span};

use crate::remote::without_credentials;
use crate::written::shown;

/// A refused build. The message reads like Kustomize's; the place in the user's files follows on a line of its own.
#[derive(Debug)]
pub struct Error {
    message: String,
    place: Option<String>,
    /// Set when a file was read but is not YAML: no other reading of its path is worth mentioning.
    pub(crate) malformed: bool,
    /// Set when a server was asked for a file and answered that it has none.
    pub(crate) answered: bool,
    pub(crate) span: Span,
    /// Other places that have to do with it, each with the words before it.
    pub(crate) also: Vec<(&'static str, Span)>,
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Error {
        let message = message.into();
        // Addresses are quoted in many messages, and some hold a password.
        let message = bounded(without_credentials(&message).into_owned());
        Error { message, place: None, malformed: false, answered: false, span: Span::NONE, also: Vec::new() }
    }

    /// An error about the node at `span`; the build names its file when it passes.
    pub(crate) fn at(message: impl Into<String>, span: Span) -> Error {
        Error { span, ..Error::new(message) }
    }

    /// Puts what was being done before the message.
    pub(crate) fn wrap(mut self, doing: impl fmt::Display) -> Error {
        let doing = doing.to_string();
        self.message = format!("{}: {}", bounded(without_credentials(&doing).into_owned()), self.message);
        self
    }

    pub(crate) fn with_place(mut self, place: String) -> Error {
        if self.place.is_none() {
            self.place = Some(place);
        }
        self
    }

    pub(crate) fn or_at(mut self, span: Span) -> Error {
        if self.span.is_none() && self.place.is_none() {
            self.span = span;
        }
        self
    }

    /// Names another place, as in `first defined at`.
    pub(crate) fn and_at(mut self, words: &'static str, span: Span) -> Error {
        if !span.is_none() && span != self.span {
            self.also.push((words, span));
        }
        self
    }

    /// What would have been understood, behind the message.
    pub(crate) fn hint(mut self, hint: &str) -> Error {
        self.message.push_str(hint);
        self
    }

    pub(crate) fn has_place(&self) -> bool {
        self.place.is_some()
    }

    /// The message without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `file:line:col` and the offending line, where they are known; other places that have to do with it follow.
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }
}

/// Messages repeat what users wrote, which may be megabytes.
fn bounded(mut text: String) -> String {
    const MOST_BYTES: usize = 8192;
    if text.len() > MOST_BYTES {
        let end = (0..=MOST_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" …");
    }
    text
}

/// Where a node of one kind is expected and there is another.
pub(crate) fn wrong_kind(expected: &Node, found: &Node) -> Error {
    wrong_kind_named(go_kind(expected), found)
}

/// [`wrong_kind`] with the kind's name in upstream.
pub(crate) fn wrong_kind_named(expected: &str, found: &Node) -> Error {
    Error::at(
        format!(
            "wrong node kind: expected {expected} but got {}: node contents:\n{}",
            go_kind(found),
            shown(found)
        ),
        found.span,
    )
}

fn go_kind(node: &Node) -> &'static str {
    match node.data {
        Data::Scalar(_) => "ScalarNode",
        Data::Sequence(_) => "SequenceNode",
        Data::Mapping(_) => "MappingNode",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{}\n  at {place}", self.message.trim_end()),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}
