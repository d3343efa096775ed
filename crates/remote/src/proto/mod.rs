//! Protocol buffers as bytes: a reader that borrows from the message, and a writer into one buffer.
//!
//! Only what the messages of this room need: varints, doubles and texts. Every length is checked against what is left.

mod reader;
mod writer;

pub use reader::{Field, Message, WireError};
pub(crate) use reader::{packed_doubles, packed_signed, packed_varints, text, zigzag};
pub use writer::Writer;
