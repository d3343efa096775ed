//! The head that a target receives: request line, identity of the client, then the client's own fields.

use super::head::{Forwarded, Head, Kind};
use crate::VIA;
use crate::plugins::Edits;
use std::fmt::Write as _;
use std::net::IpAddr;

/// What is known about a request besides its bytes.
pub(crate) struct Origin<'a> {
    pub(crate) peer: IpAddr,
    pub(crate) is_trusted: bool,
    pub(crate) scheme: &'a str,
    pub(crate) local_port: u16,
    pub(crate) request_id: &'a str,
    /// The client's host, or the authority of an absolute target.
    pub(crate) host: &'a str,
    /// The path as it was sent, without the query.
    pub(crate) path: &'a [u8],
    /// The matched prefix, when it is stripped.
    pub(crate) prefix: Option<&'a [u8]>,
    pub(crate) is_upgrade: bool,
    /// Leaves the client's fields as they are and adds none: a Service address is not a proxy to its users.
    pub(crate) is_transparent: bool,
}

/// What plugins changed.
pub(crate) struct Changes<'a> {
    pub(crate) edits: &'a Edits,
    pub(crate) method: Option<&'a str>,
    /// The body was read as a whole and is sent so.
    pub(crate) body_length: Option<usize>,
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// An address without an allocation.
struct IpText {
    text: [u8; 46],
    len: usize,
}

impl std::fmt::Write for IpText {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        let end = self.len + part.len();
        self.text.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl IpText {
    fn of(ip: IpAddr) -> IpText {
        let mut text = IpText { text: [0; 46], len: 0 };
        // An address never exceeds 45 characters.
        let _ = write!(text, "{ip}");
        text
    }

    fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }
}

/// Appends the head for the target; `uri` is the target of the new request line, `host` the `Host` to send.
pub(crate) fn write_head(
    head: &Head,
    buffer: &[u8],
    uri: &[u8],
    host: &[u8],
    origin: &Origin<'_>,
    changes: Option<&Changes<'_>>,
    out: &mut Vec<u8>,
) {
    match changes.and_then(|changes| changes.method) {
        Some(method) => out.extend_from_slice(method.as_bytes()),
        None => out.extend_from_slice(head.method(buffer)),
    }
    out.push(b' ');
    out.extend_from_slice(uri);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    line(out, "Host", host);
    if !origin.is_transparent {
        write_identity(head, buffer, origin, out);
    }
    let is_upgrade = origin.is_upgrade;
    let keeps_identity = origin.is_transparent;
    let body_length = changes.and_then(|changes| changes.body_length);
    let keep = |kind| match kind {
        Kind::ContentLength => body_length.is_none(),
        Kind::Other | Kind::Accept | Kind::ContentType => true,
        Kind::Upgrade => is_upgrade,
        Kind::Forwarded(_) | Kind::RequestId => keeps_identity,
        Kind::Connection | Kind::Expect | Kind::HopByHop | Kind::Host | Kind::TransferEncoding => false,
    };
    match changes {
        None => head.copy_fields(buffer, out, keep),
        Some(changes) => {
            if changes.edits.removes_any() {
                head.copy_fields_without(buffer, out, keep, |name| changes.edits.removes(name));
            } else {
                head.copy_fields(buffer, out, keep);
            }
            changes.edits.write_except("host", out);
        }
    }
    match body_length {
        Some(length) => out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes()),
        None if head.is_chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        None => {}
    }
    if is_upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn write_identity(head: &Head, buffer: &[u8], origin: &Origin<'_>, out: &mut Vec<u8>) {
    let peer = IpText::of(origin.peer);
    let peer = peer.as_bytes();
    let trusted =
        |kind: Forwarded| origin.is_trusted.then(|| head.first(buffer, Kind::Forwarded(kind))).flatten();
    let bare_host = origin.host.rsplit_once(':').map_or(origin.host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { origin.host }
    });
    out.extend_from_slice(b"X-Forwarded-For: ");
    for field in head.fields.iter().filter(|field| field.kind == Kind::Forwarded(Forwarded::For)) {
        out.extend_from_slice(head.value(buffer, field));
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(peer);
    out.extend_from_slice(b"\r\n");
    line(out, "X-Forwarded-Proto", trusted(Forwarded::Proto).unwrap_or(origin.scheme.as_bytes()));
    line(out, "X-Forwarded-Host", trusted(Forwarded::Host).unwrap_or(bare_host.as_bytes()));
    match trusted(Forwarded::Port) {
        Some(port) => line(out, "X-Forwarded-Port", port),
        None => {
            let mut digits = [0u8; 5];
            line(out, "X-Forwarded-Port", decimal(origin.local_port.into(), &mut digits));
        }
    }
    line(out, "X-Forwarded-Path", trusted(Forwarded::Path).unwrap_or(origin.path));
    if let Some(prefix) = trusted(Forwarded::Prefix).or(origin.prefix) {
        line(out, "X-Forwarded-Prefix", prefix);
    }
    line(out, "X-Real-IP", trusted(Forwarded::RealIp).unwrap_or(peer));
    line(out, "Via", VIA.as_bytes());
    line(out, "X-Kong-Request-Id", origin.request_id.as_bytes());
}

/// `number` in decimal, right-aligned in `room`; digits that do not fit are lost.
pub(crate) fn decimal(number: u64, room: &mut [u8]) -> &[u8] {
    let mut rest = number;
    let mut start = room.len();
    while start > 0 {
        start -= 1;
        room[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    &room[start..]
}

#[cfg(test)]
mod tests {
    use super::super::head::HeadLimits;
    use super::*;

    fn forwarded(text: &str, is_trusted: bool, is_transparent: bool) -> String {
        let mut head = Head::default();
        assert_eq!(head.parse_request(text.as_bytes(), &HeadLimits::default()), Ok(true));
        let origin = Origin {
            peer: "10.0.0.9".parse().unwrap(),
            is_trusted,
            scheme: "http",
            local_port: 8000,
            request_id: "abc",
            host: "shop.org:8000",
            path: b"/a",
            prefix: None,
            is_upgrade: false,
            is_transparent,
        };
        let mut out = Vec::new();
        write_head(&head, text.as_bytes(), b"/b?c", b"10.0.0.1:80", &origin, None, &mut out);
        String::from_utf8(out).unwrap()
    }

    const REQUEST: &str = "GET /a?c HTTP/1.1\r\nHost: shop.org:8000\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nAccept: */*\r\n\r\n";

    #[test]
    fn the_target_learns_who_asked() {
        let head = forwarded(REQUEST, false, false);
        assert!(head.starts_with("GET /b?c HTTP/1.1\r\nHost: 10.0.0.1:80\r\n"), "{head}");
        for line in [
            "X-Forwarded-For: 1.2.3.4, 10.0.0.9\r\n",
            "X-Forwarded-Proto: http\r\n",
            "X-Forwarded-Host: shop.org\r\n",
            "X-Forwarded-Port: 8000\r\n",
            "X-Forwarded-Path: /a\r\n",
            "X-Real-IP: 10.0.0.9\r\n",
            "X-Kong-Request-Id: abc\r\n",
            "Accept: */*\r\n\r\n",
        ] {
            assert!(head.contains(line), "{line} in {head}");
        }
        assert!(!head.contains("Expect") && !head.contains("Connection"), "{head}");
        assert!(forwarded(REQUEST, true, false).contains("X-Forwarded-Proto: https\r\n"));
    }

    #[test]
    fn plugins_do_not_change_where_a_body_ends() {
        let text = "POST /a HTTP/1.1\r\nHost: shop.org\r\nContent-Length: 4\r\nX-Old: 1\r\n\r\n";
        let mut head = Head::default();
        assert_eq!(head.parse_request(text.as_bytes(), &HeadLimits::default()), Ok(true));
        let mut edits = Edits::default();
        for name in
            ["Content-Length", "Transfer-Encoding", "Connection", "TE", "Trailer", "Upgrade", "Keep-Alive"]
        {
            edits.set(name, "chunked");
        }
        edits.add("Transfer-Encoding ", "chunked");
        edits.add("X-A: b\r\nContent-Length", "0");
        edits.set("X-Old", "2");
        let changes = Changes { edits: &edits, method: None, body_length: None };
        let origin = Origin {
            peer: "10.0.0.9".parse().unwrap(),
            is_trusted: false,
            scheme: "http",
            local_port: 8000,
            request_id: "abc",
            host: "shop.org",
            path: b"/a",
            prefix: None,
            is_upgrade: false,
            is_transparent: true,
        };
        let mut out = Vec::new();
        write_head(&head, text.as_bytes(), b"/a", b"a", &origin, Some(&changes), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nX-Old: 2\r\n\r\n"
        );
    }

    #[test]
    fn a_service_address_adds_nothing() {
        let head = forwarded(REQUEST, false, true);
        assert!(
            head.contains("X-Forwarded-For: 1.2.3.4\r\n") && !head.contains("Via") && !head.contains("Kong"),
            "{head}"
        );
    }
}
