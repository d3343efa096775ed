//! The loop as a verdict: load through the gateway, replicas up and down again, no request lost.

use crate::harness::{Shop, gantry};

#[test]
fn prove_passes_on_the_example_and_writes_both_reports() {
    let shop = Shop::copy();
    // How fast a shared machine answers is not what this test is about.
    shop.edit("load.yaml", "  - p99 < 2s\n", "");
    let (junit, report) = (shop.file("junit.xml"), shop.file("report.html"));
    let output = gantry()
        .arg("prove")
        .arg(shop.overlay())
        .arg("--scenario")
        .arg(shop.file("load.yaml"))
        .arg("--junit")
        .arg(&junit)
        .arg("--report")
        .arg(&report)
        .output()
        .expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", String::from_utf8_lossy(&output.stderr));

    let junit = std::fs::read_to_string(junit).expect("JUnit is written");
    assert!(junit.contains("failures=\"0\""), "{junit}");
    assert!(junit.contains("error_rate == 0"), "{junit}");
    assert!(junit.contains("deployment/catalog"), "{junit}");
    let report = std::fs::read_to_string(report).expect("the page is written");
    assert!(report.contains("<html") && report.contains("catalog"), "the page shows the run");
}

#[test]
fn prove_fails_when_an_assertion_does_not_hold() {
    let shop = Shop::copy();
    let scenario = "target: http://shop.localhost\nduration: 2s\nusers: 1\nrequests:\n- /no-such-path\nthresholds:\n  load: [error_rate == 0]\n";
    let file = shop.file("failing.yaml");
    std::fs::write(&file, scenario).expect("the copy is writable");
    let junit = shop.file("junit.xml");
    let output = gantry()
        .arg("prove")
        .arg(shop.overlay())
        .arg("--scenario")
        .arg(&file)
        .arg("--junit")
        .arg(&junit)
        .arg("--report")
        .arg(shop.file("report.html"))
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!std::fs::read_to_string(junit).expect("JUnit is written").contains("failures=\"0\""));
}

#[test]
fn prove_judges_a_cluster_that_exists() {
    let shop = Shop::copy();
    let up = shop.up();
    let scenario = format!(
        "target: http://{}\nduration: 4s\nusers: 2\nheaders: {{Host: shop.localhost}}\nrequests:\n- /products\n\
         thresholds:\n  load: [error_rate == 0]\n  promql:\n  - {{name: it is scraped, expr: count(up) > 0}}\n\
         prove:\n  replicas:\n  - {{target: deployment/checkout, path: [1]}}\n",
        up.address("gateway")
    );
    let file = shop.file("cluster.yaml");
    std::fs::write(&file, scenario).expect("the copy is writable");
    let report = shop.file("report.html");
    let prove = |context: &str| {
        let mut command = gantry();
        command
            .env("KUBECONFIG", &up.kubeconfig)
            .arg("prove")
            .arg(shop.overlay())
            .arg("--scenario")
            .arg(&file);
        command.args(["--context", context, "--prometheus", &format!("http://{}", up.address("metrics"))]);
        command.arg("--junit").arg(shop.file("junit.xml")).arg("--report").arg(&report);
        command.output().expect("the binary starts")
    };
    let output = prove("gantry");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("it is scraped") && text.contains("deployment/checkout"), "{text}");
    assert!(std::fs::read_to_string(&report).expect("the page is written").contains("checkout"));
    assert!(up.pods_processes().len() >= 2, "the cluster goes on");

    let output = prove("elsewhere");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("elsewhere"), "the context is named");
}
