//! A place to work: what is saved is built, checked and applied while everything goes on running.

use serde_json::Value;

use crate::harness::{Shop, wait_until};

fn object(line: &Value, kind: &str, change: &str) -> bool {
    line["object"]["kind"] == kind && line["change"] == change
}

#[test]
fn a_saved_file_is_applied_and_told_object_by_object() {
    let shop = Shop::copy();
    let up = shop.up();
    shop.edit("overlays/dev/kustomization.yaml", "- PAGE_SIZE=5", "- PAGE_SIZE=3");
    // The generated name carries a hash of the content, so the old one goes and the Deployment follows.
    up.says("the new ConfigMap", |line| object(line, "ConfigMap", "created"));
    up.says("the old ConfigMap", |line| object(line, "ConfigMap", "pruned"));
    let deployment = up.says("the Deployment", |line| object(line, "Deployment", "configured"));
    assert_eq!(deployment["object"]["name"], "catalog");
    assert!(
        deployment["fields"].to_string().contains("spec.template.spec.containers[name=catalog].envFrom"),
        "{deployment}"
    );
    up.says("ready again", |line| line["step"] == "pods ready");
    let (code, _) = up.get("gateway", "shop.localhost", "/products");
    assert_eq!(code, 200);
}

#[test]
fn a_wrong_file_changes_nothing_until_it_is_right_again() {
    let shop = Shop::copy();
    let up = shop.up();
    shop.edit("base/checkout.yaml", "kind: Service\n", "kind: Service\n  bad: [\n");
    let line = up.says("the mistake", |line| line["failed"].is_string());
    assert!(line["error"].to_string().contains("checkout.yaml:"), "{line}");
    shop.edit("base/checkout.yaml", "kind: Service\n  bad: [\n", "kind: Service\n");
    up.says("all is well", |line| {
        line["step"] == "applied"
            && line["detail"].as_str().is_some_and(|detail| detail.starts_with("0 created, 0 configured, "))
    });

    shop.edit("overlays/dev/kustomization.yaml", "registry.example.com/shop/checkout\n", "x\n");
    shop.edit(
        "base/checkout.yaml",
        "registry.example.com/shop/checkout:",
        "registry.example.com/shop/nothing:",
    );
    let line = up.says("the unknown image", |line| line["error"].to_string().contains("shop/nothing"));
    assert!(line["error"].to_string().contains("images:"), "{line}");
    let (code, _) = up.get("gateway", "shop.localhost", "/products");
    assert_eq!(code, 200, "what ran before goes on");
}

#[test]
fn what_was_taken_before_a_refusal_is_still_removed_later() {
    let shop = Shop::copy();
    let up = shop.up();
    let two = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: first}\n---\n\
               apiVersion: v1\nkind: Service\nmetadata: {name: second}\nspec: {ports: [{port: 808000}]}\n";
    std::fs::write(shop.file("overlays/dev/two.yaml"), two).expect("the copy is writable");
    shop.edit("overlays/dev/kustomization.yaml", "- namespace.yaml\n", "- namespace.yaml\n- two.yaml\n");
    up.says("the refusal", |line| line["error"].to_string().contains("Service/second"));
    shop.edit("overlays/dev/kustomization.yaml", "- two.yaml\n", "");
    let pruned = up.says("the first is removed", |line| object(line, "ConfigMap", "pruned"));
    assert_eq!(pruned["object"]["name"], "first");
}

#[test]
fn what_was_deleted_by_hand_is_made_again_with_the_next_change() {
    let shop = Shop::copy();
    let up = shop.up();
    let Some(deleted) = up.kubectl(&["delete", "service", "checkout", "-n", "shop-dev"]) else { return };
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    shop.edit("overlays/dev/kustomization.yaml", "- PAGE_SIZE=5", "- PAGE_SIZE=3");
    let made = up.says("the Service", |line| object(line, "Service", "created"));
    assert_eq!(made["object"]["name"], "checkout");
}

#[test]
fn the_console_shows_pods_behind_every_service_and_pods_without_a_deployment() {
    let shop = Shop::copy();
    let up = shop.up();
    let more = "apiVersion: v1\nkind: Service\nmetadata: {name: another}\n\
                spec: {selector: {app: checkout}, ports: [{port: 80, targetPort: http}]}\n---\n\
                apiVersion: v1\nkind: Pod\nmetadata: {name: lone}\n\
                spec: {containers: [{name: main, image: 'registry.example.com/shop/checkout:1'}]}\n";
    std::fs::write(shop.file("overlays/dev/more.yaml"), more).expect("the copy is writable");
    shop.edit("overlays/dev/kustomization.yaml", "- namespace.yaml\n", "- namespace.yaml\n- more.yaml\n");
    up.says("the pod", |line| object(line, "Pod", "created"));
    let shown = wait_until("the console shows both", || {
        let (_, body) = up.get("console", "localhost", "/api/snapshot");
        let snapshot: Value = serde_json::from_str(&body).ok()?;
        let both = serde_json::json!(["another", "checkout"]);
        let behind_both = |pod: &Value| {
            let mut services = pod["services"].as_array().cloned().unwrap_or_default();
            services.sort_by_key(Value::to_string);
            Value::from(services) == both
        };
        let lone = |object: &Value| object["kind"] == "Pod" && object["name"] == "lone";
        let pods = snapshot["pods"].as_array()?.iter().any(behind_both);
        (pods && snapshot["objects"].as_array()?.iter().any(lone)).then_some(())
    });
    shown.expect("waited for");
}
