//! The gateway on real sockets: what clients and targets see of it.

mod malformed;
mod proxying;
mod support;
mod swapping;
