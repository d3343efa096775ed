//! Chunks: up to a few hundred samples of one series, encoded.

pub mod xor;
