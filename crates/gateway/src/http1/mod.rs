//! The byte-range HTTP/1 codec: a connection is one task that reads heads as ranges, edits them by copying runs of
//! bytes, and moves bodies without looking at them.

pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod connection;
mod errors;
mod exchange;
mod forward;
pub(crate) mod head;
mod plan;
mod plugged;
mod response;
pub(crate) mod transport;
