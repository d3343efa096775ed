//! Logs for `kubectl logs`: from the query of the request to a stream of bytes.

use std::io;

use bytes::Bytes;
use futures::Stream;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::logs::{self, LogOptions, Reader};
use crate::node::Node;
use crate::runtime::ContainerKey;

/// Why there is nothing to read or run. [`LogError::status`] is the HTTP status of the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("pod {pod} is not on this node")]
    NoPod { pod: String },
    #[error("container {container} is not valid for pod {pod} (it has {has})")]
    NoContainer { container: String, pod: String, has: String },
    #[error("previous terminated container \"{container}\" in pod \"{pod}\" not found")]
    NoPrevious { container: String, pod: String },
    #[error("container \"{container}\" in pod \"{pod}\" is waiting to start")]
    NotStarted { container: String, pod: String },
    #[error("container {container} of pod {pod} is not running")]
    NotRunning { container: String, pod: String },
    #[error("invalid log option {name}={value:?}")]
    Option { name: String, value: String },
    #[error("cannot read the log: {0}")]
    Read(String),
    #[error("{0}")]
    Exec(String),
}

impl LogError {
    pub fn status(&self) -> u16 {
        match self {
            LogError::NoPod { .. } => 404,
            LogError::Read(_) | LogError::Exec(_) => 500,
            _ => 400,
        }
    }
}

/// Log options and the container's name from the query string of `…/pods/NAME/log`. `now` resolves `sinceSeconds`.
pub fn log_query(query: &str, now: Timestamp) -> Result<(Option<String>, LogOptions), LogError> {
    let mut options = LogOptions::default();
    let mut container = None;
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value);
        let wrong = || LogError::Option { name: name.into(), value: value.clone() };
        let flag = || match value.as_str() {
            "" | "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
            "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
            _ => Err(wrong()),
        };
        let number = || value.parse::<u64>().map_err(|_| wrong());
        match name {
            "container" => container = Some(value.clone()).filter(|c| !c.is_empty()),
            "follow" => options.follow = flag()?,
            "previous" => options.previous = flag()?,
            "timestamps" => options.timestamps = flag()?,
            "tailLines" => options.tail_lines = Some(number()?),
            "limitBytes" => options.limit_bytes = Some(number()?),
            "sinceSeconds" => {
                let seconds = i64::try_from(number()?).map_err(|_| wrong())?;
                options.since = now.checked_sub(SignedDuration::from_secs(seconds)).ok();
            }
            "sinceTime" => options.since = Some(value.parse().map_err(|_| wrong())?),
            "stream" => {
                options.stream = match value.as_str() {
                    "All" | "" => None,
                    "Stdout" => Some(logs::Stream::Stdout),
                    "Stderr" => Some(logs::Stream::Stderr),
                    _ => return Err(wrong()),
                }
            }
            _ => {}
        }
    }
    Ok((container, options))
}

pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (byte, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                at += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                at += 1;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

const CHUNK: usize = 64 * 1024;

struct Follow {
    reader: Reader,
    /// `None` when the log is complete or nobody follows.
    growth: Option<watch::Receiver<u64>>,
}

impl Node {
    /// A container's log. With `follow` the stream ends when the container has ended.
    pub fn logs(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        options: LogOptions,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, LogError> {
        let (key, dir) = self.container(namespace, pod, container)?;
        let attempts = logs::attempts(&dir);
        let attempt = if options.previous {
            attempts.iter().rev().find(|a| **a < key.attempt).copied()
        } else {
            attempts.last().copied()
        };
        let Some(attempt) = attempt else {
            let (container, pod) = (key.container.clone(), pod.to_string());
            return Err(match options.previous {
                true => LogError::NoPrevious { container, pod },
                false => LogError::NotStarted { container, pod },
            });
        };
        let key = ContainerKey { attempt, ..key };
        let growth = options.follow.then(|| self.inner.shared.runtime.log_growth(&key)).flatten();
        let path = logs::path(&dir, attempt);
        let reader = Reader::open(&path, options).map_err(|e| LogError::Read(e.to_string()))?;
        Ok(futures::stream::unfold(Some(Follow { reader, growth }), next_chunk))
    }
}

async fn next_chunk(state: Option<Follow>) -> Option<(io::Result<Bytes>, Option<Follow>)> {
    let mut follow = state?;
    loop {
        if let Some(growth) = &mut follow.growth {
            growth.mark_unchanged();
        }
        match follow.reader.read(CHUNK) {
            Err(error) => return Some((Err(error), None)),
            Ok(None) => return None,
            Ok(Some(text)) if !text.is_empty() => return Some((Ok(Bytes::from(text)), Some(follow))),
            Ok(Some(_)) => {}
        }
        let growth = follow.growth.as_mut()?;
        if growth.changed().await.is_err() {
            // The last lines were written before the sender went away.
            follow.growth = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_kubectl() {
        let now = Timestamp::from_second(1000).unwrap();
        let query = "container=web&follow=true&tailLines=5&timestamps=true&sinceSeconds=10&limitBytes=9&previous=true&x=1";
        let (container, options) = log_query(query, now).unwrap();
        assert_eq!(container.as_deref(), Some("web"));
        let expected = LogOptions {
            follow: true,
            previous: true,
            timestamps: true,
            tail_lines: Some(5),
            limit_bytes: Some(9),
            since: Some(Timestamp::from_second(990).unwrap()),
            stream: None,
        };
        assert_eq!(options, expected);
        let (_, options) = log_query("sinceTime=1970-01-01T00%3A00%3A07Z", now).unwrap();
        assert_eq!(options.since, Some(Timestamp::from_second(7).unwrap()));
        for bad in ["tailLines=-1", "follow=maybe", "sinceTime=x", "stream=x"] {
            assert_eq!(log_query(bad, now).unwrap_err().status(), 400, "{bad}");
        }
    }
}
