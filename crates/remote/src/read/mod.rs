//! Remote read: the requests, and the answers to them over any storage, as samples or as a stream of chunks.

mod message;
mod server;

pub use message::{Accepts, Query, ReadRequest, encode_request};
pub use server::{Frames, ReadLimits, STREAM_CONTENT_TYPE, answer_samples, answer_stream};
