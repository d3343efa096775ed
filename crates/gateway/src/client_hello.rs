//! The name that a client asks for, read from the first bytes of a connection without taking them (RFC 8446 section 4.1.2).

use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::net::TcpStream;

/// A hello beyond this is no client's.
const MAX_BYTES: usize = 16 * 1024;
/// Between two looks at a hello that came in part.
const PAUSE: Duration = Duration::from_millis(2);

/// The server name of the hello that `bytes` begin with; `Ok(None)` when there is more to come.
fn read(bytes: &[u8]) -> io::Result<Option<Option<String>>> {
    let malformed = |reason: String| io::Error::new(ErrorKind::InvalidData, reason);
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest)?;
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return Ok(Some(accepted.client_hello().server_name().map(str::to_owned)));
            }
            Ok(None) => {}
            Err((error, _)) => return Err(malformed(error.to_string())),
        }
    }
    Ok(None)
}

/// Waits for a whole hello. The caller bounds the time.
pub(crate) async fn server_name(stream: &TcpStream) -> io::Result<Option<String>> {
    let mut room = vec![0u8; MAX_BYTES];
    let mut seen = 0;
    loop {
        let count = stream.peek(&mut room).await?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if count == seen {
            if count == room.len() {
                return Err(io::Error::new(ErrorKind::InvalidData, "the hello is too long"));
            }
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        seen = count;
        if let Some(name) = read(&room[..count])? {
            return Ok(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_hello_is_read_once_it_is_whole() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = "shop.org".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        for end in 0..hello.len() {
            assert_eq!(read(&hello[..end]).unwrap(), None, "{end}");
        }
        assert_eq!(read(&hello).unwrap(), Some(Some("shop.org".to_owned())));
        assert!(read(b"GET / HTTP/1.1\r\n\r\n").is_err());
    }
}
