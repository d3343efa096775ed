//! Listeners, TLS and its reload, limits, drain: the way any HTTP service of ours reaches a socket.
//!
//! Invariant: a listener that has answered `serve` holds no connection and no task any more. A service sees only
//! complete request heads, a [`ConnectInfo`] extension, and never a connection beyond the configured bounds.

#![forbid(unsafe_code)]

mod listener;
mod origin;
mod port;
mod stream;
mod tls;

pub use listener::{BindError, ConnectInfo, Limits, ListenConfig, Listener};
pub use origin::{from_same_site, host_of};
pub use port::{PortHolder, port_holder};
pub use tls::{TlsConfig, TlsError};
