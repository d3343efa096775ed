//! YAML in with positions, Go-identical YAML out.
//!
//! Invariant: whatever [`emit`] writes is what go-yaml v2 would write for the same value, byte for byte.
#![forbid(unsafe_code)]

mod compose;
mod de;
mod emit;
mod error;
mod node;
mod resolve;
mod scan;
mod span;
mod timestamp;

pub use compose::{DuplicateKeys, parse_documents, parse_documents_with};
pub use de::{from_node, from_str, nearest};
pub use emit::{Tree, View, emit, emit_to};
pub use error::Error;
pub use node::{Data, Node, Scalar, Style, Tag};
pub use resolve::Resolved;
pub use span::{FileId, Span};
