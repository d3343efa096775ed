//! One request and its response: lease a target, send, receive, pass on; another target when nothing was lost yet.

use super::body::{self, CopyError, Incoming, Outgoing, Timeouts, consume};
use super::connection::{After, Connection, Refusal};
use super::forward::{self, Origin};
use super::head::{Head, HeadLimits};
use super::plan::Plan;
use super::plugged::Plugged;
use super::response::{self, Asked, Framing, RequestId};
use super::transport::{Transport, read_some};
use crate::balancer::{Lease, UpstreamState};
use crate::metrics::{Measured, Source};
use crate::mirrors::{self, Copy};
use crate::plugins::{MAX_PLUGIN_BODY_BYTES, Response};
use crate::pool::{PoolKey, Upstream};
use crate::timer::Timer;
use crate::upstream_io::Io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const READ_BYTES: usize = 16 * 1024;
/// A request that could not be sent again only goes over a connection used this recently: a server that closes idle
/// connections would otherwise race with it.
const FRESH: Duration = Duration::from_secs(2);

/// Why there is no response yet.
#[derive(Debug)]
enum Failure {
    /// Nothing of the request can have been acted on.
    Unsent,
    /// The target may have seen the request.
    Unanswered,
    Timeout,
    Malformed,
    ClientGone,
}

impl Failure {
    fn status(&self) -> u16 {
        match self {
            Failure::Timeout => 504,
            _ => 502,
        }
    }
}

/// How one attempt ended.
enum Outcome {
    Done(After),
    Failed(Failure),
}

fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE" | b"TRACE")
}

impl<S: Transport> Connection<S> {
    /// Serves the request whose head was read.
    pub(super) async fn exchange(&mut self) -> After {
        let received = Instant::now();
        let shared = Arc::clone(&self.worker.shared);
        shared.metrics.total_requests.inc();
        shared.ids.next(&mut self.request_id);
        let snapshot = shared.current.load_full();
        let plan = match self.plan(&snapshot) {
            Ok(plan) => plan,
            Err(refusal) => return self.refuse(refusal, received, true).await,
        };
        drop(snapshot);
        self.plugged = None;
        if let Some(chain) = &plan.chain
            && let Err(refusal) = self.run_plugins(chain, &plan).await
        {
            let refusal =
                Refusal { counts_consumers: chain.counts_consumers, ..refusal.counted_by(&plan.metrics) };
            return self.refuse(refusal, received, true).await;
        }
        if plan.has_no_service {
            let refusal =
                Refusal::new(503).saying("no Service found with those values").counted_by(&plan.metrics);
            return self.refuse(refusal, received, true).await;
        }
        if plan.mirrors.is_some()
            && let Err(refusal) = Box::pin(self.mirror(&plan)).await
        {
            return self.refuse(refusal.counted_by(&plan.metrics), received, true).await;
        }
        self.has_begun = false;
        let proxied = match plan.timeout {
            None => self.proxy(&plan, received).await,
            Some(limit) => {
                let proxying = Box::pin(self.proxy(&plan, received));
                match tokio::time::timeout_at(received + limit, proxying).await {
                    Ok(proxied) => proxied,
                    // What was read of the body is gone with the attempt.
                    Err(_) if self.has_begun => return After::Close,
                    Err(_) => {
                        let refusal = Refusal::new(504).counted_by(&plan.metrics);
                        return self.refuse(refusal, received, false).await;
                    }
                }
            }
        };
        match proxied {
            Ok(after) => after,
            Err(refusal) => {
                let refusal = refusal.counted_by(&plan.metrics);
                self.refuse(refusal, received, true).await
            }
        }
    }

    /// Sends copies of the request to whom they are for. Its body is read as a whole first, so that it can be sent twice.
    async fn mirror(&mut self, plan: &Plan) -> Result<(), Refusal> {
        if self.head.wants_upgrade {
            return Ok(());
        }
        let has_body = self.head.is_chunked || self.head.content_length.is_some_and(|length| length > 0);
        if has_body && self.body_in_buffer().is_none() {
            self.plugged.get_or_insert_default();
            self.load_body(MAX_PLUGIN_BODY_BYTES).await?;
        }
        let body_in_buffer = self.body_in_buffer();
        for mirror in plan.mirrors.iter().flat_map(|all| all.iter()).filter(|mirror| mirror.takes_next()) {
            let shared = Arc::clone(&self.worker.shared);
            let Ok(slot) = Arc::clone(&shared.mirror_slots).try_acquire_owned() else { continue };
            let Some(lease) = mirror.service.upstream.lease(&[]) else { continue };
            self.write_request(plan, &lease, body_in_buffer);
            let copy = Copy {
                service: Arc::clone(&mirror.service),
                host: self.sent_host(plan, &lease).to_owned(),
                lease,
                request: mirrors::closing(&self.out),
                slot,
            };
            tokio::spawn(copy.send(shared));
        }
        Ok(())
    }

    /// The `Host` that a target is sent.
    fn sent_host<'s>(&'s self, plan: &'s Plan, lease: &'s Lease) -> &'s str {
        let set_host = self.plugged.as_deref().and_then(|plugged| plugged.edits.values("host").last());
        let raw_host = self.head.host(&self.buffer).unwrap_or_default();
        match set_host {
            Some(host) => host,
            None if plan.preserve_host && !raw_host.is_empty() => {
                std::str::from_utf8(raw_host).unwrap_or_default()
            }
            // A port that goes without saying is not said.
            None if plan.tls().is_some() => {
                lease.target.host.strip_suffix(":443").unwrap_or(&lease.target.host)
            }
            None => &lease.target.host,
        }
    }

    async fn proxy(&mut self, plan: &Plan, received: Instant) -> Result<After, Refusal> {
        let body_in_buffer = self.body_in_buffer();
        let is_repeatable = body_in_buffer.is_some() && is_idempotent(self.head.method(&self.buffer));
        let mut retries_left = plan.service.retries;
        let mut tried = Vec::new();
        let mut last_failure = None;
        let hash = plan.service.hashing.as_ref().and_then(|hashing| self.hash_of(plan, hashing));
        loop {
            let leased = match hash {
                None => plan.service.upstream.lease(&tried),
                Some(hash) => plan.service.upstream.lease_by_hash(hash, &tried),
            };
            let Some(lease) = leased else {
                match last_failure {
                    None => self.wait_for_target(&plan.service.upstream).await?,
                    Some(status) => return Err(Refusal::new(status)),
                }
                continue;
            };
            let address = lease.target.address;
            let max_idle = (!is_repeatable).then_some(FRESH);
            let tls = plan.tls().map(|tls| Arc::new(tls.peer(self.sent_host(plan, &lease))));
            let key = PoolKey { address, tls };
            let pooled = self.worker.pool.take(&key, max_idle);
            let is_pooled = pooled.is_some();
            let upstream = match pooled {
                Some(upstream) => upstream,
                None => match self.connect(plan, &lease).await {
                    Ok(upstream) => upstream,
                    Err(status) => {
                        plan.service.upstream.penalise(&lease.target);
                        tried.push(address);
                        last_failure = Some(status);
                        if retries_left == 0 {
                            return Err(Refusal::new(status));
                        }
                        retries_left -= 1;
                        self.worker.shared.metrics.retries.inc();
                        continue;
                    }
                },
            };
            self.write_request(plan, &lease, body_in_buffer);
            let outcome = match body_in_buffer {
                Some(length) => self.exchange_buffered(plan, upstream, &lease, &key, length, received).await,
                None => self.exchange_streaming(plan, upstream, &lease, &key, received).await,
            };
            let failure = match outcome {
                Outcome::Done(after) => return Ok(after),
                Outcome::Failed(Failure::ClientGone) => return Ok(After::Close),
                Outcome::Failed(failure) => failure,
            };
            let may_repeat = match failure {
                Failure::Unsent => body_in_buffer.is_some(),
                Failure::Unanswered => is_repeatable,
                _ => false,
            };
            if !may_repeat || (retries_left == 0 && !is_pooled) {
                return Err(Refusal::new(failure.status()));
            }
            self.worker.shared.metrics.retries.inc();
            if is_pooled {
                // The others were opened to the same process; it is asked again over a new connection.
                self.worker.pool.forget(&key);
                continue;
            }
            retries_left -= 1;
            tried.push(address);
            last_failure = Some(failure.status());
        }
    }

    async fn connect(&mut self, plan: &Plan, lease: &Lease) -> Result<Upstream, u16> {
        let deadline = Instant::now() + plan.service.connect_timeout;
        let host = plan.tls().is_some().then(|| self.sent_host(plan, lease).to_owned());
        let connecting = async {
            let stream = crate::network::connect(&self.worker.shared.config, lease.target.address).await?;
            let _ = stream.set_nodelay(true);
            match (plan.tls(), host) {
                // Boxed, for a handshake is large and most requests need none.
                (Some(tls), Some(host)) => Ok(Io::Tls(Box::new(Box::pin(tls.connect(&host, stream)).await?))),
                _ => std::io::Result::Ok(Io::Plain(stream)),
            }
        };
        match self.timer.limit(deadline, connecting).await {
            Ok(Ok(io)) => Ok(Upstream { io, buffer: Vec::new(), requests: 0 }),
            Ok(Err(error)) => {
                tracing::debug!(target = %lease.target.address, %error, "cannot connect");
                Err(502)
            }
            Err(_) => Err(504),
        }
    }

    /// Waits for the first ready target of an upstream that has none, and asks for one.
    async fn wait_for_target(&mut self, upstream: &Arc<UpstreamState>) -> Result<(), Refusal> {
        let shared = Arc::clone(&self.worker.shared);
        let no_peer = || Refusal::new(503).saying("failure to get a peer from the ring-balancer");
        let Some(scale) = &shared.config.scale_from_zero else { return Err(no_peer()) };
        let _waiting = Waiting::enter(upstream, scale.max_pending)
            .ok_or_else(|| Refusal::new(503).saying("too many requests wait for the upstream to start"))?;
        let deadline = Instant::now() + scale.max_wait;
        let mut watches_client = true;
        loop {
            let mut ready = pin!(upstream.ready.notified());
            ready.as_mut().enable();
            if upstream.has_targets() {
                return Ok(());
            }
            scale.activator.activate(&upstream.name);
            let io = &self.io;
            let wait = std::future::poll_fn(|cx| {
                if ready.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                if watches_client && let Poll::Ready(is_closed) = io.poll_closed(cx) {
                    watches_client = false;
                    if is_closed {
                        return Poll::Ready(false);
                    }
                }
                Poll::Pending
            });
            match self.timer.limit(deadline, wait).await {
                Ok(true) => {}
                Ok(false) => return Err(Refusal::new(499)),
                Err(_) => return Err(no_peer()),
            }
        }
    }

    /// Fills `out` with the request as the target gets it, its body included when it is at hand.
    fn write_request(&mut self, plan: &Plan, lease: &Lease, body: Option<usize>) {
        let is_trusted = !plan.is_transparent && self.is_trusted();
        let Connection { buffer, head, out, uri, host, request_id, accepted, plugged, .. } = self;
        let raw_host = head.host(buffer).unwrap_or_default();
        let plugged = plugged.as_deref();
        let set_host = plugged.and_then(|plugged| plugged.edits.values("host").last());
        let sent_host = match set_host {
            Some(host) => host.as_bytes(),
            None if plan.preserve_host && !raw_host.is_empty() => raw_host,
            None if plan.tls().is_some() => {
                lease.target.host.strip_suffix(":443").unwrap_or(&lease.target.host).as_bytes()
            }
            None => lease.target.host.as_bytes(),
        };
        let origin = Origin {
            peer: accepted.peer.ip(),
            is_trusted,
            scheme: if accepted.is_tls { "https" } else { "http" },
            local_port: accepted.local_port,
            request_id,
            host,
            path: buffer.get(plan.path.0..plan.path.1).unwrap_or_default(),
            prefix: plan.prefix.as_deref(),
            is_upgrade: head.wants_upgrade,
            is_transparent: plan.is_transparent,
        };
        out.clear();
        let changes = plugged.map(|plugged| forward::Changes {
            edits: &plugged.edits,
            method: plugged.method.as_deref(),
            body_length: plugged.body.as_ref().map(Vec::len),
        });
        forward::write_head(head, buffer, uri, sent_host, &origin, changes.as_ref(), out);
        if let Some(body) = plugged.and_then(|plugged| plugged.body.as_ref()) {
            out.extend_from_slice(body);
        }
        if let Some(length) = body {
            out.extend_from_slice(buffer.get(head.len..head.len + length).unwrap_or_default());
        }
    }

    fn timeouts_to_client(&self, plan: &Plan) -> Timeouts {
        Timeouts { read: plan.service.read_timeout, write: self.worker.shared.config.limits.send_timeout }
    }

    /// The whole request is at hand: send, then receive.
    async fn exchange_buffered(
        &mut self,
        plan: &Plan,
        mut upstream: Upstream,
        lease: &Lease,
        key: &PoolKey,
        body_length: usize,
        received: Instant,
    ) -> Outcome {
        let sent_at = Instant::now();
        let mut sent_bytes = 0;
        let send = async {
            while sent_bytes < self.out.len() {
                sent_bytes += upstream.io.write(&self.out[sent_bytes..]).await?;
            }
            upstream.io.flush().await
        };
        match self.timer.limit(sent_at + plan.service.write_timeout, send).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) if sent_bytes == 0 => return Outcome::Failed(Failure::Unsent),
            // The answer may have come before the write failed; without one the part that was sent may count.
            Ok(Err(_)) => return Outcome::Failed(Failure::Unanswered),
            Err(_) => return Outcome::Failed(Failure::Timeout),
        }
        let limits = self.worker.shared.config.limits.response_head;
        let read = read_response_head(
            &mut upstream.io,
            &mut upstream.buffer,
            &mut self.response_head,
            &limits,
            &mut self.timer,
            plan.service.read_timeout,
            Some(&self.io),
        );
        if let Err(failure) = read.await {
            return Outcome::Failed(failure);
        }
        let answered_at = Instant::now();
        lease.observe(answered_at - sent_at);
        let timeouts = self.timeouts_to_client(plan);
        let framing = self.begin_response(plan, &mut upstream, received, sent_at, answered_at);
        let request_bytes = self.head.len + body_length;
        let copied = body::copy(
            &mut upstream.io,
            &mut upstream.buffer,
            framing.incoming,
            &mut self.io,
            &mut self.out,
            framing.outgoing,
            &mut self.timer,
            timeouts,
        )
        .await;
        consume(&mut self.buffer, request_bytes);
        let facts = Facts { received, sent_at, answered_at, ingress_bytes: request_bytes as u64 };
        self.record(plan, &facts, copied.as_ref().map_or(0, |copied| copied.written));
        match copied {
            Ok(_) if framing.is_tunnel => {
                self.tunnel(upstream).await;
                Outcome::Done(After::Close)
            }
            Ok(_) => {
                self.give_back(upstream, lease, key, framing.keeps_upstream);
                Outcome::Done(if framing.keeps_client { After::KeepAlive } else { After::Close })
            }
            // The client sees a body that ends early, which is the truth.
            Err(_) => Outcome::Done(After::Close),
        }
    }

    /// The body is still on its way: it is passed on while the response may already come back.
    async fn exchange_streaming(
        &mut self,
        plan: &Plan,
        mut upstream: Upstream,
        lease: &Lease,
        key: &PoolKey,
        received: Instant,
    ) -> Outcome {
        let sent_at = Instant::now();
        let incoming = match self.head.content_length {
            Some(length) if !self.head.is_chunked => Incoming::Length(length),
            _ => Incoming::Chunked,
        };
        let outgoing = if incoming == Incoming::Chunked { Outgoing::Chunked } else { Outgoing::Plain };
        let mut request_head = std::mem::take(&mut self.out);
        let head_bytes = self.head.len;
        if self.head.expects_continue && self.buffer.len() == head_bytes {
            let deadline = sent_at + self.worker.shared.config.limits.send_timeout;
            let go_on = self.io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            if !matches!(self.timer.limit(deadline, go_on).await, Ok(Ok(()))) {
                return Outcome::Failed(Failure::ClientGone);
            }
        }
        // The head's ranges point into the buffer; what follows reads the body through a buffer of its own.
        let mut body_buffer = self.buffer.split_off(head_bytes);
        let body_timeouts = Timeouts {
            read: self.worker.shared.config.limits.body_timeout,
            write: plan.service.write_timeout,
        };
        let limits = self.worker.shared.config.limits.response_head;
        let timeouts = self.timeouts_to_client(plan);
        let mut send_timer = Timer::new();
        let mut facts = Facts { received, sent_at, answered_at: sent_at, ingress_bytes: head_bytes as u64 };
        let mut answered = None;
        let mut send_result: Option<Result<u64, CopyError>> = None;
        let received_result = {
            let asked = self.asked(plan, received, sent_at, sent_at);
            let Connection { io, response_head, timer, out, plugged, has_begun, .. } = self;
            let (mut client_read, mut client_write) = tokio::io::split(io);
            let Upstream { io: upstream_io, buffer: upstream_buffer, .. } = &mut upstream;
            let (mut upstream_read, mut upstream_write) = upstream_io.split();
            let send = async {
                let copied = body::copy(
                    &mut client_read,
                    &mut body_buffer,
                    incoming,
                    &mut upstream_write,
                    &mut request_head,
                    outgoing,
                    &mut send_timer,
                    body_timeouts,
                );
                copied.await.map(|copied| copied.written)
            };
            let receive = async {
                read_response_head::<_, TcpStream>(
                    &mut upstream_read,
                    upstream_buffer,
                    response_head,
                    &limits,
                    timer,
                    plan.service.read_timeout,
                    None,
                )
                .await?;
                let now = Instant::now();
                lease.observe(now - sent_at);
                let asked = Asked { upstream_latency_ms: (now - sent_at).as_millis() as u64, ..asked };
                let framing = response::framing(response_head, &asked);
                out.clear();
                if let (Some(chain), Some(plugged)) = (&plan.chain, plugged.as_deref_mut())
                    && chain.responds
                {
                    let mut response = Response {
                        head: response_head,
                        buffer: upstream_buffer,
                        edits: &mut plugged.response,
                    };
                    chain.respond(&mut response, &plugged.identity);
                }
                let edits = plugged.as_deref().map(|plugged| &plugged.response);
                response::write_head(response_head, upstream_buffer, &asked, &framing, edits, out);
                consume(upstream_buffer, response_head.len);
                answered = Some((now, framing));
                *has_begun = true;
                let copied = body::copy(
                    &mut upstream_read,
                    upstream_buffer,
                    framing.incoming,
                    &mut client_write,
                    out,
                    framing.outgoing,
                    timer,
                    timeouts,
                );
                copied.await.map(|copied| copied.written).map_err(|_| Failure::Malformed)
            };
            let (mut send, mut receive) = (pin!(send), pin!(receive));
            std::future::poll_fn(|cx| {
                if send_result.is_none()
                    && let Poll::Ready(result) = send.as_mut().poll(cx)
                {
                    if result.as_ref().is_err_and(CopyError::is_from_reader) {
                        send_result = Some(result);
                        return Poll::Ready(None);
                    }
                    // When the target stopped reading it may have answered already: that answer is still awaited.
                    send_result = Some(result);
                }
                receive.as_mut().poll(cx).map(Some)
            })
            .await
        };
        self.buffer.clear();
        let body_done = matches!(send_result, Some(Ok(_)));
        if body_done {
            self.buffer = std::mem::take(&mut body_buffer);
        }
        if let Some(Ok(written)) = send_result {
            facts.ingress_bytes += written;
        }
        let Some((answered_at, framing)) = answered else {
            return match (received_result, send_result) {
                (None, Some(Err(CopyError::Coding(_)))) => self.refuse_body(400, plan, received).await,
                (None, Some(Err(CopyError::ReadTimeout))) => self.refuse_body(408, plan, received).await,
                (None, _) => Outcome::Failed(Failure::ClientGone),
                (Some(Err(Failure::Unanswered)), _) => self.refuse_body(502, plan, received).await,
                (Some(Err(failure)), _) => self.refuse_body(failure.status(), plan, received).await,
                (Some(Ok(_)), _) => Outcome::Done(After::Close),
            };
        };
        facts.answered_at = answered_at;
        let written = received_result.as_ref().and_then(|result| result.as_ref().ok()).copied();
        self.record(plan, &facts, written.unwrap_or(0));
        match written {
            Some(_) if framing.is_tunnel && body_done => {
                self.tunnel(upstream).await;
                Outcome::Done(After::Close)
            }
            Some(_) if body_done => {
                self.give_back(upstream, lease, key, framing.keeps_upstream);
                Outcome::Done(if framing.keeps_client { After::KeepAlive } else { After::Close })
            }
            // Answered before the body was through: the rest of it has nowhere to go.
            Some(_) => Outcome::Done(After::Linger),
            None => Outcome::Done(After::Close),
        }
    }

    /// The body cannot be had again, so the connection ends with the answer.
    async fn refuse_body(&mut self, status: u16, plan: &Plan, received: Instant) -> Outcome {
        let refusal = Refusal::new(status).counted_by(&plan.metrics);
        let _ = self.refuse(refusal, received, false).await;
        Outcome::Done(After::Linger)
    }

    fn asked(&self, plan: &Plan, received: Instant, sent_at: Instant, answered_at: Instant) -> Asked {
        Asked {
            is_head: self.head.method(&self.buffer) == b"HEAD",
            is_http10: self.head.is_http10,
            keeps_alive: self.client_keeps_alive(),
            wanted_upgrade: self.head.wants_upgrade,
            is_transparent: plan.is_transparent,
            request_id: RequestId::of(&self.request_id),
            proxy_latency_ms: (sent_at - received).as_millis() as u64,
            upstream_latency_ms: (answered_at - sent_at).as_millis() as u64,
        }
    }

    /// Puts the response's head into `out` and takes it off the upstream's buffer.
    fn begin_response(
        &mut self,
        plan: &Plan,
        upstream: &mut Upstream,
        received: Instant,
        sent_at: Instant,
        answered_at: Instant,
    ) -> Framing {
        let asked = self.asked(plan, received, sent_at, answered_at);
        let framing = response::framing(&self.response_head, &asked);
        self.has_begun = true;
        self.run_response_plugins(plan, &upstream.buffer);
        self.out.clear();
        let edits = self.plugged.as_deref().map(|plugged| &plugged.response);
        response::write_head(&self.response_head, &upstream.buffer, &asked, &framing, edits, &mut self.out);
        consume(&mut upstream.buffer, self.response_head.len);
        framing
    }

    fn record(&mut self, plan: &Plan, facts: &Facts, egress_bytes: u64) {
        let now = Instant::now();
        let in_ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        plan.metrics.record(&Measured {
            status: self.response_head.status,
            source: Source::Service,
            request_ms: in_ms(now - facts.received),
            upstream_ms: Some(in_ms(facts.answered_at - facts.sent_at)),
            ingress_bytes: facts.ingress_bytes,
            egress_bytes,
            consumer: self
                .plugged
                .as_deref()
                .filter(|_| plan.chain.as_ref().is_some_and(|chain| chain.counts_consumers))
                .and_then(Plugged::consumer_label),
        });
    }

    fn give_back(&self, mut upstream: Upstream, lease: &Lease, key: &PoolKey, keeps_upstream: bool) {
        // Bytes beyond the response belong to nobody; such a connection is not used again.
        if keeps_upstream && upstream.buffer.is_empty() && lease.target.is_open() {
            upstream.requests += 1;
            self.worker.pool.put(key.clone(), upstream);
        }
    }

    /// Both sides speak a protocol of their own from here on.
    async fn tunnel(&mut self, mut upstream: Upstream) {
        let early = std::mem::take(&mut self.buffer);
        if !early.is_empty() && upstream.io.write_all(&early).await.is_err() {
            return;
        }
        if !upstream.buffer.is_empty() && self.io.write_all(&upstream.buffer).await.is_err() {
            return;
        }
        let _ = tokio::io::copy_bidirectional(&mut self.io, &mut upstream.io).await;
    }
}

struct Facts {
    received: Instant,
    sent_at: Instant,
    answered_at: Instant,
    ingress_bytes: u64,
}

/// Counts a waiting request for as long as it waits.
struct Waiting<'a>(&'a UpstreamState);

impl<'a> Waiting<'a> {
    fn enter(upstream: &'a UpstreamState, max_pending: usize) -> Option<Waiting<'a>> {
        let before = upstream.pending.fetch_add(1, Ordering::Relaxed);
        upstream.metrics.pending.inc();
        let waiting = Waiting(upstream);
        (before < max_pending).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.pending.dec();
    }
}

/// Reads until a final response head is complete; interim responses but 101 are dropped. `client` is watched meanwhile,
/// so that the target is let go when nobody waits for it.
async fn read_response_head<R: AsyncRead + Unpin, S: Transport>(
    io: &mut R,
    buffer: &mut Vec<u8>,
    head: &mut Head,
    limits: &HeadLimits,
    timer: &mut Timer,
    timeout: Duration,
    client: Option<&S>,
) -> Result<(), Failure> {
    let mut client = client;
    let mut deadline = Instant::now() + timeout;
    loop {
        if !buffer.is_empty() {
            match head.parse_response(buffer, limits) {
                Ok(true) if (100..200).contains(&head.status) && head.status != 101 => {
                    consume(buffer, head.len);
                    continue;
                }
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, "malformed response head");
                    return Err(Failure::Malformed);
                }
            }
        }
        let is_untouched = buffer.is_empty();
        let read = {
            let mut read = pin!(read_some(io, buffer, READ_BYTES));
            let wait = std::future::poll_fn(|cx| {
                if let Poll::Ready(read) = read.as_mut().poll(cx) {
                    return Poll::Ready(Some(read));
                }
                if let Some(Poll::Ready(is_closed)) = client.map(|client| client.poll_closed(cx)) {
                    if is_closed {
                        return Poll::Ready(None);
                    }
                    client = None;
                }
                Poll::Pending
            });
            timer.limit(deadline, wait).await
        };
        match read {
            Ok(Some(Ok(count))) if count > 0 => deadline = Instant::now() + timeout,
            Ok(Some(_)) if is_untouched => return Err(Failure::Unanswered),
            Ok(Some(_)) => return Err(Failure::Malformed),
            Ok(None) => return Err(Failure::ClientGone),
            Err(_) => return Err(Failure::Timeout),
        }
    }
}
