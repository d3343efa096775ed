//! `query`: asks a server over its HTTP API and prints as the original does.

use std::fmt::Write as _;
use std::io::{Result, Write};
use std::time::Duration;

use gantry_scrape::HttpClient;
use gantry_scrape::config::HttpClientConfig;
use serde_json::Value;

/// Answers larger than this are not read.
const MAX_ANSWER_BYTES: usize = 512 << 20;
/// A server that says nothing for so long is given up.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// `query`, `query_range`, `series` or `labels` and the like, below `/api/v1/`.
    pub endpoint: String,
    /// Parameters with their values.
    pub parameters: Vec<(String, String)>,
}

/// How the answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Prometheus,
    Json,
}

fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte))
            }
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
        escaped
    })
}

/// The `data` of the answer.
fn ask(server: &str, question: &Question) -> std::result::Result<Value, String> {
    let server = server.trim_end_matches('/');
    let server = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let form: Vec<String> = question
        .parameters
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect();
    let (url, headers): (String, &[(&'static str, &'static str)]) = (
        format!("{server}/api/v1/{}", question.endpoint),
        &[("content-type", "application/x-www-form-urlencoded")],
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    let body = runtime.block_on(async {
        let is_get = question.endpoint.starts_with("label/");
        let asked = if is_get { format!("{url}?{}", form.join("&")) } else { url.clone() };
        let mut client = HttpClient::new(&asked, &HttpClientConfig::default())?;
        let answer = async {
            if is_get {
                let (_, body) = client.get_body(MAX_ANSWER_BYTES as u64).await?;
                return Ok(body);
            }
            let body = bytes::Bytes::from(form.join("&"));
            client.exchange(headers, &body, MAX_ANSWER_BYTES).await.map(http::Response::into_body)
        };
        match tokio::time::timeout(TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|error: gantry_scrape::HttpError| error.to_string()),
            Err(_) => Err(format!("{server} gives no answer within {TIMEOUT:?}")),
        }
    })?;
    let answer: Value = serde_json::from_slice(&body)
        .map_err(|error| format!("{server} does not answer as Prometheus does: {error}"))?;
    if answer["status"] == "success" {
        return Ok(answer["data"].clone());
    }
    let part = |name: &str| answer[name].as_str().unwrap_or("").to_owned();
    Err(format!("query error: {}: {}", part("errorType"), part("error")))
}

/// Asks and prints, and gives the exit code: 0, or 1 when there is no answer.
///
/// # Errors
/// When the answer cannot be written.
pub fn query(
    server: &str,
    question: &Question,
    format: Format,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8> {
    match ask(server, question) {
        Ok(data) => {
            let text = match format {
                Format::Json => format!("{}\n", json(&data)),
                Format::Prometheus => show(&data),
            };
            out.write_all(text.as_bytes())?;
            Ok(0)
        }
        Err(reason) => {
            writeln!(err, "{reason}")?;
            Ok(1)
        }
    }
}

/// The original prints the result of a query without what kind it is of.
fn json(data: &Value) -> &Value {
    data.get("result").unwrap_or(data)
}

fn metric(labels: &Value) -> String {
    let name = labels["__name__"].as_str().unwrap_or("");
    let mut pairs: Vec<(&str, &str)> = labels
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(label, _)| *label != "__name__")
        .map(|(label, value)| (label.as_str(), value.as_str().unwrap_or("")))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
    match (name.is_empty(), pairs.is_empty()) {
        (_, false) => format!("{name}{{{}}}", pairs.join(", ")),
        (true, true) => "{}".into(),
        (false, true) => name.into(),
    }
}

fn point(point: &Value) -> String {
    let value = match &point[1] {
        Value::String(text) => text.clone(),
        histogram => histogram.to_string(),
    };
    format!("{value} @[{}]", point[0])
}

fn show(data: &Value) -> String {
    let mut text = String::new();
    let result = &data["result"];
    match data["resultType"].as_str() {
        Some("vector") => {
            for series in result.as_array().into_iter().flatten() {
                let value = series.get("value").or_else(|| series.get("histogram")).unwrap_or(&Value::Null);
                let _ = writeln!(text, "{} => {}", metric(&series["metric"]), point(value));
            }
        }
        Some("matrix") => {
            for series in result.as_array().into_iter().flatten() {
                let _ = writeln!(text, "{} =>", metric(&series["metric"]));
                for name in ["values", "histograms"] {
                    for value in series[name].as_array().into_iter().flatten() {
                        let _ = writeln!(text, "{}", point(value));
                    }
                }
            }
        }
        Some("scalar") => {
            let _ = writeln!(text, "scalar: {}", point(result));
        }
        Some(_) => {
            let _ = writeln!(text, "{}", result[1].as_str().unwrap_or(""));
        }
        None => {
            for entry in data.as_array().into_iter().flatten() {
                match entry {
                    Value::String(value) => {
                        let _ = writeln!(text, "{value}");
                    }
                    labels => {
                        let _ = writeln!(text, "{}", all_labels(labels));
                    }
                }
            }
        }
    }
    text
}

/// A series with its name among the labels.
fn all_labels(labels: &Value) -> String {
    let mut pairs: Vec<(&str, &str)> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(label, value)| (label.as_str(), value.as_str().unwrap_or("")))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_printed_as_the_original_does() {
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"job": "a", "__name__": "up", "instance": "b"}, "value": [1.5, "1"]},
            {"metric": {}, "value": [2, "NaN"]},
        ]});
        assert_eq!(show(&vector), "up{instance=\"b\", job=\"a\"} => 1 @[1.5]\n{} => NaN @[2]\n");
        let matrix = json!({"resultType": "matrix", "result": [{"metric": {"__name__": "up"}, "values": [[1, "1"], [2, "0"]]}]});
        assert_eq!(show(&matrix), "up =>\n1 @[1]\n0 @[2]\n");
        assert_eq!(show(&json!({"resultType": "scalar", "result": [3, "7"]})), "scalar: 7 @[3]\n");
        assert_eq!(show(&json!(["a", "b"])), "a\nb\n");
        assert_eq!(show(&json!([{"__name__": "up", "a": "b"}])), "{__name__=\"up\", a=\"b\"}\n");
    }
}
