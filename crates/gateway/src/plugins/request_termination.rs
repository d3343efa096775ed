//! `request-termination`: an answer in the service's place.

use super::settings::Settings;
use super::{Answer, AnswerBody, Plugin, Request, query};
use serde_json::json;

pub(crate) struct Termination {
    status: u16,
    message: Option<String>,
    content_type: Option<String>,
    body: Option<String>,
    echoes: bool,
    trigger: Option<String>,
}

fn words(status: u16) -> &'static str {
    match status {
        200 => "Success",
        201 => "Created",
        202 => "Accepted",
        400 => "Bad request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not found",
        405 => "Method not allowed",
        500 => "An unexpected error occurred",
        502 => "Bad Gateway",
        503 => "Service unavailable",
        _ => "Request terminated",
    }
}

impl Termination {
    /// Interim statuses are refused: a client waits on for the answer behind them.
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Termination, String> {
        let status = settings.number("status_code").unwrap_or(503.0);
        if !(200.0..600.0).contains(&status) {
            return Err(format!("status_code: found {status}, expected a final status from 200 to 599"));
        }
        Ok(Termination {
            status: status as u16,
            message: settings.text("message"),
            content_type: settings.text("content_type"),
            body: settings.text("body"),
            echoes: settings.flag("echo", false),
            trigger: settings.text("trigger"),
        })
    }

    fn echo(&self, request: &Request<'_>) -> Vec<u8> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut headers = serde_json::Map::new();
        for field in &request.head.fields {
            let name = text(request.head.name(request.buffer, field)).to_ascii_lowercase();
            headers.insert(name, json!(text(request.head.value(request.buffer, field))));
        }
        let mut pairs = serde_json::Map::new();
        for (name, value) in query::parse(request.query()) {
            pairs.insert(name, value.map_or(json!(true), |value| json!(value)));
        }
        let echoed = json!({
            "message": self.message.clone().unwrap_or_else(|| words(self.status).to_owned()),
            "request": {
                "host": request.host,
                "port": request.port,
                "scheme": request.scheme,
                "method": request.method(),
                "path": text(request.path),
                "headers": headers,
                "query": pairs,
            },
            "matched_route": {"name": request.route},
            "matched_service": {"name": request.service},
        });
        echoed.to_string().into_bytes()
    }
}

impl Plugin for Termination {
    fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        if let Some(trigger) = &self.trigger
            && request.header(trigger).is_none()
            && query::values(request.query(), trigger).is_empty()
        {
            return Ok(());
        }
        let json = "application/json; charset=utf-8";
        let body = if self.echoes {
            AnswerBody::Raw(json.to_owned(), self.echo(request))
        } else if let Some(body) = &self.body {
            AnswerBody::Raw(
                self.content_type.clone().unwrap_or_else(|| json.to_owned()),
                body.clone().into_bytes(),
            )
        } else {
            let message = self.message.as_deref().unwrap_or(words(self.status));
            AnswerBody::Raw(json.to_owned(), json!({"message": message}).to_string().into_bytes())
        };
        Err(Answer { status: self.status, body, headers: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_final_statuses_end_a_request() {
        let of = |status: u16| Termination::new(&Settings(&json!({"status_code": status})));
        assert!(of(204).is_ok() && of(599).is_ok());
        assert_eq!(of(101).err().unwrap(), "status_code: found 101, expected a final status from 200 to 599");
    }
}
