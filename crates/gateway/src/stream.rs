//! Connections whose bytes are passed on without being understood.

use crate::http1::connection::Accepted;
use crate::network;
use crate::node::{Mode, Worker};
use crate::snapshot::CompiledService;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Serves a connection of a listener for one service.
pub(crate) async fn serve(client: TcpStream, accepted: Accepted, worker: Arc<Worker>) {
    let Mode::Stream { service } = &*accepted.mode else { return };
    let service = {
        let snapshot = worker.shared.current.load();
        let Some(service) = snapshot.service(service) else { return };
        Arc::clone(service)
    };
    pass(client, &service, &worker).await;
}

/// Connects `client` with a target of a service until both sides are done.
pub(crate) async fn pass(mut client: TcpStream, service: &CompiledService, worker: &Worker) {
    let mut tried = Vec::new();
    for _ in 0..=service.retries {
        let Some(lease) = service.upstream.lease(&tried) else { return };
        let address = lease.target.address;
        let connected =
            tokio::time::timeout(service.connect_timeout, network::connect(&worker.shared.config, address))
                .await;
        let Ok(Ok(mut upstream)) = connected else {
            service.upstream.penalise(&lease.target);
            tried.push(address);
            continue;
        };
        let _ = upstream.set_nodelay(true);
        let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
        return;
    }
}
