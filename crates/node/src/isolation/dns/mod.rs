//! The name server of pods: it knows the cluster's names, and asks the machine's own servers about all others.

mod message;
mod zone;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gantry_operator::Operator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::PodNetworks;
use message::{AAAA, Code, Query, Record};
use zone::{Meaning, Zone};

/// Questions to other servers, and connections, at a time.
const MOST_AT_ONCE: usize = 512;
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A client that says nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(30);
const MESSAGE_BYTES: usize = 65_535;
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd keeps the servers when `resolv.conf` names only its own.
const RESOLV_CONF_BEHIND: &str = "/run/systemd/resolve/resolv.conf";
const AFTER_FAILURE: Duration = Duration::from_millis(50);

pub(crate) struct NameServer {
    zone: Zone,
    networks: PodNetworks,
    at_once: Arc<Semaphore>,
}

impl NameServer {
    /// Registers the informers it reads, so it must be made before the operator runs.
    pub(crate) fn new(operator: &Operator, networks: PodNetworks) -> NameServer {
        let zone = Zone::new(operator, networks.config().cluster);
        NameServer { zone, networks, at_once: Arc::new(Semaphore::new(MOST_AT_ONCE)) }
    }

    /// Answers until it is dropped, or says why it cannot.
    pub(crate) async fn run(self) -> io::Result<()> {
        let (udp, tcp) = self.networks.listen_dns()?;
        let udp = Arc::new(UdpSocket::from_std(udp)?);
        let tcp = TcpListener::from_std(tcp)?;
        let server = Arc::new(self);
        tokio::join!(server.clone().datagrams(udp), server.connections(tcp));
        Ok(())
    }

    async fn datagrams(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; MESSAGE_BYTES];
        loop {
            let (count, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "a question was not received");
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            let message = &buffer[..count];
            match self.local(message, false) {
                Local::Silence => {}
                Local::Answer(answer) => {
                    let _ = socket.send_to(&answer, client).await;
                }
                Local::Ask(ask) => {
                    // One that finds no place is asked again by its client.
                    let Ok(place) = self.at_once.clone().try_acquire_owned() else { continue };
                    let (socket, message) = (socket.clone(), message.to_vec());
                    tokio::spawn(async move {
                        let answer = forwarded(&message, ask, false).await;
                        let _ = socket.send_to(&answer, client).await;
                        drop(place);
                    });
                }
            }
        }
    }

    async fn connections(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            };
            let Ok(place) = self.at_once.clone().try_acquire_owned() else { continue };
            let server = self.clone();
            tokio::spawn(async move {
                let _ = server.connection(stream).await;
                drop(place);
            });
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let message = tokio::time::timeout(IDLE, read_message(&mut stream)).await??;
            let answer = match self.local(&message, true) {
                Local::Silence => return Ok(()),
                Local::Answer(answer) => answer,
                Local::Ask(ask) => forwarded(&message, ask, true).await,
            };
            write_message(&mut stream, &answer).await?;
        }
    }

    fn local(&self, message: &[u8], is_stream: bool) -> Local {
        let query = match Query::parse(message) {
            None => return Local::Silence,
            Some(Err(code)) => return Local::Answer(message::refusal(message, code)),
            Some(Ok(query)) => query,
        };
        let most_bytes = if is_stream { MESSAGE_BYTES } else { query.datagram_bytes };
        let answer = |code, records: &[Record]| {
            Local::Answer(message::answer(message, &query, code, records, most_bytes))
        };
        match self.zone.meaning(&query.name, query.kind) {
            Meaning::Records(records) => answer(Code::NoError, &records),
            Meaning::NoRecords => answer(Code::NoError, &[]),
            Meaning::NoSuchName => answer(Code::NoSuchName, &[]),
            Meaning::External(name) => match self.zone.meaning(&name, query.kind) {
                Meaning::Foreign => Local::Ask(Ask::Alias { query, name, most_bytes }),
                Meaning::Records(found) => {
                    let records: Vec<Record> = [Record::Alias(name)].into_iter().chain(found).collect();
                    answer(Code::NoError, &records)
                }
                _ => answer(Code::NoError, &[Record::Alias(name)]),
            },
            Meaning::Foreign => Local::Ask(Ask::Whole { query }),
        }
    }
}

/// What is to be done with a question.
enum Local {
    Silence,
    Answer(Vec<u8>),
    Ask(Ask),
}

enum Ask {
    /// Passed on as it is.
    Whole { query: Query },
    /// Answered with the alias and what it leads to.
    Alias { query: Query, name: String, most_bytes: usize },
}

/// The answer of another server, or one that says that there is none.
async fn forwarded(message: &[u8], ask: Ask, is_stream: bool) -> Vec<u8> {
    match ask {
        Ask::Alias { query, name, most_bytes } => {
            let mut records = vec![Record::Alias(name.clone())];
            if query.kind != AAAA
                && let Ok(Ok(found)) =
                    tokio::time::timeout(ASK_TIMEOUT, tokio::net::lookup_host((name.as_str(), 0))).await
            {
                records.extend(found.filter_map(|address| match address.ip() {
                    IpAddr::V4(address) => Some(Record::Address(address)),
                    IpAddr::V6(_) => None,
                }));
            }
            message::answer(message, &query, Code::NoError, &records, most_bytes)
        }
        Ask::Whole { query } => {
            for server in servers() {
                let asked = async {
                    if is_stream {
                        ask_by_stream(message, server).await
                    } else {
                        ask_by_datagram(message, server).await
                    }
                };
                if let Ok(Ok(answer)) = tokio::time::timeout(ASK_TIMEOUT, asked).await
                    && answer.get(..2) == message.get(..2)
                {
                    return answer;
                }
            }
            message::answer(message, &query, Code::ServerFailure, &[], query.datagram_bytes)
        }
    }
}

/// The machine's own servers.
fn servers() -> Vec<SocketAddr> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let found = servers_in(&read(RESOLV_CONF));
    if found.is_empty() { servers_in(&read(RESOLV_CONF_BEHIND)) } else { found }
}

fn servers_in(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let rest = line.trim().strip_prefix("nameserver")?;
        rest.trim().parse::<IpAddr>().ok()
    };
    text.lines().filter_map(address).take(3).map(|ip| SocketAddr::new(ip, 53)).collect()
}

async fn ask_by_datagram(message: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut answer = vec![0; MESSAGE_BYTES];
    let count = socket.recv(&mut answer).await?;
    answer.truncate(count);
    Ok(answer)
}

async fn ask_by_stream(message: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, message).await?;
    read_message(&mut stream).await
}

/// With its length before it.
async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(message);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_servers_are_read() {
        let text =
            "# x\nsearch a\nnameserver 192.0.2.1\nnameserver\t::1\nnameserver fe80::1%eth0\noptions edns0\n";
        let expected: Vec<SocketAddr> = vec!["192.0.2.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()];
        assert_eq!(servers_in(text), expected);
    }
}
