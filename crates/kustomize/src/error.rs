//! Why a build was refused: what was being done, with what, and at which place of which file.

use std::fmt;

use gantry_yaml::Span;

use crate::remote::without_credentials;

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
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Error {
        let message = message.into();
        // Addresses are quoted in many messages, and some hold a password.
        let message = without_credentials(&message).into_owned();
        Error { message, place: None, malformed: false, answered: false, span: Span::NONE }
    }

    /// An error about the node at `span`; the build names its file when it passes.
    pub(crate) fn at(message: impl Into<String>, span: Span) -> Error {
        Error { span, ..Error::new(message) }
    }

    /// Puts what was being done before the message.
    pub(crate) fn wrap(mut self, doing: impl fmt::Display) -> Error {
        let doing = doing.to_string();
        self.message = format!("{}: {}", without_credentials(&doing), self.message);
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

    pub(crate) fn has_place(&self) -> bool {
        self.place.is_some()
    }

    /// The message without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `file:line:col` and the offending line, where they are known.
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{}\n  at {place}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}
