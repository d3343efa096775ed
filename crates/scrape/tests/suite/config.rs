//! The configuration file.

use gantry_scrape::Config;
use gantry_scrape::config::KubernetesRole;

fn error(text: &str) -> String {
    Config::parse("prometheus.yml", text).unwrap_err().to_string()
}

#[test]
fn a_file_as_people_have_it() {
    let text = r#"
global:
  scrape_interval: 15s
  evaluation_interval: 30s
  external_labels: {cluster: a}
rule_files: ["rules/*.yml"]
alerting:
  alertmanagers:
  - static_configs: [{targets: ["am:9093"]}]
scrape_configs:
- job_name: prometheus
  static_configs:
  - targets: ["localhost:9090", "localhost:9091"]
    labels: {env: dev}
- job_name: pods
  scrape_interval: 5s
  honor_labels: true
  scheme: https
  tls_config: {insecure_skip_verify: true}
  authorization: {credentials_file: /var/run/token}
  body_size_limit: 10MB
  kubernetes_sd_configs:
  - role: pod
    namespaces: {names: [shop]}
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], regex: "true", action: keep}
remote_write:
- url: http://x/
"#;
    let config = Config::parse("prometheus.yml", text).unwrap();
    let [own, pods] = &config.scrape_configs[..] else { panic!("two jobs") };
    assert_eq!((own.interval_ms(), own.timeout_ms()), (15_000, 10_000));
    assert_eq!((pods.interval_ms(), pods.timeout_ms()), (5_000, 5_000));
    assert_eq!(pods.kubernetes_sd_configs[0].role, KubernetesRole::Pod);
    assert!(pods.http.tls_config.insecure_skip_verify);
    assert_eq!(pods.body_size_limit.unwrap().0, 10 << 20);
    assert!(config.without_effect().is_empty());
    assert_eq!(config.remote_write.len(), 1);
}

#[test]
fn mistakes_are_named() {
    let job = |fields: &str| error(&format!("scrape_configs:\n- job_name: a\n{fields}"));
    assert!(error("global: {scrape_intervall: 1s}").contains("prometheus.yml:1:"));
    assert!(
        error("scrape_configs: [{job_name: a}, {job_name: a}]").contains("found multiple scrape configs")
    );
    assert!(error("scrape_configs: [{scrape_interval: 5s}]").contains("job_name is empty"));
    assert!(
        job("  scrape_interval: 5s\n  scrape_timeout: 6s\n").contains("timeout greater than scrape interval")
    );
    assert!(job("  scrape_interval: 5x\n").contains("prometheus.yml:3:"));
    assert!(job("  consul_sd_configs: [{server: c}]\n").contains("consul_sd_configs is not supported yet"));
    assert!(job("  basic_auth: {username: u}\n  bearer_token: t\n").contains("at most one of"));
    assert!(job("  scheme: ftp\n").contains("http or https"));
    assert!(job("  relabel_configs: [{regex: '(', target_label: a}]\n").contains("regular expression"));
}

#[test]
fn no_secret_is_shown() {
    let config = Config::parse(
        "p.yml",
        "scrape_configs: [{job_name: a, basic_auth: {username: u, password: hunter2}}]",
    )
    .unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}
