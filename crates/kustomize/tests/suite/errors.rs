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
fn a_duplicate_names_both_places() {
    let error = run(&[
        ("kustomization.yaml", "resources: [a.yaml, b.yaml]\n"),
        ("a.yaml", POD),
        ("b.yaml", &format!("# twice\n{POD}")),
    ]);
    let error = error.expect_err("an error");
    let expected =
        "/app/b.yaml:2:1\n    2 | apiVersion: v1\n  the first is at /app/a.yaml:1:1\n    1 | apiVersion: v1";
    assert_eq!(error.place(), Some(expected));
    let error = run(&[
        ("kustomization.yaml", "resources: [a.yaml, b.yaml]\nnamespace: n\n"),
        ("a.yaml", POD),
        ("b.yaml", &POD.replace("{name: p}", "{name: p, namespace: other}")),
    ]);
    let error = error.expect_err("an error").to_string();
    assert!(error.contains("ID conflict") && error.contains("the other is at /app/a.yaml:1:1"), "{error}");
}

#[test]
fn a_merge_of_different_kinds_shows_both_sides() {
    let error = run(&[
        ("kustomization.yaml", "resources: [pod.yaml]\npatches:\n- path: patch.yaml\n"),
        ("pod.yaml", &format!("{POD}spec:\n  containers: []\n  nodeSelector: {{a: b}}\n")),
        ("patch.yaml", &format!("{POD}spec:\n  nodeSelector:\n  - \"x\"\n")),
    ]);
    let error = error.expect_err("an error");
    let message = "wrong node kind: expected MappingNode but got SequenceNode: node contents:\n- \"x\"\n";
    assert!(error.message().contains(message), "{error}");
    let place = error.place().unwrap_or_default();
    assert!(place.starts_with("/app/patch.yaml:6:3\n"), "{error}");
    assert!(place.contains("\n  merged into /app/pod.yaml:6:17\n"), "{error}");
}

/// What the same files come to with and without strictness.
#[track_caller]
fn idle(files: &[(&str, &str)], warning: &str) {
    let build = run(files).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(build.warnings, [warning]);
    let mut fs = gantry_kustomize::Memory::default();
    for (path, text) in files {
        fs.insert(format!("/app/{path}"), *text);
    }
    let options = gantry_kustomize::Options { strict: true, ..Default::default() };
    let refused = gantry_kustomize::build(&fs, std::path::Path::new("/app"), &options);
    assert_eq!(refused.expect_err("refused when strict").to_string(), warning);
}

#[test]
fn a_patch_that_hits_nothing_is_named_with_what_was_meant() {
    idle(
        &[
            (
                "kustomization.yaml",
                "resources: [pod.yaml]\npatches:\n- patch: '[{op: remove, path: /spec}]'\n  target: {kind: Pod, name: wbe}\n",
            ),
            ("pod.yaml", &POD.replace("name: p", "name: web")),
        ],
        "patch without a target, nothing is patched; did you mean Pod.v1.[noGrp]/web.[noNs]?\n  at \
         /app/kustomization.yaml:3:3\n    3 | - patch: '[{op: remove, path: /spec}]'",
    );
    refused(
        &[
            ("kustomization.yaml", "resources: [pod.yaml]\npatches:\n- path: patch.yaml\n"),
            ("pod.yaml", &POD.replace("name: p", "name: web")),
            ("patch.yaml", &POD.replace("name: p", "name: wbe")),
        ],
        "failed to find unique target for patch Pod.v1.[noGrp]/wbe.[noNs]; did you mean Pod.v1.[noGrp]/web.[noNs]?",
        "/app/patch.yaml:1:1\n",
    );
}

#[test]
fn a_replacement_that_hits_nothing_points_at_its_target() {
    idle(
        &[
            (
                "kustomization.yaml",
                "resources: [pod.yaml]\nreplacements:\n- sourceValue: x\n  targets:\n  - select: {kind: Pod}\n    fieldPaths: [metadata.labels.a]\n    \
                 options: {create: true}\n  - select: {kind: Service, name: p}\n",
            ),
            ("pod.yaml", POD),
        ],
        "replacement target selects nothing, nothing is replaced; did you mean Pod.v1.[noGrp]/p.[noNs]?\n  at \
         /app/kustomization.yaml:8:5\n    8 |   - select: {kind: Service, name: p}",
    );
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

#[test]
fn a_text_that_a_field_cannot_hold_is_refused() {
    refused(
        &[
            (
                "kustomization.yaml",
                "resources: [pod.yaml]\nreplacements:\n- sourceValue: many\n  targets:\n  - select: {kind: Pod}\n    fieldPaths: [spec.priority]\n",
            ),
            ("pod.yaml", &format!("{POD}spec:\n  priority: 1\n")),
        ],
        "unable to find field \"spec.priority\" in replacement target: yaml: cannot decode !!str `many` as a !!int",
        "/app/pod.yaml:5:13\n",
    );
}
