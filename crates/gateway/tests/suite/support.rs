//! Targets that answer in known ways, and a client that speaks bytes.

use gantry_gateway::entities::{Route, Service, Snapshot, Target, Upstream};
use gantry_gateway::{Config, Gateway};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A target that answers every request with its head as the body, and counts.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<AtomicUsize>,
    pub(crate) connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Echo {
    pub(crate) async fn start() -> Echo {
        Echo::answering(|head, body| {
            let text = format!("{head}|{}", String::from_utf8_lossy(body));
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Target: echo\r\n\r\n{text}", text.len())
                .into_bytes()
        })
        .await
    }

    /// `answer` gets the head and the decoded body of a request.
    pub(crate) async fn answering(
        answer: impl Fn(&str, &[u8]) -> Vec<u8> + Send + Sync + Clone + 'static,
    ) -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (seen, opened) = (Arc::clone(&requests), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                opened.fetch_add(1, Ordering::SeqCst);
                let (answer, seen) = (answer.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let mut client = Wire::over(stream);
                    while let Some((head, body)) = client.message().await {
                        seen.fetch_add(1, Ordering::SeqCst);
                        let bytes = answer(&head, &body);
                        if bytes.is_empty() || client.send(&bytes).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Echo { address, requests, connections, task }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// A connection on which whole messages are read.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn over(stream: TcpStream) -> Wire {
        Wire { stream, buffer: Vec::new() }
    }

    pub(crate) async fn connect(address: SocketAddr) -> Wire {
        Wire::over(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    async fn more(&mut self) -> bool {
        let read =
            tokio::time::timeout(Duration::from_secs(20), self.stream.read_buf(&mut self.buffer)).await;
        matches!(read, Ok(Ok(1..)))
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }

    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.more().await {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// A head and the body that it announces.
    pub(crate) async fn message(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head().await?;
        let lower = head.to_ascii_lowercase();
        if lower.contains("\r\ntransfer-encoding: chunked\r\n") {
            let mut body = Vec::new();
            loop {
                let size = usize::from_str_radix(&self.line().await?, 16).ok()?;
                let mut chunk = self.exactly(size + 2).await?;
                chunk.truncate(size);
                body.extend(chunk);
                if size == 0 {
                    return Some((head, body));
                }
            }
        }
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let body = self.exactly(length.unwrap_or(0)).await?;
        Some((head, body))
    }

    pub(crate) async fn exchange(&mut self, request: &str) -> (String, String) {
        self.send(request.as_bytes()).await.unwrap();
        let (head, body) = self.message().await.expect("a whole response");
        (head, String::from_utf8_lossy(&body).into_owned())
    }
}

/// A gateway on a free port; ends with the value.
pub(crate) struct Running {
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
}

impl Running {
    pub(crate) fn start(snapshot: Snapshot) -> Running {
        Running::with(Config::default(), snapshot)
    }

    pub(crate) fn with(config: Config, snapshot: Snapshot) -> Running {
        let config =
            Config { proxy_listen: vec!["127.0.0.1:0".parse().unwrap()], threads: Some(2), ..config };
        let gateway = Gateway::start(config).unwrap();
        gateway.apply(snapshot).unwrap();
        let address = gateway.listeners()[0].0;
        Running { gateway, address }
    }

    pub(crate) async fn connect(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// The value of one series of the gateway's own metrics.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = self.gateway.registry().encode();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

impl Running {
    /// Counting follows the answer by a moment.
    pub(crate) async fn metric_becomes(&self, series: &str, wanted: f64) {
        for _ in 0..1_000 {
            if self.metric(series) == Some(wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{series} is {:?}, not {wanted}", self.metric(series));
    }
}

/// One route `/` of `shop.org` to one upstream of `targets`.
pub(crate) fn shop(targets: &[SocketAddr]) -> Snapshot {
    Snapshot {
        services: vec![Service {
            id: "s1".into(),
            name: Some("shop".into()),
            host: "shop-upstream".into(),
            ..Service::default()
        }],
        routes: vec![Route {
            id: "r1".into(),
            name: Some("shop-route".into()),
            hosts: Some(vec!["shop.org".into()]),
            paths: Some(vec!["/".into()]),
            strip_path: false,
            service: Some("shop".into()),
            ..Route::default()
        }],
        upstreams: vec![Upstream {
            name: "shop-upstream".into(),
            targets: targets
                .iter()
                .map(|address| Target { target: address.to_string(), ..Target::default() })
                .collect(),
            ..Upstream::default()
        }],
        ..Snapshot::default()
    }
}
