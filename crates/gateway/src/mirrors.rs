//! Copies of requests for other services. Nobody waits for one, and what it is answered is read over.

use crate::entities::Mirror;
use crate::network;
use crate::node::Shared;
use crate::snapshot::CompiledService;
use crate::upstream_io::Io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;

use crate::balancer::Lease;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const READ_BYTES: usize = 4 * 1024;

pub(crate) struct CompiledMirror {
    pub(crate) service: Arc<CompiledService>,
    numerator: u64,
    denominator: u64,
    seen: AtomicU64,
}

impl CompiledMirror {
    pub(crate) fn new(mirror: &Mirror, service: &Arc<CompiledService>) -> CompiledMirror {
        CompiledMirror {
            service: Arc::clone(service),
            numerator: u64::from(mirror.numerator),
            denominator: u64::from(mirror.denominator.max(1)),
            seen: AtomicU64::new(0),
        }
    }

    /// Whether the next request is copied: so that of any `denominator` in a row `numerator` are.
    pub(crate) fn takes_next(&self) -> bool {
        let number = self.seen.fetch_add(1, Ordering::Relaxed) % self.denominator;
        (number + 1) * self.numerator / self.denominator != number * self.numerator / self.denominator
    }
}

/// A copy on its way.
pub(crate) struct Copy {
    pub(crate) service: Arc<CompiledService>,
    pub(crate) lease: Lease,
    pub(crate) host: String,
    /// Head and body.
    pub(crate) request: Vec<u8>,
    pub(crate) slot: OwnedSemaphorePermit,
}

/// The request with the wish that the connection ends with its answer.
pub(crate) fn closing(request: &[u8]) -> Vec<u8> {
    let end = memchr::memmem::find(request, END_OF_HEAD).map_or(request.len(), |at| at + 2);
    let (head, rest) = request.split_at(end);
    [head, b"Connection: close\r\n", rest].concat()
}

impl Copy {
    /// Sends the copy and reads until the target has closed.
    pub(crate) async fn send(self, shared: Arc<Shared>) {
        let Copy { service, lease, host, request, slot } = self;
        let address = lease.target.address;
        let sending = async {
            let stream = network::connect(&shared.config, address).await?;
            let mut io = match &service.tls {
                None => Io::Plain(stream),
                Some(tls) => Io::Tls(Box::new(tls.connect(&host, stream).await?)),
            };
            io.write_all(&request).await?;
            io.flush().await?;
            let mut room = [0u8; READ_BYTES];
            while io.read(&mut room).await? > 0 {}
            std::io::Result::Ok(())
        };
        match tokio::time::timeout(service.read_timeout, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(target = %address, %error, "a mirrored request failed"),
            Err(_) => tracing::debug!(target = %address, "a mirrored request took too long"),
        }
        drop((lease, slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::Balancer;
    use crate::metrics::Metrics;
    use crate::snapshot::Compiled;

    #[test]
    fn a_fraction_takes_its_part_of_any_run() {
        let nowhere =
            Compiled::empty(&Balancer::new(), &Metrics::new(&gantry_prom_model::Registry::new())).no_service;
        let taken = |numerator: u32, denominator: u32| {
            let mirror = Mirror { service: String::new(), numerator, denominator };
            let mirror = CompiledMirror::new(&mirror, &nowhere);
            (0..200).filter(|_| mirror.takes_next()).count()
        };
        assert_eq!((taken(100, 100), taken(20, 100), taken(25, 50), taken(0, 100)), (200, 40, 100, 0));
    }

    #[test]
    fn a_copy_asks_for_the_end_of_its_connection() {
        let request = b"POST / HTTP/1.1\r\nHost: a\r\n\r\nx\r\n\r\n";
        assert_eq!(closing(request), b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nx\r\n\r\n");
    }
}
