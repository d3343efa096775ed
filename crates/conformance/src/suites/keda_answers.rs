//! What scalers read in an answer: the cases' bodies served on loopback, and the scaler asked for its value.

use std::net::SocketAddr;
use std::sync::Arc;

use gantry_operator::SystemClock;
use gantry_scalers::{Scaler, ScalerError, Settings, Sources, TriggerConfig};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// More than the head of any request that a scaler sends.
const MAX_HEAD: usize = 16 * 1024;

/// The outcome of a case that gives an answer; `None` for other cases.
pub(super) async fn outcome(case: &Value) -> Option<Result<(), String>> {
    let (kind, body) = match (case["bodyStr"].as_str(), case["input"].as_str()) {
        (Some(body), _) => ("prometheus", body),
        (_, Some(body)) => ("metrics-api", body),
        _ => return None,
    };
    Some(read_back(case, kind, body).await)
}

async fn read_back(case: &Value, kind: &str, body: &str) -> Result<(), String> {
    let status = match case["responseStatus"]["$const"].as_str() {
        None | Some("http.StatusOK") => 200,
        Some("http.StatusBadRequest") => 400,
        Some(other) => return Err(format!("responseStatus {other} is not known")),
    };
    let listener =
        TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.map_err(|e| e.to_string())?;
    let address = format!("http://{}", listener.local_addr().map_err(|error| error.to_string())?);
    let answer =
        format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that went away has nothing to be told.
            let _ = serve(stream, &answer).await;
        }
    });
    let read = match scaler(case, kind, &address) {
        Ok(scaler) => scaler.read("").await.map(|reading| reading.value).map_err(|error| error.to_string()),
        // Not what the case is about, whether or not it wants an error.
        Err(error) => {
            server.abort();
            return Err(format!("the trigger was refused: {error}"));
        }
    };
    server.abort();
    let wants_error = ["isError", "expectErr"].iter().any(|name| case[*name] == true);
    match (read, wants_error) {
        (Err(_), true) => Ok(()),
        (Err(error), false) => Err(error),
        (Ok(found), true) => Err(format!("read {found}, an error was wanted")),
        (Ok(found), false) => {
            let wanted = case["expectedValue"].as_f64().or(case["expectVal"].as_f64());
            let wanted = wanted.ok_or("the case has no value to expect")?;
            if found == wanted { Ok(()) } else { Err(format!("read {found}, wanted {wanted}")) }
        }
    }
}

async fn serve(mut stream: TcpStream, answer: &str) -> std::io::Result<()> {
    let (mut head, mut part) = (Vec::new(), [0; 1024]);
    while head.len() < MAX_HEAD && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part).await? {
            0 => return Ok(()),
            count => head.extend_from_slice(&part[..count]),
        }
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn scaler(case: &Value, kind: &str, address: &str) -> Result<Arc<dyn Scaler>, ScalerError> {
    let flag = |name: &str| case[name].as_bool().unwrap_or_default().to_string();
    let text = |name: &str| case[name].as_str().unwrap_or_default().to_owned();
    let metadata = match kind {
        "prometheus" => vec![
            ("serverAddress", address.to_owned()),
            ("query", "up".to_owned()),
            ("threshold", "100".to_owned()),
            ("ignoreNullValues", flag("ignoreNullValues")),
            ("unsafeSsl", flag("unsafeSsl")),
        ],
        _ => vec![
            ("url", address.to_owned()),
            ("format", text("format")),
            ("valueLocation", text("key")),
            ("targetValue", "1".to_owned()),
        ],
    };
    let metadata = metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let config = TriggerConfig { metadata, ..TriggerConfig::new(kind) };
    let sources = Sources::new(Settings::new(Arc::new(SystemClock::new())));
    sources.scaler(&config)
}
