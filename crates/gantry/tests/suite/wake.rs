//! HTTP scale-from-zero: a request to a Service without pods waits for the first one instead of failing.

use crate::harness::{Shop, wait_until};

#[test]
fn a_request_waits_for_the_first_pod_of_a_sleeping_service() {
    let shop = Shop::copy();
    shop.edit(
        "overlays/dev/kustomization.yaml",
        "- name: checkout\n  count: 1",
        "- name: checkout\n  count: 0",
    );
    let up = shop.up();
    assert_eq!(up.pods_processes().len(), 1, "only catalog runs");

    let requests: Vec<_> = (0..8)
        .map(|_| {
            let gateway = up.address("gateway");
            std::thread::spawn(move || crate::harness::get(gateway, "shop.localhost", "/checkout"))
        })
        .collect();
    for request in requests {
        let (code, body) = request.join().expect("an answer");
        // A GET of this path is the shop's own answer, and not the gateway's 503.
        assert_ne!(code, 503, "{body}");
        assert!(!body.contains("request_id"), "the gateway answered itself: {body}");
    }
    wait_until("one pod each", || (up.pods_processes().len() == 2).then_some(()));
}
