//! What a user does wrong on the first day: `up` says which, where and what to do, and leaves nothing half-running.

use std::net::TcpListener;

use crate::harness::{Shop, processes_below};

/// Runs `up` to its failure and gives what it wrote to standard error.
fn failure(shop: &Shop, change: impl FnOnce(&mut std::process::Command)) -> String {
    let mut command = shop.up_command();
    change(&mut command);
    let output = command.output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    if let Ok(data_dir) = std::fs::canonicalize(shop.data_dir()) {
        assert_eq!(processes_below(&data_dir), Vec::<u32>::new(), "something is half-running");
    }
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_taken_port_is_named_with_its_holder() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = failure(&Shop::copy(), |command| {
        command.args(["--ports", &format!("apiserver=0,gateway={port},metrics=0,console=0")]);
    });
    assert!(
        error.contains(&format!("127.0.0.1:{port} is already in use by pid {}", std::process::id())),
        "{error}"
    );
    assert!(error.contains("--ports gateway="), "{error}");
}

#[test]
fn an_image_without_a_command_is_shown_where_it_stands() {
    let shop = Shop::copy();
    shop.edit("gantry.yaml", "registry.example.com/shop/checkout", "registry.example.com/shop/other");
    let error = failure(&shop, |_| {});
    assert!(error.contains("registry.example.com/shop/checkout"), "{error}");
    assert!(error.contains("base/checkout.yaml:26:16"), "{error}");
    assert!(error.contains("images:"), "{error}");
}

#[test]
fn a_missing_binary_is_named() {
    let shop = Shop::copy();
    shop.edit("gantry.yaml", "[gantry, sample-service, checkout]", "[./bin/not-there]");
    let error = failure(&shop, |_| {});
    assert!(error.contains("bin/not-there"), "{error}");
}

#[test]
fn a_wrong_manifest_names_file_line_and_column() {
    let shop = Shop::copy();
    shop.edit("base/checkout.yaml", "kind: Service\n", "kind: Service\n  bad: [\n");
    let error = failure(&shop, |_| {});
    assert!(error.contains("checkout.yaml:"), "{error}");
}

#[test]
fn an_object_the_server_refuses_ends_up_with_its_name() {
    let shop = Shop::copy();
    shop.edit("base/checkout.yaml", "    port: 8080\n", "    port: 808000\n");
    let error = failure(&shop, |_| {});
    assert!(error.contains("Service/checkout"), "{error}");
    assert!(error.contains("port"), "{error}");
    assert!(error.contains("base/checkout.yaml:"), "{error}");
}

#[test]
fn a_misspelt_field_is_refused_where_it_stands() {
    let shop = Shop::copy();
    shop.edit("base/checkout.yaml", "    port: 8080\n", "    port: 8080\n    targetPrt: 8080\n");
    let error = failure(&shop, |_| {});
    assert!(error.contains("unknown field \"spec.ports[0].targetPrt\""), "{error}");
    assert!(error.contains("base/checkout.yaml:"), "{error}");
}

#[test]
fn a_folder_without_a_kustomization_is_refused() {
    let shop = Shop::copy();
    std::fs::remove_file(shop.file("overlays/dev/kustomization.yaml")).unwrap();
    let error = failure(&shop, |_| {});
    assert!(error.contains("kustomization"), "{error}");
}
