//! Networks beside this machine's own: a gateway listens there and connects there by sockets that somebody else makes.

use crate::listen::ListenError;
use crate::node::Config;
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::{TcpSocket, TcpStream};

/// Makes sockets of a network that this process is not in.
pub trait Network: Send + Sync + 'static {
    /// Whether the address is one of this network, rather than of this machine's.
    fn owns(&self, address: IpAddr) -> bool;

    /// Listens without blocking.
    fn listen(&self, address: SocketAddr) -> io::Result<std::net::TcpListener>;

    /// A socket that can connect to an address that it owns.
    fn socket(&self) -> io::Result<TcpSocket>;
}

/// Connects to a target, wherever it is.
pub(crate) async fn connect(config: &Config, address: SocketAddr) -> io::Result<TcpStream> {
    match config.network.as_ref().filter(|network| network.owns(address.ip())) {
        Some(network) => network.socket()?.connect(address).await,
        None => TcpStream::connect(address).await,
    }
}

/// Binds an address, wherever it is.
pub(crate) fn bind(config: &Config, address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    match config.network.as_ref().filter(|network| network.owns(address.ip())) {
        Some(network) => network.listen(address).map_err(|error| ListenError::new(address, error)),
        None => crate::listen::bind(address),
    }
}
