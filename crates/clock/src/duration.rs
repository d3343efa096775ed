//! What can be wrong with a duration's text.

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("empty duration")]
    Empty,
    #[error("not a valid duration: {text:?} (expected something like {example:?})")]
    Malformed { text: String, example: &'static str },
    #[error("unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { text: String, unit: String },
    #[error("duration {text:?} is out of range")]
    OutOfRange { text: String },
    #[error("duration {text:?} is negative")]
    Negative { text: String },
}
