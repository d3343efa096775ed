//! The gateway on real sockets: what clients and targets see of it.

mod admin;
mod extras;
mod http2;
mod malformed;
mod plugins;
mod proxying;
mod support;
mod swapping;
mod tls;
