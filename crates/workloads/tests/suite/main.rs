//! The controllers against the API server, in process.

mod cluster;
mod collection;
mod others;
mod rollouts;
