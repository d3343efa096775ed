//! YAML in with positions, Go-identical YAML out.
//!
//! Invariant: whatever [`emit`] writes is what go-yaml v2 would write for the same value, byte for byte.

mod span;

pub use span::{FileId, Span};
