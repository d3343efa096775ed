//! The head that a client receives, and how the body behind it is framed.

use super::body::{Incoming, Outgoing};
use super::forward::decimal;
use super::head::{Head, Kind};
use crate::VIA;
use crate::plugins::Edits;

/// A request's id, held apart from the connection it belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestId([u8; 32]);

impl RequestId {
    /// Ids are 32 characters; anything else is cut or filled up.
    pub(super) fn of(text: &str) -> RequestId {
        let mut id = [b'0'; 32];
        for (to, from) in id.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        RequestId(id)
    }
}

/// What of the request decides about the response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) is_head: bool,
    pub(super) is_http10: bool,
    pub(super) keeps_alive: bool,
    pub(super) wanted_upgrade: bool,
    pub(super) is_transparent: bool,
    pub(super) request_id: RequestId,
    pub(super) proxy_latency_ms: u64,
    pub(super) upstream_latency_ms: u64,
}

/// How to go on behind the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    pub(super) keeps_client: bool,
    pub(super) keeps_upstream: bool,
    pub(super) is_tunnel: bool,
}

pub(super) fn framing(head: &Head, asked: &Asked) -> Framing {
    let is_tunnel = head.status == 101 && asked.wanted_upgrade;
    let has_no_body = asked.is_head || matches!(head.status, 100..200 | 204 | 304);
    let incoming = if has_no_body {
        Incoming::None
    } else if head.is_chunked {
        Incoming::Chunked
    } else if let Some(length) = head.content_length {
        Incoming::Length(length)
    } else {
        Incoming::UntilClose
    };
    let of_unknown_length = matches!(incoming, Incoming::Chunked | Incoming::UntilClose);
    let outgoing = if of_unknown_length && !asked.is_http10 { Outgoing::Chunked } else { Outgoing::Plain };
    let upstream_willing = if head.is_http10 { head.wants_keep_alive } else { !head.wants_close };
    Framing {
        incoming,
        outgoing,
        keeps_client: asked.keeps_alive && !is_tunnel && !(of_unknown_length && asked.is_http10),
        keeps_upstream: upstream_willing && !is_tunnel && incoming != Incoming::UntilClose,
        is_tunnel,
    }
}

/// Appends the head for the client.
pub(super) fn write_head(
    head: &Head,
    buffer: &[u8],
    asked: &Asked,
    framing: &Framing,
    edits: Option<&Edits>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.target(buffer));
    if head.target(buffer).len() == 3 {
        out.push(b' ');
    }
    out.extend_from_slice(b"\r\n");
    let is_tunnel = framing.is_tunnel;
    let keep = |kind| match kind {
        Kind::Connection | Kind::HopByHop | Kind::TransferEncoding => false,
        Kind::Upgrade => is_tunnel,
        _ => true,
    };
    match edits.filter(|edits| !edits.is_empty()) {
        None => head.copy_fields(buffer, out, keep),
        Some(edits) => {
            head.copy_fields_without(buffer, out, keep, |name| edits.removes(name));
            edits.write(out);
        }
    }
    let is_chunked = framing.outgoing == Outgoing::Chunked;
    out.extend_from_slice(match (is_tunnel, framing.keeps_client, is_chunked) {
        (true, _, _) => &b"Connection: Upgrade\r\n"[..],
        (_, true, true) => b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
        (_, true, false) => b"Connection: keep-alive\r\n",
        (_, false, true) => b"Connection: close\r\nTransfer-Encoding: chunked\r\n",
        (_, false, false) => b"Connection: close\r\n",
    });
    if !asked.is_transparent {
        let mut digits = [0u8; 20];
        out.extend_from_slice(b"X-Kong-Upstream-Latency: ");
        out.extend_from_slice(decimal(asked.upstream_latency_ms, &mut digits));
        out.extend_from_slice(b"\r\nX-Kong-Proxy-Latency: ");
        out.extend_from_slice(decimal(asked.proxy_latency_ms, &mut digits));
        out.extend_from_slice(b"\r\nVia: ");
        out.extend_from_slice(VIA.as_bytes());
        out.extend_from_slice(b"\r\nX-Kong-Request-Id: ");
        out.extend_from_slice(&asked.request_id.0);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::head::HeadLimits;
    use super::*;

    fn asked() -> Asked {
        Asked {
            is_head: false,
            is_http10: false,
            keeps_alive: true,
            wanted_upgrade: false,
            is_transparent: false,
            request_id: RequestId::of("abc"),
            proxy_latency_ms: 1,
            upstream_latency_ms: 25,
        }
    }

    fn parsed(text: &str) -> Head {
        let mut head = Head::default();
        assert_eq!(head.parse_response(text.as_bytes(), &HeadLimits::default()), Ok(true));
        head
    }

    #[test]
    fn framing_follows_the_status_the_method_and_the_versions() {
        let of = |text: &str, asked: Asked| framing(&parsed(text), &asked);
        let length = of("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", asked());
        assert_eq!((length.incoming, length.outgoing), (Incoming::Length(4), Outgoing::Plain));
        assert!(length.keeps_client && length.keeps_upstream);
        let until_close = of("HTTP/1.1 200 OK\r\n\r\n", asked());
        assert_eq!((until_close.incoming, until_close.outgoing), (Incoming::UntilClose, Outgoing::Chunked));
        assert!(until_close.keeps_client && !until_close.keeps_upstream);
        let old_client = Asked { is_http10: true, ..asked() };
        let plain = of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", old_client);
        assert_eq!((plain.outgoing, plain.keeps_client), (Outgoing::Plain, false));
        let head = Asked { is_head: true, ..asked() };
        assert_eq!(of("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", head).incoming, Incoming::None);
        assert_eq!(
            of("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", asked()).incoming,
            Incoming::None
        );
        assert!(!of("HTTP/1.1 101 Switching\r\n\r\n", asked()).is_tunnel);
    }

    #[test]
    fn the_client_learns_where_the_time_went() {
        let text = "HTTP/1.1 200 OK\r\nServer: shop\r\nKeep-Alive: timeout=5\r\nContent-Length: 4\r\n\r\n";
        let head = parsed(text);
        let mut out = Vec::new();
        write_head(&head, text.as_bytes(), &asked(), &framing(&head, &asked()), None, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert_eq!(
            out,
            format!(
                "HTTP/1.1 200 OK\r\nServer: shop\r\nContent-Length: 4\r\nConnection: keep-alive\r\nX-Kong-Upstream-Latency: 25\r\nX-Kong-Proxy-Latency: 1\r\nVia: {VIA}\r\nX-Kong-Request-Id: abc{}\r\n\r\n",
                "0".repeat(29)
            )
        );
    }
}
