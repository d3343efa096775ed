//! The real `promtool query` against our server.

use std::process::Command;

use tokio_util::sync::CancellationToken;

use crate::common::{STEPS, T0, listen, program, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_queries_us() {
    let Some(promtool) = program("promtool") else { return };
    let server = server();
    let stop = CancellationToken::new();
    let url = format!("http://{}", listen(&server, &stop).await);
    let (start, end) = ((T0 / 1000 + 60).to_string(), (T0 / 1000 + STEPS * 15).to_string());
    let run = async |args: &[&str]| -> String {
        let mut command = Command::new(&promtool);
        command.arg("query").args(args);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let time = format!("--time={end}");
    let instant = run(&["instant", &time, &url, "sum(up)"]).await;
    assert_eq!(instant.trim(), format!("{{}} => 3 @[{end}]"));
    let (from, to) = (format!("--start={start}"), format!("--end={end}"));
    let range = run(&["range", &from, &to, "--step=10m", &url, "count(up)"]).await;
    assert!(range.starts_with("{} =>\n3 @["), "{range}");
    let series = run(&["series", "--match=up", &from, &to, &url]).await;
    assert_eq!(series.lines().count(), 3);
    assert!(series.contains(r#"{__name__="up", instance="10.0.0.2:9100", job="node"}"#), "{series}");
    let labels = run(&["labels", &from, &to, &url, "mode"]).await;
    assert_eq!(labels, "idle\nuser\n");
    stop.cancel();
}
