//! The StoreAPI over gRPC: served, and asked.

mod client;
mod server;

pub use client::{GrpcStore, GrpcStoreOptions};
pub use server::{StoreService, service};

const INFO: &str = "/thanos.info.Info/Info";
const SERIES: &str = "/thanos.Store/Series";
const LABEL_NAMES: &str = "/thanos.Store/LabelNames";
const LABEL_VALUES: &str = "/thanos.Store/LabelValues";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Frames may be as large as the protocol of the others allows.
const MAX_MESSAGE_BYTES: usize = i32::MAX as usize;
