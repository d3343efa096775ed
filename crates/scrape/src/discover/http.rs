//! Targets that a server lists in JSON, asked again at intervals.

use std::time::Duration;

use futures::future::BoxFuture;
use gantry_prom_model::Labels;
use tokio_util::sync::CancellationToken;

use super::{ADDRESS_LABEL, Discoverer, GroupSink, TargetGroup};
use crate::config::{HttpSdConfig, StaticConfig};
use crate::http_client::HttpClient;

/// Larger answers are refused.
const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024;
/// An answer that takes longer has failed.
const MAX_WAIT: Duration = Duration::from_secs(60);
const URL_LABEL: &str = "__meta_url";

/// Asks a server of `http_sd_configs`.
#[derive(Debug)]
pub struct HttpDiscoverer {
    url: String,
    refresh: Duration,
    client: HttpClient,
    /// Groups sent last.
    sent: usize,
}

impl HttpDiscoverer {
    /// # Errors
    /// When the URL, a header, certificate or file of the configuration cannot be used.
    pub fn new(config: &HttpSdConfig) -> Result<HttpDiscoverer, String> {
        Ok(HttpDiscoverer {
            url: config.url.clone(),
            refresh: config.refresh_interval.duration().max(Duration::from_secs(1)),
            client: HttpClient::new(&config.url, &config.http)?,
            sent: 0,
        })
    }

    async fn ask(&mut self) -> Result<Vec<TargetGroup>, String> {
        let asked = tokio::time::timeout(MAX_WAIT.min(self.refresh), self.client.get_body(MAX_BODY_BYTES));
        let (content_type, body) =
            asked.await.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
        let mut changed = parse(&self.url, &content_type, &body)?;
        let listed = changed.len();
        for index in listed..std::mem::replace(&mut self.sent, listed) {
            changed.push(TargetGroup { source: source(&self.url, index), ..TargetGroup::default() });
        }
        Ok(changed)
    }
}

fn source(url: &str, index: usize) -> String {
    format!("{url}:{index}")
}

fn parse(url: &str, content_type: &str, body: &[u8]) -> Result<Vec<TargetGroup>, String> {
    let media_type = content_type.split(';').next().unwrap_or("").trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(format!("unsupported content type {content_type:?}, expected application/json"));
    }
    let listed: Vec<StaticConfig> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    Ok(listed
        .iter()
        .enumerate()
        .map(|(index, group)| {
            let mut labels = Labels::from_pairs(&group.labels).to_builder();
            labels.set(URL_LABEL, url);
            let targets = group.targets.iter();
            TargetGroup {
                source: source(url, index),
                labels: labels.build(),
                targets: targets
                    .map(|address| Labels::from_pairs([(ADDRESS_LABEL, address)]).into())
                    .collect(),
            }
        })
        .collect())
}

impl Discoverer for HttpDiscoverer {
    fn run(mut self: Box<Self>, sink: GroupSink, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            loop {
                let asked = tokio::select! {
                    () = stop.cancelled() => return,
                    asked = self.ask() => asked,
                };
                match asked {
                    Ok(groups) => {
                        if !groups.is_empty() && !sink.send(groups).await {
                            return;
                        }
                    }
                    // The targets stay as they were.
                    Err(reason) => {
                        tracing::warn!(url = %shown(&self.url), %reason, "cannot ask for targets");
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(self.refresh) => {}
                }
            }
        })
    }
}

/// A URL without what may be a password.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority_end = rest.find('/').unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_json() {
        let body = br#"[{"targets": ["h:1", "h:2"], "labels": {"env": "dev"}}, {"targets": ["h:3"]}]"#;
        let groups = parse("http://sd/x", "application/json; charset=utf-8", body).unwrap();
        assert_eq!(groups.iter().map(|group| group.targets.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(groups[0].labels.get("env"), Some("dev"));
        assert_eq!(groups[1].labels.get(URL_LABEL), Some("http://sd/x"));
        assert!(parse("u", "text/html", body).unwrap_err().contains("application/json"));
        assert!(parse("u", "application/json", b"[{\"targats\": []}]").is_err());
        assert_eq!(shown("http://u:p@h/x"), "http://h/x");
    }
}
