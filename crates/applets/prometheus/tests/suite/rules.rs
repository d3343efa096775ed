//! Rules from their files to the API and to an Alertmanager.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use gantry_applet_prometheus::{Prometheus, Settings, read_rule_files, rule_config};
use gantry_clock::SystemClock;
use gantry_prom_model::Registry;
use gantry_rules::ReadOptions;
use gantry_scrape::Config;
use gantry_serve::{ListenConfig, Listener};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const RULES: &str = "groups:\n- name: alerts\n  interval: 50ms\n  rules:\n  - alert: Always\n    expr: vector(7)\n    labels: {team: a}\n    annotations: {summary: 'it is {{ $value }} in {{ $externalLabels.cluster }}'}\n  - alert: Later\n    expr: vector(1)\n    for: 1h\n    keep_firing_for: 5m\n- name: records\n  interval: 50ms\n  limit: 9\n  rules:\n  - {record: seven, expr: vector(7), labels: {team: b}}\n";

async fn body_of(router: &Router, path: &str) -> Value {
    let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn configured(dir: &Path, alertmanager: &str) -> (Config, gantry_applet_prometheus::RuleConfig) {
    std::fs::write(dir.join("rules.yml"), RULES).unwrap();
    let text = format!(
        "global: {{external_labels: {{cluster: c1}}}}\nrule_files: ['ru*.yml']\nalerting:\n  alert_relabel_configs:\n  - {{regex: team, action: labeldrop}}\n  alertmanagers:\n  - path_prefix: /am\n    static_configs: [{{targets: ['{alertmanager}', 'dropped:1']}}]\n    relabel_configs: [{{source_labels: [__address__], regex: 'dropped.*', action: drop}}]\n"
    );
    let config = Config::parse("prometheus.yml", &text).unwrap();
    let files = read_rule_files(&config.rule_files, dir, ReadOptions::default()).unwrap();
    let rules = rule_config(&config, files, dir, &|_| Err("no cluster".into())).unwrap();
    (config, rules)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_rule_file_to_the_api_and_an_alertmanager() {
    let dir = tempfile::tempdir().unwrap();
    let (sender, mut received) = mpsc::unbounded_channel::<Value>();
    let take = async |State(sender): State<mpsc::UnboundedSender<Value>>, body: Bytes| {
        let _ = sender.send(serde_json::from_slice(&body).unwrap());
    };
    let alertmanager = Router::new().route("/am/api/v2/alerts", post(take)).with_state(sender);
    let listener = Listener::bind(ListenConfig::plain("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let address = listener.local_addr();
    let stop = CancellationToken::new();
    let until = stop.clone();
    tokio::spawn(async move { listener.serve(alertmanager, until).await });

    let settings = Settings::new(dir.path().join("data"));
    let registry = Registry::new();
    let prometheus = Prometheus::open(settings, Arc::new(SystemClock::new()), &registry).unwrap();
    let (_config, rules) = configured(dir.path(), &address.to_string());
    prometheus.apply_rules(rules);

    let alerts = tokio::time::timeout(Duration::from_secs(60), received.recv()).await.unwrap().unwrap();
    assert_eq!(alerts[0]["labels"], serde_json::json!({"alertname": "Always", "cluster": "c1"}));
    assert_eq!(alerts[0]["annotations"]["summary"], "it is 7 in c1");
    assert_eq!(alerts[0]["generatorURL"], "http://localhost:9090/graph?g0.expr=vector%287%29&g0.tab=1");

    let router = prometheus.api().router();
    let managers = body_of(&router, "/api/v1/alertmanagers").await;
    assert_eq!(
        managers["data"]["activeAlertmanagers"][0]["url"],
        format!("http://{address}/am/api/v2/alerts")
    );
    assert_eq!(managers["data"]["droppedAlertmanagers"][0]["url"], "http://dropped:1/am/api/v2/alerts");
    let evaluated = async {
        while prometheus.rules().groups().iter().any(|group| group.last_evaluation().1.is_none()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), evaluated).await.unwrap();

    let shown = body_of(&router, "/api/v1/rules").await;
    let groups = shown["data"]["groups"].as_array().unwrap();
    assert_eq!((groups[0]["name"].as_str(), groups[1]["name"].as_str()), (Some("alerts"), Some("records")));
    assert_eq!((groups[1]["interval"].as_f64(), groups[1]["limit"].as_u64()), (Some(0.05), Some(9)));
    let always = &groups[0]["rules"][0];
    assert_eq!((always["state"].as_str(), always["health"].as_str()), (Some("firing"), Some("ok")));
    assert_eq!(always["alerts"][0]["value"], "7e+00");
    let later = &groups[0]["rules"][1];
    assert_eq!((later["state"].as_str(), later["duration"].as_i64()), (Some("pending"), Some(3600)));
    assert_eq!(later["keepFiringFor"], 300);
    let seven = &groups[1]["rules"][0];
    assert_eq!((seven["type"].as_str(), seven["query"].as_str()), (Some("recording"), Some("vector(7)")));
    assert_eq!(body_of(&router, "/api/v1/alerts").await["data"]["alerts"].as_array().unwrap().len(), 2);

    for (path, names) in [
        ("?type=record", vec!["seven"]),
        ("?type=alert&rule_name[]=Later", vec!["Later"]),
        ("?match[]={team=~\"a|b\"}", vec!["Always", "seven"]),
        ("?rule_group[]=records", vec!["seven"]),
        ("?file[]=none", vec![]),
        ("?group_limit=1", vec!["Always", "Later"]),
    ] {
        let path = format!(
            "/api/v1/rules{}",
            path.replace('{', "%7B").replace('}', "%7D").replace('"', "%22").replace('|', "%7C")
        );
        let shown = body_of(&router, &path).await;
        let found: Vec<&str> = shown["data"]["groups"]
            .as_array()
            .unwrap_or_else(|| panic!("{path}: {shown}"))
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap())
            .map(|rule| rule["name"].as_str().unwrap())
            .collect();
        assert_eq!(found, names, "{path}");
    }
    let first = body_of(&router, "/api/v1/rules?group_limit=1&exclude_alerts=true").await;
    assert_eq!(first["data"]["groups"][0]["rules"][0]["alerts"], serde_json::json!([]));
    let token = first["data"]["groupNextToken"].as_str().unwrap();
    let second = body_of(&router, &format!("/api/v1/rules?group_limit=1&group_next_token={token}")).await;
    assert_eq!(second["data"]["groups"][0]["name"], "records");
    assert!(second["data"].get("groupNextToken").is_none());
    for wrong in [
        "?type=x",
        "?group_limit=0",
        "?group_limit=a",
        "?group_next_token=a",
        "?group_limit=1&group_next_token=a",
        "?match[]=x[1m]",
        "?exclude_alerts=perhaps",
    ] {
        assert_eq!(
            body_of(&router, &format!("/api/v1/rules{wrong}")).await["errorType"],
            "bad_data",
            "{wrong}"
        );
    }

    prometheus.shutdown().await.unwrap();
    stop.cancel();
    assert!(registry.encode().contains("prometheus_rule_group_rules{rule_group="), "own metrics");
}

#[test]
fn a_wrong_rule_file_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yml"), "groups:\n- name: g\n  rules:\n  - record: a\n").unwrap();
    let error = read_rule_files(&["*.yml".into()], dir.path(), ReadOptions::default()).unwrap_err();
    assert!(
        error.ends_with("a.yml:4:5: group \"g\", rule 1, \"a\": field 'expr' must be set in rule"),
        "{error}"
    );
}

// Numbers from a million on are printed another way by versions before 3.
const PEER_RULES: &str = "groups:\n- name: g\n  interval: 1s\n  rules:\n  - alert: Always\n    expr: label_replace(vector(123456), \"host\", \"h.example.com:80\", \"\", \"\") > 5\n    labels: {team: a, size: '{{ $value | humanize }}'}\n    annotations:\n      summary: '{{ $labels.host | stripPort }} {{ humanizeDuration 3661.0 }} {{ humanizePercentage 0.123 }} {{ humanize1024 2048.0 }}'\n      links: '{{ graphLink \"up == 0\" }} {{ tableLink \"up\" }} {{ externalURL }} {{ pathPrefix }}'\n      texts: '{{ reReplaceAll \"e(x)\" \"$1$1\" $labels.host }} {{ match \"ex\" $labels.host }} {{ title \"a b\" }} {{ $externalLabels.cluster }}'\n      printed: '{{ printf \"%.2f\" $value }} {{ humanizeTimestamp 1435065584.128 }} {{ parseDuration \"1m30s\" }}'\n      asked: '{{ with query \"vector(3)\" }}{{ . | first | value }}{{ end }}'\n      broken: '{{ humanize \"x\" }}'\n  - {alert: Later, expr: 'vector(1) == 1', for: 1h}\n  - {record: 'a:b', expr: 'vector(1) + 2 * vector(3)', labels: {x: y}}\n  - {record: wrong, expr: 'label_replace(vector(1), \"a\", \"1\", \"\", \"\") or vector(1)', labels: {a: same}}\n";

/// What does not depend on when it was asked.
fn lasting(rules: &Value) -> Vec<Value> {
    let groups = rules["data"]["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules
        .map(|rule| {
            let alerts: Vec<Value> = rule["alerts"].as_array().into_iter().flatten().map(|alert| serde_json::json!({
                "labels": alert["labels"], "annotations": without_error(&alert["annotations"]), "state": alert["state"], "value": alert["value"],
            })).collect();
            serde_json::json!({
                "name": rule["name"], "query": rule["query"], "type": rule["type"], "labels": rule["labels"],
                "annotations": rule["annotations"], "duration": rule["duration"], "state": rule["state"],
                "health": rule["health"], "lastError": rule["lastError"], "alerts": alerts,
            })
        })
        .collect()
}

/// The annotation whose template is wrong says why in words of its own.
fn without_error(annotations: &Value) -> Value {
    let mut annotations = annotations.clone();
    if let Some(broken) = annotations.get_mut("broken") {
        let text = broken.as_str().unwrap_or("").to_owned();
        *broken =
            text.starts_with("<error expanding template: error executing template __alert_Always: ").into();
    }
    annotations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_prometheus_says_the_same_of_the_same_rules() {
    let Some(program) = crate::common::program("prometheus") else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yml"), PEER_RULES).unwrap();
    let (sender, mut received) = mpsc::unbounded_channel::<(String, Value)>();
    let take = async |State(sender): State<mpsc::UnboundedSender<(String, Value)>>,
                      axum::extract::Path(who): axum::extract::Path<String>,
                      body: Bytes| {
        let _ = sender.send((who, serde_json::from_slice(&body).unwrap()));
    };
    let alertmanager = Router::new().route("/{who}/api/v2/alerts", post(take)).with_state(sender);
    let listener = Listener::bind(ListenConfig::plain("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let managers = listener.local_addr();
    let stop = CancellationToken::new();
    let until = stop.clone();
    tokio::spawn(async move { listener.serve(alertmanager, until).await });
    let config = |who: &str| {
        format!(
            "global: {{evaluation_interval: 1s, external_labels: {{cluster: c1}}}}\nrule_files: [rules.yml]\nalerting:\n  alertmanagers:\n  - path_prefix: {who}\n    api_version: v2\n    static_configs: [{{targets: ['{managers}']}}]\n"
        )
    };

    let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(dir.path().join("theirs.yml"), config("theirs")).unwrap();
    let mut child = std::process::Command::new(program)
        .arg(format!("--config.file={}", dir.path().join("theirs.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("theirs").display()))
        .arg(format!("--web.listen-address={theirs}"))
        .arg("--web.external-url=http://localhost:9090/base")
        // It loses what fires before it has found whom to tell, and by default says it again a minute later.
        .arg("--rules.alert.resend-delay=1s")
        .arg("--log.level=error")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();

    let mut settings = Settings::new(dir.path().join("ours"));
    settings.rules.external_url = "http://localhost:9090/base".into();
    let prometheus = Prometheus::open(settings, Arc::new(SystemClock::new()), &Registry::new()).unwrap();
    let parsed = Config::parse("ours.yml", &config("ours")).unwrap();
    let files = read_rule_files(&parsed.rule_files, dir.path(), ReadOptions::default()).unwrap();
    prometheus.apply_rules(rule_config(&parsed, files, dir.path(), &|_| Err("no cluster".into())).unwrap());

    let mut sent = std::collections::BTreeMap::new();
    let both = async {
        while sent.len() < 2 {
            let (who, body) = received.recv().await.unwrap();
            let alert = &body[0];
            let shown = serde_json::json!({
                "labels": alert["labels"], "annotations": without_error(&alert["annotations"]), "generatorURL": alert["generatorURL"],
            });
            sent.insert(who, shown);
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(60), both).await;
    let asked = tokio::task::spawn_blocking(move || {
        let output = std::process::Command::new("curl")
            .args(["-s", &format!("http://{theirs}/base/api/v1/rules")])
            .output();
        output.ok().and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok())
    });
    let their_rules = asked.await.unwrap();
    let _ = child.kill();
    let _ = child.wait();
    assert!(outcome.is_ok(), "both send their alert, but only {:?} did", sent.keys());
    assert_eq!(sent["ours"], sent["theirs"]);
    let Some(their_rules) = their_rules else {
        println!("skipped: curl not found");
        return;
    };
    let our_rules = body_of(&prometheus.api().router(), "/api/v1/rules").await;
    assert_eq!(lasting(&our_rules), lasting(&their_rules));
    prometheus.shutdown().await.unwrap();
    stop.cancel();
}
