//! From discovered addresses to Alertmanagers that alerts are posted to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gantry_prom_model::Labels;
use gantry_rules::{Alertmanager, Deliver, Notifier, Relabel};
use gantry_scrape::config::AlertmanagerConfig;
use gantry_scrape::discover::ADDRESS_LABEL;
use gantry_scrape::relabel::{RelabelConfig, relabel};
use gantry_scrape::{Dialer, Discovered, Discoverer, GroupSink, HttpClient, TargetGroup};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

const SCHEME_LABEL: &str = "__scheme__";
const PATH_LABEL: &str = "__alerts_path__";
const API_PATH: &str = "/api/v2/alerts";

/// A section of `alertmanagers` with what finds its addresses.
pub(crate) struct AlertmanagerSection {
    pub(crate) config: AlertmanagerConfig,
    pub(crate) discoverers: Vec<Box<dyn Discoverer>>,
}

/// Keeps a notifier's Alertmanagers as discovery has them.
pub(crate) struct AlertmanagerDiscovery {
    notifier: Arc<Notifier>,
    dialer: Option<Arc<dyn Dialer>>,
    /// Of the configuration that runs; whoever changes the notifier holds the lock and looks whether it still does.
    generation: Arc<Mutex<CancellationToken>>,
}

/// The labels of alerts changed by relabelling steps.
pub(crate) fn relabelling(steps: Vec<RelabelConfig>) -> Relabel {
    Arc::new(move |labels: &Labels| {
        if steps.is_empty() {
            return Some(labels.clone());
        }
        let mut builder = labels.to_builder();
        relabel(&steps, &mut builder).then(|| builder.build())
    })
}

impl AlertmanagerDiscovery {
    pub(crate) fn new(notifier: Arc<Notifier>, dialer: Option<Arc<dyn Dialer>>) -> AlertmanagerDiscovery {
        AlertmanagerDiscovery { notifier, dialer, generation: Arc::default() }
    }

    /// Looks for the Alertmanagers of these sections from now on. Within a tokio runtime.
    pub(crate) fn apply(
        &self,
        external_labels: Labels,
        alert_relabel: Vec<RelabelConfig>,
        sections: Vec<AlertmanagerSection>,
    ) {
        let stop = CancellationToken::new();
        {
            let mut generation = self.generation.lock();
            generation.cancel();
            *generation = stop.clone();
            self.notifier.configure(external_labels, relabelling(alert_relabel), sections.len());
        }
        for (index, section) in sections.into_iter().enumerate() {
            let found = Arc::new(Section {
                index,
                alert_relabel: relabelling(section.config.alert_relabel_configs.clone()),
                config: section.config,
                groups: Mutex::default(),
                notifier: self.notifier.clone(),
                dialer: self.dialer.clone(),
                generation: self.generation.clone(),
            });
            for (number, discoverer) in section.discoverers.into_iter().enumerate() {
                let (sink, mut receiver) = GroupSink::channel();
                tokio::spawn(discoverer.run(sink, stop.clone()));
                let (found, stop) = (found.clone(), stop.clone());
                tokio::spawn(async move {
                    while let Some(groups) = receiver.recv().await {
                        found.update(number, groups, &stop);
                    }
                });
            }
        }
    }

    pub(crate) fn stop(&self) {
        self.generation.lock().cancel();
    }
}

struct Section {
    index: usize,
    config: AlertmanagerConfig,
    alert_relabel: Relabel,
    /// By discoverer and source.
    groups: Mutex<BTreeMap<(usize, String), TargetGroup>>,
    notifier: Arc<Notifier>,
    dialer: Option<Arc<dyn Dialer>>,
    generation: Arc<Mutex<CancellationToken>>,
}

impl Section {
    fn update(&self, discoverer: usize, changed: Vec<TargetGroup>, stop: &CancellationToken) {
        let mut groups = self.groups.lock();
        for group in changed {
            let key = (discoverer, group.source.clone());
            if group.targets.is_empty() {
                groups.remove(&key);
            } else {
                groups.insert(key, group);
            }
        }
        let (mut active, mut dropped) = (Vec::new(), Vec::new());
        for group in groups.values() {
            for discovered in &group.targets {
                let labels = labels_of(&self.config, group, discovered);
                match address(&self.config, &labels) {
                    Ok(None) => dropped.push(labels),
                    Ok(Some(url)) => match self.alertmanager(url) {
                        Ok(alertmanager) => active.push(alertmanager),
                        Err(reason) => tracing::warn!(%reason, "an Alertmanager cannot be used"),
                    },
                    Err(reason) => tracing::warn!(%reason, "an Alertmanager cannot be used"),
                }
            }
        }
        let _generation = self.generation.lock();
        if !stop.is_cancelled() {
            self.notifier.set_alertmanagers(self.index, active, dropped);
        }
    }

    fn alertmanager(&self, url: String) -> Result<Alertmanager, String> {
        let client = HttpClient::new(&url, &self.config.http)?.reaching(self.dialer.clone());
        Ok(Alertmanager {
            deliver: Arc::new(Post { client: tokio::sync::Mutex::new(client) }),
            relabel: self.alert_relabel.clone(),
            timeout: self.config.timeout.duration().max(Duration::from_millis(1)),
            url,
        })
    }
}

fn labels_of(config: &AlertmanagerConfig, group: &TargetGroup, discovered: &Discovered) -> Labels {
    let mut labels = discovered.labels.to_builder();
    let prefix = config.path_prefix.trim_matches('/');
    let path = if prefix.is_empty() { API_PATH.to_owned() } else { format!("/{prefix}{API_PATH}") };
    labels.set(SCHEME_LABEL, &config.scheme).set(PATH_LABEL, &path);
    for (name, value) in &group.labels {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    }
    labels.build()
}

/// Where its alerts are posted; `None` when relabelling drops it.
fn address(config: &AlertmanagerConfig, labels: &Labels) -> Result<Option<String>, String> {
    let mut builder = labels.to_builder();
    if !relabel(&config.relabel_configs, &mut builder) {
        return Ok(None);
    }
    let get = |name: &str| builder.get(name).unwrap_or("");
    let address = get(ADDRESS_LABEL);
    if address.is_empty() || address.contains('/') {
        return Err(format!("{address:?} is not a valid hostname"));
    }
    Ok(Some(format!("{}://{address}{}", get(SCHEME_LABEL), get(PATH_LABEL))))
}

/// Posts to one Alertmanager over a connection that stays.
struct Post {
    client: tokio::sync::Mutex<HttpClient>,
}

#[async_trait]
impl Deliver for Post {
    async fn deliver(&self, body: Bytes) -> Result<(), String> {
        self.client.lock().await.post("application/json", &body).await.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(yaml: &str) -> AlertmanagerConfig {
        let text = format!("alerting:\n  alertmanagers:\n  - {}", yaml.replace('\n', "\n    "));
        let config = gantry_scrape::Config::parse("p.yml", &text).unwrap();
        config.alerting.alertmanagers.into_iter().next().unwrap()
    }

    fn url(config: &AlertmanagerConfig, address_of: &str) -> Result<Option<String>, String> {
        let discovered = Discovered::from(Labels::from_pairs([(ADDRESS_LABEL, address_of)]));
        let group = TargetGroup { labels: Labels::from_pairs([("env", "prod")]), ..TargetGroup::default() };
        address(config, &labels_of(config, &group, &discovered))
    }

    #[test]
    fn where_alerts_are_posted() {
        let plain = config("static_configs: [{targets: ['a:9093']}]");
        assert_eq!(url(&plain, "a:9093"), Ok(Some("http://a:9093/api/v2/alerts".into())));
        assert!(url(&plain, "http://a/").is_err());
        let special = config(
            "scheme: https\npath_prefix: /am/\nrelabel_configs:\n- {source_labels: [env], regex: prod, action: keep}",
        );
        assert_eq!(url(&special, "a"), Ok(Some("https://a/am/api/v2/alerts".into())));
        let dropping = config("relabel_configs:\n- {source_labels: [env], regex: prod, action: drop}");
        assert_eq!(url(&dropping, "a"), Ok(None));
    }

    #[test]
    fn sections_that_cannot_be_used_are_refused() {
        for (yaml, reason) in [
            ("api_version: v1", "one of [v2] but got v1"),
            ("consul_sd_configs: []", "consul_sd_configs is not supported yet"),
            ("scheme: ftp", "http or https"),
            ("static_configs: [{targets: ['http://a']}]", "not a valid hostname"),
        ] {
            let text = format!("alerting:\n  alertmanagers:\n  - {yaml}");
            let error = gantry_scrape::Config::parse("p.yml", &text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
