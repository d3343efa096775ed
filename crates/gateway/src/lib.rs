//! Entities, router, balancer, proxy: Kong's gateway as an engine.
//!
//! A [`Snapshot`](entities::Snapshot) of entities is compiled into an immutable configuration that is swapped whole;
//! each thread serves its connections alone, with its own pool of connections to the targets. Invariants: a swap drops
//! no connection, a target that left an upstream gets no further request, and every queue has a bound.
#![forbid(unsafe_code)]

pub mod admin;
mod balancer;
mod certificates;
mod client_hello;
mod declared;
pub mod entities;
mod entrances;
mod gateway;
mod hashing;
mod http1;
mod http2;
mod listen;
mod metrics;
mod mirrors;
pub mod net;
mod network;
mod node;
mod plugins;
mod pool;
mod request_id;
pub mod router;
mod snapshot;
mod stream;
mod timer;
mod upstream_io;
mod upstream_tls;

pub use certificates::check_certificate;
pub use gateway::{Gateway, Generation, StartError};
pub use http1::head::HeadLimits;
pub use listen::{ListenError, Listener};
pub use network::Network;
pub use node::{Activator, Config, Limits, Mode, ScaleFromZero};
pub use plugins::{
    HTTP_ROUTE_CORS, HTTP_ROUTE_REDIRECT, SUPPORTED as SUPPORTED_PLUGINS, check as check_plugin,
};
pub use pool::KeepAlive;
pub use snapshot::ConfigError;

/// As which server the gateway answers.
pub(crate) const SERVER: &str = "kong/3.9.3";
pub(crate) const VIA: &str = "1.1 kong/3.9.3";
