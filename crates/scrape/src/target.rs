//! From discovered labels to a target: relabelling, checks, and the address to scrape.

use std::sync::Arc;

use gantry_clock::parse_prometheus_duration;
use gantry_prom_model::{Gather, Labels, LabelsBuilder};

use crate::config::ScrapeConfig;
use crate::discover::{ADDRESS_LABEL, Discovered, TargetGroup};
use crate::relabel::relabel;

const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const SCRAPE_INTERVAL: &str = "__scrape_interval__";
const SCRAPE_TIMEOUT: &str = "__scrape_timeout__";
const PARAM_PREFIX: &str = "__param_";
const META_PREFIX: &str = "__meta_";
const RESERVED_PREFIX: &str = "__";

/// What is scraped.
#[derive(Clone)]
pub struct Target {
    /// The labels before relabelling.
    pub discovered: Labels,
    /// All labels after relabelling, those with two underscores among them.
    pub(crate) internal: Labels,
    /// The labels that its samples get.
    pub labels: Labels,
    /// Where it is.
    pub url: String,
    /// Milliseconds between two scrapes.
    pub interval_ms: i64,
    /// Milliseconds a scrape may take.
    pub timeout_ms: i64,
    /// Its samples, when it lives in this process.
    pub(crate) gather: Option<Arc<dyn Gather>>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("url", &self.url).field("labels", &self.labels).finish_non_exhaustive()
    }
}

/// What becomes of a discovered target.
#[derive(Debug)]
pub enum Outcome {
    /// It is scraped.
    Kept(Box<Target>),
    /// Relabelling dropped it; these were its labels.
    Dropped(Labels),
    /// It cannot be scraped.
    Invalid(String),
}

/// What becomes of one target of a group.
pub fn populate(config: &ScrapeConfig, group: &TargetGroup, discovered: &Discovered) -> Outcome {
    let mut labels = discovered.labels.to_builder();
    for (name, value) in &group.labels {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    }
    let defaults = [
        ("job", config.job_name.as_str()),
        (SCRAPE_INTERVAL, &gantry_clock::format_prometheus_duration(config.interval_ms())),
        (SCRAPE_TIMEOUT, &gantry_clock::format_prometheus_duration(config.timeout_ms())),
        (METRICS_PATH, &config.metrics_path),
        (SCHEME, &config.scheme),
    ];
    for (name, value) in defaults {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    }
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            labels.set(&format!("{PARAM_PREFIX}{name}"), first);
        }
    }
    let before = labels.build();
    if !relabel(&config.relabel_configs, &mut labels) {
        return Outcome::Dropped(before);
    }
    match finish(config, &mut labels) {
        Ok((url, interval_ms, timeout_ms)) => {
            let internal = labels.build();
            Outcome::Kept(Box::new(Target {
                discovered: before,
                labels: internal.filter(|name| !name.starts_with(RESERVED_PREFIX)),
                internal,
                url,
                interval_ms,
                timeout_ms,
                gather: discovered.gather.clone(),
            }))
        }
        Err(reason) => Outcome::Invalid(format!("{reason} (labels {before})")),
    }
}

fn finish(config: &ScrapeConfig, labels: &mut LabelsBuilder) -> Result<(String, i64, i64), String> {
    let address = labels.get(ADDRESS_LABEL).unwrap_or("").to_owned();
    if address.is_empty() {
        return Err("no address".into());
    }
    if address.contains('/') {
        return Err(format!("{address:?} is not a valid hostname"));
    }
    let duration = |name: &str, what: &str| {
        let text = labels.get(name).unwrap_or("");
        let value = parse_prometheus_duration(text)
            .map_err(|error| format!("error parsing scrape {what}: {error}"))?;
        if value == 0 { Err(format!("scrape {what} cannot be 0")) } else { Ok(value) }
    };
    let interval = duration(SCRAPE_INTERVAL, "interval")?;
    let timeout = duration(SCRAPE_TIMEOUT, "timeout")?;
    if timeout > interval {
        return Err(format!(
            "scrape timeout cannot be greater than scrape interval ({:?} > {:?})",
            labels.get(SCRAPE_TIMEOUT).unwrap_or(""),
            labels.get(SCRAPE_INTERVAL).unwrap_or("")
        ));
    }
    labels.retain(|name, _| !name.starts_with(META_PREFIX));
    if labels.get("instance").is_none() {
        labels.set("instance", &address);
    }
    let url = url(config, labels, &address);
    Ok((url, interval, timeout))
}

fn url(config: &ScrapeConfig, labels: &LabelsBuilder, address: &str) -> String {
    let mut params: Vec<(String, Vec<String>)> =
        config.params.iter().map(|(name, values)| (name.clone(), values.clone())).collect();
    for (label, value) in labels.iter() {
        let Some(name) = label.strip_prefix(PARAM_PREFIX) else { continue };
        match params.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => match values.first_mut() {
                Some(first) => value.clone_into(first),
                None => values.push(value.to_owned()),
            },
            None => params.push((name.to_owned(), vec![value.to_owned()])),
        }
    }
    params.sort();
    let scheme = labels.get(SCHEME).unwrap_or("http");
    let path = labels.get(METRICS_PATH).unwrap_or("");
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    let mut url = format!("{scheme}://{address}{slash}{path}");
    let mut separator = if path.contains('?') { '&' } else { '?' };
    for (name, values) in &params {
        for value in values {
            url.push(separator);
            push_query_escaped(&mut url, name);
            url.push('=');
            push_query_escaped(&mut url, value);
            separator = '&';
        }
    }
    url
}

/// As forms escape: what is not a letter, digit or one of `-_.~` becomes `%XX`, a space `+`.
fn push_query_escaped(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

impl Target {
    /// The same in every process: decides when within the interval the target is scraped, and which target it is.
    pub(crate) fn hash(&self) -> u64 {
        let url = Labels::from_sorted([("", self.url.as_str())]);
        self.internal.stable_hash() ^ url.stable_hash().rotate_left(1)
    }

    /// Milliseconds from `now_ms` to its next scrape: targets are spread over the interval by their hash.
    pub(crate) fn first_scrape_in(&self, now_ms: i64, seed: u64) -> i64 {
        let interval = self.interval_ms.max(1);
        let place = ((self.hash() ^ seed) % interval.unsigned_abs()) as i64;
        (place - now_ms).rem_euclid(interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config(job: &str) -> ScrapeConfig {
        let text = format!("global: {{scrape_interval: 15s}}\nscrape_configs:\n- job_name: j\n{job}");
        Config::parse("t.yml", &text).unwrap().scrape_configs.remove(0)
    }

    fn target(job: &str, labels: &[(&str, &str)]) -> Outcome {
        populate(&config(job), &TargetGroup::default(), &Labels::from_pairs(labels.iter().copied()).into())
    }

    #[test]
    fn a_plain_target() {
        let Outcome::Kept(target) = target("", &[("__address__", "h:1"), ("__meta_x", "y"), ("env", "dev")])
        else {
            panic!("not kept")
        };
        assert_eq!(target.url, "http://h:1/metrics");
        assert_eq!(target.labels.to_string(), r#"{env="dev", instance="h:1", job="j"}"#);
        assert_eq!((target.interval_ms, target.timeout_ms), (15_000, 10_000));
        assert_eq!(target.discovered.get("__meta_x"), Some("y"));
        for now in [0, 1, 14_999, 15_000, 1_700_000_000_123] {
            let wait = target.first_scrape_in(now, 7);
            assert!((0..15_000).contains(&wait));
            assert_eq!((now + wait) % 15_000, target.first_scrape_in(0, 7));
        }
    }

    #[test]
    fn parameters_come_from_labels_too() {
        let job = "  metrics_path: /probe\n  params: {module: [http_2xx, b], 'a b': ['&']}\n  relabel_configs:\n  - {source_labels: [__address__], target_label: __param_target}\n  - {target_label: __param_module, replacement: icmp}\n";
        let Outcome::Kept(target) = target(job, &[("__address__", "h:1")]) else { panic!("not kept") };
        assert_eq!(target.url, "http://h:1/probe?a+b=%26&module=icmp&module=b&target=h%3A1");
    }

    #[test]
    fn what_cannot_be_scraped_says_why() {
        let reason = |job: &str, labels: &[(&str, &str)]| match target(job, labels) {
            Outcome::Invalid(reason) => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason("", &[("a", "b")]).starts_with("no address"));
        assert!(reason("", &[("__address__", "h/x")]).contains("not a valid hostname"));
        assert!(reason("", &[("__address__", "h"), ("__scrape_timeout__", "1m")]).contains("greater than"));
        let dropped = target(
            "  relabel_configs: [{source_labels: [__address__], regex: h, action: drop}]\n",
            &[("__address__", "h")],
        );
        assert!(matches!(dropped, Outcome::Dropped(labels) if labels.get("job") == Some("j")));
    }
}
