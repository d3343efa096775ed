//! Why a template could not be parsed or executed, in the shape of Go's messages.

use std::sync::Arc;

/// `line` starts at 1; `column` counts bytes from 0, as Go's messages do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("template: {file}:{line}:{column}: {message}")]
    Parse { file: Arc<str>, line: u32, column: u32, message: String },
    #[error("template: {file}:{line}:{column}: executing {template:?} at <{context}>: {message}")]
    Execute { file: Arc<str>, line: u32, column: u32, template: Arc<str>, context: String, message: String },
    #[error("template: no template {0:?} has been parsed")]
    NotDefined(String),
    #[error("unrecognized option {0:?}: missingkey=default, invalid, zero and error are accepted")]
    Option(String),
}

impl Error {
    /// The message without its place.
    pub fn message(&self) -> String {
        match self {
            Error::Parse { message, .. } | Error::Execute { message, .. } => message.clone(),
            Error::NotDefined(_) | Error::Option(_) => self.to_string(),
        }
    }
}
