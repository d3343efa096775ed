//! What was acknowledged is there after `kill -9`, and nothing is left after SIGTERM.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::harness::{Shop, processes_below, wait_until};

#[test]
fn the_example_runs_survives_kill_9_and_leaves_nothing_on_sigterm() {
    let shop = Shop::copy();
    let up = shop.up();

    let (code, body) = up.get("gateway", "shop.localhost", "/products");
    assert_eq!(code, 200, "{body}");
    assert!(body.contains("moka pot"), "{body}");
    let (code, body) = up.get("gateway", "shop.localhost", "/checkout");
    assert_eq!(code, 200, "{body}");
    let (code, _) = up.get("gateway", "elsewhere.localhost", "/products");
    assert_eq!(code, 404);

    // Objects that the server acknowledged, by the client a user would use.
    let mut acknowledged = BTreeSet::new();
    for number in 0..20 {
        let name = format!("kept-{number}");
        let literal = format!("--from-literal=number={number}");
        let Some(output) = up.kubectl(&["create", "configmap", &name, &literal, "-n", "shop-dev"]) else {
            break;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        acknowledged.insert(format!("configmap/{name}"));
    }
    let scraped = wait_until("catalog is scraped", || {
        up.query("sum(up{namespace=\"shop-dev\"})", None).filter(|up| *up >= 2.0)
    });
    assert!(scraped.is_some());
    let before = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let sample_before = up.query("sum(up{namespace=\"shop-dev\"})", Some(before));
    assert!(!up.pods_processes().is_empty());

    up.kill_9();

    let mut up = shop.up();
    if let Some(output) = up.kubectl(&["get", "configmaps", "-n", "shop-dev", "-o", "name"]) {
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        let found: BTreeSet<String> = names.lines().map(str::to_owned).collect();
        assert!(acknowledged.is_subset(&found), "lost: {:?}", acknowledged.difference(&found));
    }
    assert_eq!(up.query("sum(up{namespace=\"shop-dev\"})", Some(before)), sample_before);
    let (code, _) = up.get("gateway", "shop.localhost", "/products");
    assert_eq!(code, 200);
    // One process a pod: those of the killed run were adopted or ended.
    wait_until("no stray process", || (up.pods_processes().len() == 2).then_some(()));

    up.signal(Signal::TERM);
    assert!(up.wait().success());
    let data_dir = std::fs::canonicalize(shop.data_dir()).expect("the state stays");
    assert_eq!(processes_below(&data_dir), Vec::<u32>::new());
}
