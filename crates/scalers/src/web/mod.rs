//! Sources that are read over HTTP.

pub(crate) mod metrics_api;
pub(crate) mod prometheus;
