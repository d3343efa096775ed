//! What each part of a kustomization does to the objects.

use super::{built, run};

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec:
      containers:
      - name: main
        image: example/web:1
        envFrom:
        - configMapRef: {name: settings}
";

#[test]
fn names_follow_their_objects() {
    let found = built(&[
        ("base/web.yaml", DEPLOYMENT),
        (
            "base/kustomization.yaml",
            "resources: [web.yaml]\nconfigMapGenerator:\n- name: settings\n  literals: [a=1]\n",
        ),
        (
            "over/kustomization.yaml",
            "resources: [../base]\nnamePrefix: dev-\nnamespace: shop\nimages:\n- {name: example/web, newTag: '2'}\n",
        ),
    ]);
    let expected = "\
apiVersion: v1
data:
  a: \"1\"
kind: ConfigMap
metadata:
  name: dev-settings-h29d89cmmt
  namespace: shop
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: dev-web
  namespace: shop
spec:
  template:
    spec:
      containers:
      - envFrom:
        - configMapRef:
            name: dev-settings-h29d89cmmt
        image: example/web:2
        name: main
";
    assert_eq!(found, expected);
}

#[test]
fn patches_of_both_kinds() {
    let found = built(&[
        ("web.yaml", DEPLOYMENT),
        (
            "kustomization.yaml",
            "
resources: [web.yaml]
patches:
- patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec:
      template:
        spec:
          containers:
          - {name: main, envFrom: null}
          - {name: side, image: side}
- target: {kind: Deploy.*}
  patch: |
    - {op: add, path: /metadata/labels, value: {patched: 'yes'}}
",
        ),
    ]);
    let expected = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  labels:
    patched: \"yes\"
  name: web
spec:
  template:
    spec:
      containers:
      - image: example/web:1
        name: main
      - image: side
        name: side
";
    assert_eq!(found, expected);
}

#[test]
fn components_see_the_resources_of_their_parent() {
    let found = built(&[
        ("base/web.yaml", DEPLOYMENT),
        ("base/kustomization.yaml", "resources: [web.yaml]\n"),
        (
            "part/kustomization.yaml",
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nreplicas:\n- {name: web, count: 4}\n",
        ),
        ("over/kustomization.yaml", "resources: [../base]\ncomponents: [../part]\n"),
    ]);
    assert!(found.contains("  replicas: 4\n"), "{found}");
}

#[test]
fn replacements_and_variables_copy_values() {
    let found = built(&[
        ("web.yaml", DEPLOYMENT),
        (
            "service.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: front}\nspec:\n  ports: [{port: 80}]\n",
        ),
        (
            "kustomization.yaml",
            "
resources: [web.yaml, service.yaml]
nameSuffix: -v2
replacements:
- source: {kind: Service, fieldPath: 'spec.ports.[port=80].port'}
  targets:
  - select: {kind: Deployment}
    fieldPaths: ['metadata.annotations.port']
    options: {create: true}
patches:
- target: {kind: Deployment}
  patch: |
    - {op: add, path: /spec/template/spec/containers/0/args, value: ['--at=$(FRONT)']}
vars:
- name: FRONT
  objref: {apiVersion: v1, kind: Service, name: front}
",
        ),
    ]);
    assert!(found.contains("        - --at=front-v2\n"), "{found}");
    assert!(found.contains("    port: \"80\"\n"), "{found}");
}

#[test]
fn objects_keep_the_places_they_were_read_from() {
    let build = run(&[("web.yaml", DEPLOYMENT), ("kustomization.yaml", "resources: [web.yaml]\n")]).unwrap();
    let image = build.objects[0].at(&["spec", "template", "spec", "containers"]).unwrap();
    let image = image.as_array().unwrap()[0].get("image").unwrap();
    assert_eq!((image.span.line(), image.span.column()), (11, 16));
    assert_eq!(build.files.path(image.span.file()), Some(std::path::Path::new("/app/web.yaml")));
}

#[test]
fn a_large_build_is_linear() {
    // With anything quadratic in it this takes minutes, which no one waits for.
    let mut resources = String::new();
    let mut generators = String::from("resources: [all.yaml]\nnamePrefix: p-\nconfigMapGenerator:\n");
    for i in 0..2000 {
        let one =
            DEPLOYMENT.replace("name: web", &format!("name: web-{i}")).replace("settings", &format!("c{i}"));
        resources.push_str(&format!("{one}---\n"));
        generators.push_str(&format!("- {{name: c{i}, literals: [a={i}]}}\n"));
    }
    let found = run(&[("all.yaml", &resources), ("kustomization.yaml", &generators)]).unwrap();
    assert_eq!(found.objects.len(), 4000);
}

const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n";

/// The values of `l:` in what is built, from top to bottom.
fn labels(overlay: &str) -> Vec<String> {
    let found = built(&[
        ("base/kustomization.yaml", "resources: [web.yaml]\ncommonLabels: {l: one}\n"),
        ("base/web.yaml", WEB),
        ("over/kustomization.yaml", overlay),
    ]);
    found.lines().filter_map(|line| Some(line.trim().strip_prefix("l: ")?.to_owned())).collect()
}

#[test]
fn a_label_that_was_added_to_several_fields_changes_in_all_of_them() {
    assert_eq!(labels("resources: [../base]\nlabels:\n- pairs: {l: two}\n"), ["two", "two", "two"]);
    let patch = "apiVersion: apps/v1\n    kind: Deployment\n    metadata: {name: web, labels: {l: p}}\n";
    let overlay = format!("resources: [../base]\npatches:\n- patch: |-\n    {patch}");
    assert_eq!(labels(&overlay), ["p", "p", "p"]);
    let replacement = "replacements:\n- sourceValue: r\n  targets:\n  - select: {kind: Deployment}\n    fieldPaths: [metadata.labels.l]\n";
    assert_eq!(labels(&format!("resources: [../base]\n{replacement}")), ["r", "r", "r"]);
    // A JSON patch makes the object anew.
    let patch = "patches:\n- patch: '[{op: replace, path: /metadata/labels/l, value: j}]'\n  target: {kind: Deployment}\n";
    assert_eq!(labels(&format!("resources: [../base]\n{patch}")), ["j", "one", "one"]);
}

#[test]
fn the_older_patches_have_their_own_rules() {
    let found = built(&[
        (
            "kustomization.yaml",
            "resources: [web.yaml]\npatchesStrategicMerge: [patch.yaml]\npatchesJson6902:\n- target: {kind: Deployment, name: w.*}\n  \
             patch: '[{op: add, path: /spec/replicas, value: 2}]'\n- target: {kind: Gone}\n  patch: '[{op: remove, path: /spec}]'\n",
        ),
        ("web.yaml", WEB),
        (
            "patch.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, labels: {a: null, b: 1}}\n",
        ),
    ]);
    assert!(found.contains("  labels:\n    a: \"null\"\n    b: \"1\"\n"), "{found}");
    assert!(found.contains("  replicas: 2\n"), "{found}");
}
