//! A refused build says what is wrong, in which file, line and column.

use super::run;

#[track_caller]
fn refused(files: &[(&str, &str)], message: &str, place: &str) {
    let error = run(files).expect_err("an error");
    assert!(error.message().contains(message), "{error}");
    assert!(error.place().is_some_and(|found| found.starts_with(place)), "{error}");
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";

#[test]
fn a_misspelt_field_is_named_with_the_right_one() {
    refused(
        &[("kustomization.yaml", "resources: []\nnamePrefx: a-\n")],
        "unknown field `namePrefx`, did you mean `namePrefix`?",
        "/app/kustomization.yaml:2:1\n",
    );
}

#[test]
fn a_missing_file_points_at_its_entry() {
    refused(
        &[("kustomization.yaml", "resources:\n- here.yaml\n- gone.yaml\n"), ("here.yaml", POD)],
        "'/app/gone.yaml' doesn't exist",
        "/app/kustomization.yaml:3:3\n",
    );
}

#[test]
fn a_file_outside_the_root_is_refused() {
    refused(
        &[("over/kustomization.yaml", "resources: [../pod.yaml]\n"), ("pod.yaml", POD)],
        "security; file '/app/pod.yaml' is not in or below '/app/over'",
        "/app/over/kustomization.yaml:1:13\n",
    );
}

#[test]
fn malformed_yaml_is_shown_where_it_is() {
    refused(
        &[("kustomization.yaml", "resources: [pod.yaml]\n"), ("pod.yaml", "kind: Pod\n bad: x\n")],
        "MalformedYAMLError",
        "/app/pod.yaml:2:",
    );
}

#[test]
fn the_same_object_twice_is_refused() {
    refused(
        &[("kustomization.yaml", "resources: [a.yaml, b.yaml]\n"), ("a.yaml", POD), ("b.yaml", POD)],
        "may not add resource with an already registered id: Pod.v1.[noGrp]/p.[noNs]",
        "/app/b.yaml:1:1\n",
    );
}

#[test]
fn a_patch_without_its_target_is_refused() {
    refused(
        &[
            ("kustomization.yaml", "resources: [pod.yaml]\npatches:\n- path: patch.yaml\n"),
            ("pod.yaml", POD),
            ("patch.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: q}\n"),
        ],
        "failed to find unique target for patch Pod.v1.[noGrp]/q.[noNs]",
        "/app/patch.yaml:1:1\n",
    );
}

#[test]
fn what_leads_out_of_the_files_is_refused_where_no_door_is_open() {
    refused(
        &[("kustomization.yaml", "helmCharts:\n- name: x\n")],
        "must specify --enable-helm",
        "/app/kustomization.yaml:2:3\n",
    );
    refused(
        &[("kustomization.yaml", "resources:\n- https://example.com/x.yaml\n")],
        "remote file 'https://example.com/x.yaml' is not fetched here",
        "/app/kustomization.yaml:2:3\n",
    );
    refused(
        &[("kustomization.yaml", "components:\n- https://me:s3cret@example.com/org/repo//part?ref=v1\n")],
        "remote base 'https://***@example.com/org/repo?ref=v1' is not fetched here",
        "/app/kustomization.yaml:2:3\n    2 | - https://***@example.com/org/repo//part?ref=v1",
    );
    refused(
        &[
            ("kustomization.yaml", "generators: [fn.yaml]\n"),
            ("fn.yaml", "apiVersion: a/v1\nkind: Fn\nmetadata: {name: x}\n"),
        ],
        "unable to load external plugin 'Fn.v1.a/x.[noNs]'",
        "/app/fn.yaml:1:1\n",
    );
}

#[test]
fn directories_may_not_go_in_circles() {
    let error = run(&[
        ("over/kustomization.yaml", "resources: [../base]\n"),
        ("base/kustomization.yaml", "resources: [../over]\n"),
    ]);
    assert!(error.expect_err("a cycle").message().contains("cycle detected"));
}

#[test]
fn an_oci_artifact_is_refused_at_its_entry() {
    for field in ["resources", "components"] {
        refused(
            &[("kustomization.yaml", &format!("{field}: ['oci://registry.example/app:v1']\n"))],
            "'oci://registry.example/app:v1' is an OCI artifact, which is not supported here",
            "/app/kustomization.yaml:1:1",
        );
    }
}
