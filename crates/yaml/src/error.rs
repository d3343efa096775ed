//! What went wrong while reading, and where: always with line and column, and the offending line where it is known.

use std::fmt;

use crate::span::Span;

/// A failure to read YAML, or to make a typed value of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    detail: Box<Detail>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Detail {
    message: String,
    span: Span,
    file: Option<String>,
    line: Option<String>,
}

/// Longest part of an offending line that is repeated in a message.
const MAX_EXCERPT_CHARS: usize = 160;

impl Error {
    pub fn new(message: impl Into<String>, span: Span) -> Error {
        Error { detail: Box::new(Detail { message: message.into(), span, file: None, line: None }) }
    }

    /// The message alone, without place or excerpt.
    pub fn message(&self) -> &str {
        &self.detail.message
    }

    pub fn span(&self) -> Span {
        self.detail.span
    }

    /// Sets the place, unless a more exact one is known already.
    pub fn at(mut self, span: Span) -> Error {
        if self.detail.span.is_none() {
            self.detail.span = span;
        }
        self
    }

    /// Names the file and takes the offending line from its text.
    pub fn in_file(mut self, file_name: &str, text: &str) -> Error {
        if self.detail.file.is_none() {
            self.detail.file = Some(file_name.to_owned());
        }
        self.with_excerpt(text)
    }

    pub(crate) fn with_excerpt(mut self, text: &str) -> Error {
        let number = self.detail.span.line();
        if number > 0 && self.detail.line.is_none() {
            self.detail.line =
                text.lines().nth(number - 1).map(|line| line.chars().take(MAX_EXCERPT_CHARS).collect());
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Detail { message, span, file, line } = &*self.detail;
        match file {
            Some(file) if span.is_none() => write!(f, "{file}: {message}")?,
            Some(file) => write!(f, "{file}:{}:{}: {message}", span.line(), span.column())?,
            None if span.is_none() => write!(f, "{message}")?,
            None => write!(f, "line {}, column {}: {message}", span.line(), span.column())?,
        }
        if let Some(line) = line {
            let number = span.line().to_string();
            let indent = " ".repeat(span.column().saturating_sub(1).min(MAX_EXCERPT_CHARS));
            write!(f, "\n{number} | {line}\n{:width$} | {indent}^", "", width = number.len())?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
