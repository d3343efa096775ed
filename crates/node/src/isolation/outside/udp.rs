//! Datagrams out of the pods' network: one socket of this machine per pair of addresses, for as long as it is used.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::packet::{self, Unreachable};
use super::{Injector, real};
use crate::isolation::Flow;

/// At a time. Of more, those that have ended are forgotten first, and else the new one is dropped.
const MOST_FLOWS: usize = 2_048;
/// Without a datagram either way, as routers have it.
const IDLE: Duration = Duration::from_secs(120);
const WAITING_DATAGRAMS: usize = 64;
const DATAGRAM_BYTES: usize = 65_507;

pub(super) struct Flows {
    injector: Arc<Injector>,
    open: HashMap<Flow, mpsc::Sender<Vec<u8>>>,
}

impl Flows {
    pub(super) fn new(injector: Arc<Injector>) -> Flows {
        Flows { injector, open: HashMap::new() }
    }

    /// Sends a datagram on; one that finds its flow busy is lost, as datagrams are.
    pub(super) fn send(&mut self, flow: Flow, data: &[u8], packet: &[u8]) {
        if let Some(known) = self.open.get(&flow).filter(|known| !known.is_closed()) {
            let _ = known.try_send(data.to_vec());
            return;
        }
        if self.open.len() >= MOST_FLOWS {
            self.open.retain(|_, known| !known.is_closed());
            if self.open.len() >= MOST_FLOWS {
                return;
            }
        }
        let (sender, datagrams) = mpsc::channel(WAITING_DATAGRAMS);
        let _ = sender.try_send(data.to_vec());
        self.open.insert(flow, sender);
        tokio::spawn(pass(flow, datagrams, packet::quotation(packet), self.injector.clone()));
    }
}

async fn pass(
    flow: Flow,
    datagrams: mpsc::Receiver<Vec<u8>>,
    quotation: Option<Vec<u8>>,
    injector: Arc<Injector>,
) {
    if let Err(error) = pass_on(flow, datagrams, &injector).await {
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => Unreachable::Port,
            io::ErrorKind::NetworkUnreachable => Unreachable::Network,
            _ => Unreachable::Host,
        };
        injector.write(quotation.and_then(|quotation| packet::unreachable(&quotation, flow, why)));
    }
}

async fn pass_on(flow: Flow, mut datagrams: mpsc::Receiver<Vec<u8>>, injector: &Injector) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(SocketAddr::V4(real(flow.destination))).await?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let next = async {
            tokio::select! {
                data = datagrams.recv() => match data {
                    Some(data) => socket.send(&data).await.map(|_| true),
                    None => Ok(false),
                },
                count = socket.recv(&mut buffer) => {
                    injector.write(packet::datagram_back(flow, &buffer[..count?]));
                    Ok(true)
                }
            }
        };
        match tokio::time::timeout(IDLE, next).await {
            Ok(Ok(true)) => {}
            Ok(Err(error)) => return Err(error),
            Ok(Ok(false)) | Err(_) => return Ok(()),
        }
    }
}
