//! The example's dashboard on live data: over the API, as a picture, and in a browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Shop, wait_until};

/// Dashboards of the conformance data whose panels are all drawn, where that folder is.
fn more_dashboards() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let data = std::env::var_os("GANTRY_CONFORMANCE_DATA")
        .map_or_else(|| root.join("../shared/conformance"), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(data.join("dashboards")) else {
        println!("skipped: no dashboards at {}", data.display());
        return Vec::new();
    };
    let kinds = [
        "row",
        "timeseries",
        "graph",
        "stat",
        "singlestat",
        "gauge",
        "bargauge",
        "table",
        "text",
        "piechart",
        "heatmap",
    ];
    let is_drawn = |path: &PathBuf| {
        let is_kubernetes = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kp-"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let board: Value = serde_json::from_str(&text).unwrap_or_default();
        let panels = board["panels"].as_array().cloned().unwrap_or_default();
        is_kubernetes
            && panels.iter().all(|panel| panel["type"].as_str().is_some_and(|kind| kinds.contains(&kind)))
    };
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_drawn).collect();
    paths.sort();
    paths
}

#[test]
fn the_dashboard_of_the_example_is_shown_on_live_data() {
    let shop = Shop::copy();
    let up = shop.up();
    let listed = wait_until("the ConfigMap's dashboard is listed", || {
        let (code, body) = up.get("console", "localhost", "/api/search?query=shop");
        assert_eq!(code, 200, "{body}");
        let hits: Value = serde_json::from_str(&body).expect("JSON");
        hits[0]["url"].as_str().map(str::to_owned)
    });
    assert_eq!(listed.as_deref(), Some("/d/shop/shop"));
    wait_until("requests are counted", || {
        for path in ["/products", "/checkout", "/products"] {
            let _ = up.get("gateway", "shop.localhost", path);
        }
        up.query("sum(rate(kong_http_requests_total[10s])) > 0", None)
    });
    let (code, page) = up.get("console", "localhost", "/d/shop/shop");
    assert!(
        code == 200 && (page.contains("<div id=\"app\">") || page.contains("without the web console")),
        "{page}"
    );
    let (code, picture) =
        up.get("console", "localhost", "/render/d-solo/shop/shop?panelId=4&width=800&height=400");
    assert!(
        code == 200
            && (picture.get(1..4).is_some_and(|name| name.contains("PNG")) || picture.contains("PNG")),
        "{code}"
    );

    let has = |program: &str| {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
        if !found {
            println!("skipped: {program} not found");
        }
        found
    };
    if !["chromium", "chromedriver", "node"].iter().all(|program| has(program)) {
        return;
    }
    if page.contains("without the web console") {
        println!("skipped: the page was not built");
        return;
    }
    let output = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../console/ui/test/dashboards.mjs"))
        .arg(format!("http://{}", up.address("console")))
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboards"))
        .args(more_dashboards())
        .output()
        .expect("node starts");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    println!("{text}");
}
