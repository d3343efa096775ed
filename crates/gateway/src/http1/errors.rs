//! Answers of our own, in Kong's words and in the type the client asked for.

use super::head::{Head, Kind};
use crate::SERVER;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Json,
    Html,
    Xml,
    Plain,
    Grpc,
}

impl Body {
    /// The client's `Accept`, otherwise its `Content-Type`, otherwise JSON.
    fn chosen_by(head: &Head, buffer: &[u8]) -> Body {
        let wanted = head.first(buffer, Kind::Accept).or_else(|| head.first(buffer, Kind::ContentType));
        let Some(wanted) = wanted else { return Body::Json };
        if wanted.starts_with(b"application/grpc") {
            return Body::Grpc;
        }
        let text = String::from_utf8_lossy(wanted).to_ascii_lowercase();
        let first_known = text.split(',').find_map(|range| match range.split(';').next()?.trim() {
            "application/json" | "*/*" | "application/*" => Some(Body::Json),
            "text/html" => Some(Body::Html),
            "application/xml" | "text/xml" => Some(Body::Xml),
            "text/plain" | "text/*" => Some(Body::Plain),
            _ => None,
        });
        first_known.unwrap_or(Body::Json)
    }

    fn content_type(self) -> &'static str {
        match self {
            Body::Json => "application/json; charset=utf-8",
            Body::Html => "text/html; charset=utf-8",
            Body::Xml => "application/xml; charset=utf-8",
            Body::Plain => "text/plain; charset=utf-8",
            Body::Grpc => "application/grpc",
        }
    }

    fn render(self, message: &str, request_id: &str) -> String {
        match self {
            Body::Json => format!("{{\n  \"message\":\"{message}\",\n  \"request_id\":\"{request_id}\"\n}}"),
            Body::Html => format!(
                "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  <body>\n    <h1>Error</h1>\n    <p>{message}.</p>\n    <p>request_id: {request_id}</p>\n  </body>\n</html>\n"
            ),
            Body::Xml => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>{message}</message>\n  <requestid>{request_id}</requestid>\n</error>\n"
            ),
            Body::Plain => format!("{message}\nrequest_id: {request_id}\n"),
            Body::Grpc => String::new(),
        }
    }
}

/// The standard words for a status.
pub(crate) fn message_of(status: u16) -> &'static str {
    match status {
        400 => "Bad request",
        404 => "Not found",
        405 => "Method not allowed",
        408 => "Request timeout",
        411 => "Length required",
        413 => "Payload too large",
        414 => "URI too long",
        417 => "Expectation failed",
        494 => "Request header or cookie too large",
        500 => "An unexpected error occurred",
        501 => "Not implemented",
        502 => "An invalid response was received from the upstream server",
        503 => "The upstream server is currently unavailable",
        504 => "The upstream server is timing out",
        505 => "HTTP version not supported",
        _ => "An unexpected error occurred",
    }
}

fn reason_of(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Not Allowed",
        411 => "Length Required",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        408 => "Request Time-out",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        494 => "Request Header Or Cookie Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

/// An answer of ours, to be written out.
pub(crate) struct OwnAnswer<'a> {
    pub(crate) status: u16,
    pub(crate) message: &'a str,
    /// Type and bytes in place of the message; an empty type says nothing of it.
    pub(crate) body: Option<(&'a str, &'a [u8])>,
    /// Whole lines.
    pub(crate) extra_fields: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) latency_ms: u64,
    pub(crate) is_head: bool,
    pub(crate) close: bool,
}

impl OwnAnswer<'_> {
    /// Appends the answer to `out`; `head` and `buffer` are the request's, as far as it was read.
    pub(crate) fn write(&self, head: &Head, buffer: &[u8], out: &mut Vec<u8>) {
        let kind = Body::chosen_by(head, buffer);
        let rendered =
            if self.body.is_some() { String::new() } else { kind.render(self.message, self.request_id) };
        let (content_type, body) = self.body.unwrap_or((kind.content_type(), rendered.as_bytes()));
        let status = self.status;
        // RFC 9110, 6.4.1: no client reads a body here, it would take the bytes for the next response.
        let has_body = !matches!(status, 0..200 | 204 | 304);
        let content_type = if content_type.is_empty() || !has_body {
            String::new()
        } else {
            format!("Content-Type: {content_type}\r\n")
        };
        let length = if has_body { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
        // 494 is nginx's own and leaves the process as 400.
        let sent = if status == 494 { 400 } else { status };
        let date = httpdate::fmt_http_date(std::time::SystemTime::now());
        let connection = if self.close { "close" } else { "keep-alive" };
        let head_text = format!(
            "HTTP/1.1 {sent} {}\r\nDate: {date}\r\n{content_type}Connection: {connection}\r\n{}{length}X-Kong-Response-Latency: {}\r\nServer: {SERVER}\r\nX-Kong-Request-Id: {}\r\n\r\n",
            reason_of(status),
            self.extra_fields,
            self.latency_ms,
            self.request_id,
        );
        out.extend_from_slice(head_text.as_bytes());
        if has_body && !self.is_head {
            out.extend_from_slice(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::HeadLimits;
    use super::*;

    fn answer(accept: &str) -> String {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{accept}\r\n");
        let mut head = Head::default();
        assert_eq!(head.parse_request(text.as_bytes(), &HeadLimits::default()), Ok(true));
        let mut out = Vec::new();
        let answer = OwnAnswer {
            status: 404,
            message: "no Route matched with those values",
            body: None,
            extra_fields: "",
            request_id: "abc",
            latency_ms: 0,
            is_head: false,
            close: false,
        };
        answer.write(&head, text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_without_a_body_says_so() {
        for (status, has_body) in [(200, true), (204, false), (304, false), (503, true)] {
            let mut out = Vec::new();
            let answer = OwnAnswer {
                status,
                message: "done",
                body: Some(("text/plain", b"HTTP/1.1 200 OK")),
                extra_fields: "",
                request_id: "abc",
                latency_ms: 0,
                is_head: false,
                close: false,
            };
            answer.write(&Head::default(), b"", &mut out);
            let out = String::from_utf8(out).unwrap();
            assert_eq!(out.contains("Content-Length: 15\r\n"), has_body, "{out}");
            assert_eq!(out.ends_with("\r\n\r\nHTTP/1.1 200 OK"), has_body, "{out}");
            assert_eq!(out.ends_with("\r\n\r\n"), !has_body, "{out}");
        }
    }

    #[test]
    fn the_body_comes_in_the_type_asked_for() {
        let json = answer("");
        assert!(json.starts_with("HTTP/1.1 404 Not Found\r\n"), "{json}");
        let body = json.split("\r\n\r\n").nth(1).unwrap();
        let value: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(value["message"], "no Route matched with those values");
        assert_eq!(value["request_id"], "abc");
        assert!(answer("Accept: text/html,*/*\r\n").contains("<h1>Error</h1>"));
        assert!(
            answer("Accept: text/plain\r\n")
                .contains("\r\n\r\nno Route matched with those values\nrequest_id: abc\n")
        );
        assert!(answer("Accept: image/png, application/xml\r\n").contains("<requestid>abc</requestid>"));
    }
}
