//! Where plugins meet a request: its body read when one looks into it, their changes kept until heads are written.

use super::chunked::Decoder;
use super::connection::{Connection, Refusal};
use super::plan::Plan;
use super::transport::{Transport, read_some};
use crate::hashing::{Hashing, Source, cookie, hash, header_values};
use crate::plugins::chain::Chain;
use crate::plugins::consumers::Identity;
use crate::plugins::{Answer, AnswerBody, Edits, Request, Response, query};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

const READ_BYTES: usize = 16 * 1024;

/// What the plugins of one request did so far.
#[derive(Default)]
pub(super) struct Plugged {
    pub(super) edits: Edits,
    pub(super) response: Edits,
    pub(super) method: Option<String>,
    /// The body, taken out of the connection's buffer and decoded.
    pub(super) body: Option<Vec<u8>>,
    pub(super) identity: Identity,
}

impl Plugged {
    /// The user name requests are counted by.
    pub(super) fn consumer_label(&self) -> Option<&str> {
        let consumer = self.identity.consumer.as_ref()?;
        consumer.username.as_deref().or(consumer.custom_id.as_deref()).or(Some(&consumer.id))
    }
}

impl<S: Transport> Connection<S> {
    /// Runs the plugins of a request before it is passed on.
    pub(super) async fn run_plugins(&mut self, chain: &Chain, plan: &Plan) -> Result<(), Refusal> {
        self.plugged = Some(Box::default());
        let limit = if self.head.is_chunked {
            chain.unknown_body_limit
        } else if self.head.content_length.is_some_and(|length| length > 0) {
            chain.body_limit
        } else {
            None
        };
        if let Some(limit) = limit {
            self.load_body(limit).await?;
        }
        let shared = Arc::clone(&self.worker.shared);
        let is_trusted = self.is_trusted();
        let Connection { head, buffer, plugged, uri, host, accepted, request_id, .. } = self;
        let Some(plugged) = plugged.as_deref_mut() else { return Ok(()) };
        let client_ip = client_ip(head, buffer, accepted.peer.ip(), is_trusted);
        let mut body_changed = false;
        let mut request = Request {
            head,
            buffer,
            edits: &mut plugged.edits,
            response: &mut plugged.response,
            method: &mut plugged.method,
            uri,
            body: plugged.body.as_mut(),
            body_changed: &mut body_changed,
            client_ip,
            host,
            scheme: if accepted.is_tls { "https" } else { "http" },
            port: accepted.local_port,
            path: buffer.get(plan.path.0..plan.path.1).unwrap_or_default(),
            request_id,
            captures: &plan.captures,
            route: &plan.route_label,
            service: &plan.service_label,
            identity: &mut plugged.identity,
            consumers: &plan.consumers,
            counters: &shared.counters,
            clock: &*shared.clock,
            id_seed: shared.config.seed,
        };
        chain.access(&mut request).map_err(refusal_of)
    }

    /// Lets the plugins change the head of a response.
    pub(super) fn run_response_plugins(&mut self, plan: &Plan, upstream_buffer: &[u8]) {
        let Some(chain) = plan.chain.as_ref().filter(|chain| chain.responds) else { return };
        let Connection { response_head, plugged, .. } = self;
        let Some(plugged) = plugged.as_deref_mut() else { return };
        let mut response =
            Response { head: response_head, buffer: upstream_buffer, edits: &mut plugged.response };
        chain.respond(&mut response, &plugged.identity);
    }

    /// The hash of what decides the request's target; `None` where the request has nothing of it.
    pub(super) fn hash_of(&mut self, plan: &Plan, hashing: &Hashing) -> Option<u64> {
        hashing.0.iter().find_map(|source| self.hash_of_source(plan, source))
    }

    fn hash_of_source(&mut self, plan: &Plan, source: &Source) -> Option<u64> {
        let Connection { head, buffer, plugged, accepted, .. } = &*self;
        let query = || {
            let target = head.target(buffer);
            let at = memchr::memchr(b'?', target).map_or(target.len(), |at| at + 1);
            String::from_utf8_lossy(&target[at..]).into_owned()
        };
        match source {
            Source::Consumer => {
                let identity = &plugged.as_deref()?.identity;
                let consumer = identity.consumer.as_ref().map(|consumer| consumer.id.as_bytes());
                let credential = identity.credential.as_deref().map(str::as_bytes);
                consumer.or(credential).map(|id| hash(&[id]))
            }
            Source::Ip => {
                let ip = client_ip(head, buffer, accepted.peer.ip(), self.is_trusted());
                Some(hash(&[ip.to_string().as_bytes()]))
            }
            Source::Header(name) => {
                let values = header_values(head, buffer, name);
                (!values.is_empty()).then(|| hash(&values))
            }
            Source::Path => Some(hash(&[buffer.get(plan.path.0..plan.path.1).unwrap_or_default()])),
            Source::QueryArg(name) => {
                let mut values = query::values(&query(), name);
                values.sort();
                let values: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
                (!values.is_empty()).then(|| hash(&values))
            }
            Source::UriCapture(name) => {
                let found = plan.captures.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| hash(&[value.as_bytes()]))
            }
            Source::Cookie { name, path } => {
                if let Some(value) = cookie(head, buffer, name) {
                    return Some(hash(&[value]));
                }
                // The client is tied to a target from now on.
                let mut value = String::new();
                self.worker.shared.ids.next(&mut value);
                let response = &mut self.plugged.get_or_insert_default().response;
                response.add("Set-Cookie", &format!("{name}={value}; Path={path}; HttpOnly"));
                Some(hash(&[value.as_bytes()]))
            }
        }
    }

    /// Takes the whole body out of the buffer, reading what has not come yet.
    pub(super) async fn load_body(&mut self, limit: usize) -> Result<(), Refusal> {
        let limits = self.worker.shared.config.limits;
        let head_len = self.head.len;
        let too_large = || Refusal::new(413).saying("Request size limit exceeded");
        let length = match self.head.content_length {
            Some(length) if !self.head.is_chunked => {
                let length = usize::try_from(length).map_err(|_| too_large())?;
                if length > limit {
                    return Err(too_large());
                }
                Some(length)
            }
            _ => None,
        };
        if self.head.expects_continue && self.buffer.len() == head_len {
            let deadline = Instant::now() + limits.send_timeout;
            let go_on = self.io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            if !matches!(self.timer.limit(deadline, go_on).await, Ok(Ok(()))) {
                return Err(Refusal::new(400));
            }
        }
        let mut raw = self.buffer.split_off(head_len);
        let mut decoder = Decoder::new();
        let mut body = Vec::new();
        loop {
            match length {
                Some(length) if raw.len() >= length => {
                    self.buffer.extend_from_slice(&raw[length..]);
                    raw.truncate(length);
                    body = raw;
                    break;
                }
                Some(_) => {}
                None => {
                    let mut used = 0;
                    while used < raw.len() && !decoder.is_done() {
                        let step = decoder.step(&raw[used..]).map_err(|_| Refusal::new(400))?;
                        body.extend_from_slice(&raw[used + step.data.0..used + step.data.1]);
                        used += step.used;
                    }
                    raw.drain(..used);
                    if body.len() > limit {
                        return Err(too_large());
                    }
                    if decoder.is_done() {
                        self.buffer.extend_from_slice(&raw);
                        break;
                    }
                }
            }
            let deadline = Instant::now() + limits.body_timeout;
            match self.timer.limit(deadline, read_some(&mut self.io, &mut raw, READ_BYTES)).await {
                Ok(Ok(count)) if count > 0 => {}
                Ok(_) => return Err(Refusal::new(400)),
                Err(_) => return Err(Refusal::new(408)),
            }
        }
        if let Some(plugged) = &mut self.plugged {
            plugged.body = Some(body);
        }
        Ok(())
    }
}

fn refusal_of(answer: Answer) -> Refusal {
    let mut refusal = Refusal::new(answer.status);
    match answer.body {
        AnswerBody::Error(message) => refusal.message = message.into(),
        AnswerBody::Raw(content_type, body) => refusal.body = Some((content_type, body)),
        AnswerBody::None => refusal.body = Some((String::new(), Vec::new())),
    }
    for (name, value) in answer.headers {
        refusal.extra_fields.push_str(&format!("{name}: {value}\r\n"));
    }
    refusal
}

/// Who the client is: the peer, or whom a trusted peer names.
fn client_ip(
    head: &super::head::Head,
    buffer: &[u8],
    peer: std::net::IpAddr,
    is_trusted: bool,
) -> std::net::IpAddr {
    if !is_trusted {
        return peer;
    }
    let kind = super::head::Kind::Forwarded(super::head::Forwarded::RealIp);
    let named = head.first(buffer, kind).and_then(|value| std::str::from_utf8(value).ok());
    named.and_then(|text| text.trim().parse().ok()).unwrap_or(peer)
}
