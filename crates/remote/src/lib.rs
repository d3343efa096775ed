//! Samples over the wire: remote write both ways, remote read, OTLP metrics.
//!
//! Invariants: what a peer sends is either counted as written or refused by name, never both and never neither; what we
//! send of a series leaves in the order of time, and a sample that no answer has settled is sent again after a restart.
//!
//! No socket and no flag: a request is bytes and a few header values, and whoever carries ours away is a [`Post`].
#![forbid(unsafe_code)]

mod histogram;
pub mod proto;
pub mod read;
pub mod write;

pub use write::receiver::{Outcome, Receiver, Written};
pub use write::sender::{
    MetadataOptions, Post, Protocol, QueueOptions, Relabel, Reply, Sender, SenderMetrics, SenderOptions,
};

/// Larger bodies are refused once decompressed.
pub const MAX_DECODED_BYTES: usize = 32 * 1024 * 1024;

/// Undoes snappy's block format.
///
/// # Errors
/// When the bytes are not that, or would become larger than [`MAX_DECODED_BYTES`].
pub fn decompress(body: &[u8]) -> Result<Vec<u8>, String> {
    let length = snap::raw::decompress_len(body).map_err(|error| format!("snappy: {error}"))?;
    if length > MAX_DECODED_BYTES {
        return Err(format!(
            "the decompressed body has {length} bytes, at most {MAX_DECODED_BYTES} are read; send smaller batches"
        ));
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(|error| format!("snappy: {error}"))
}

/// Snappy's block format of these bytes.
///
/// # Errors
/// When there are more than the format can hold (4 GiB).
pub fn compress(bytes: &[u8]) -> Result<Vec<u8>, String> {
    snap::raw::Encoder::new().compress_vec(bytes).map_err(|error| format!("snappy: {error}"))
}
