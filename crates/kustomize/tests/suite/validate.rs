//! `build --validate`: mistakes by the schemas of built-in kinds and of definitions in the build, with their places.

use std::path::Path;

use gantry_kustomize::validate::validate;
use gantry_kustomize::{Memory, Options, build};

use super::run;

/// `file:line:col object path: why` of each problem, and the kinds without a schema.
fn told(files: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let build = run(files).unwrap_or_else(|error| panic!("{error}"));
    let verdict = validate(&build.objects);
    let place = |at: gantry_yaml::Span| {
        let file = build.files.path(at.file()).filter(|_| !at.is_none()).expect("a place");
        format!("{}:{}:{}", file.strip_prefix("/app").unwrap().display(), at.line(), at.column())
    };
    let problems = verdict.problems.iter();
    let problems = problems
        .map(|problem| format!("{} {} {}: {}", place(problem.at), problem.object, problem.path, problem.why));
    (problems.collect(), verdict.unchecked)
}

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replica: 2
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      containers:
      - image: example/web
        ports:
        - containerPort: http
";

const DEFINITION: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: widgets.example.com
spec:
  group: example.com
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, minimum: 1}
              colour: {type: string, enum: [red, blue], default: red}
              parts:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items: {type: object, properties: {name: {type: string}}}
            x-kubernetes-validations:
            - {rule: 'self.size < 10', message: 'may not be that large'}
";

#[test]
fn built_in_kinds_are_checked_with_places() {
    let (problems, unchecked) =
        told(&[("web.yaml", WEB), ("kustomization.yaml", "resources: [web.yaml]\nnamespace: shop\n")]);
    assert_eq!(
        problems,
        [
            "web.yaml:6:12 Deployment/web in shop spec.replica: unknown field, did you mean replicas?",
            "web.yaml:14:26 Deployment/web in shop spec.template.spec.containers[0].ports[0].containerPort: must be an integer, found a string",
            "web.yaml:12:9 Deployment/web in shop spec.template.spec.containers[0].name: missing, a Container needs it",
        ]
    );
    assert!(unchecked.is_empty());
}

#[test]
fn a_mistake_in_a_patch_is_told_by_the_patch() {
    let sound = WEB
        .replace("  replica: 2\n", "")
        .replace("- image: example/web", "- name: web")
        .replace("http", "80");
    let (problems, _) = told(&[
        ("web.yaml", &sound),
        ("kustomization.yaml", "resources: [web.yaml]\npatches: [{path: patch.yaml}]\n"),
        (
            "patch.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  paused: 'no'\n",
        ),
    ]);
    assert_eq!(
        problems,
        ["patch.yaml:5:11 Deployment/web spec.paused: must be true or false, found a string"]
    );
}

#[test]
fn custom_resources_are_checked_by_the_definition_in_the_build() {
    let widget = |name: &str, spec: &str| {
        format!("apiVersion: example.com/v1\nkind: Widget\nmetadata: {{name: {name}}}\nspec:\n{spec}")
    };
    let (a, b, c) = (
        widget("a", "  sise: 1\n  colour: blu\n"),
        widget("b", "  size: 20\n  parts: [{name: x}, {name: x}]\n"),
        widget("c", "  size: 2\n"),
    );
    let newer = c.replace("example.com/v1", "example.com/v2").replace("name: c", "name: d");
    let (problems, unchecked) = told(&[
        ("crd.yaml", DEFINITION),
        ("a.yaml", &a),
        ("b.yaml", &b),
        ("c.yaml", &c),
        ("d.yaml", &newer),
        ("kustomization.yaml", "resources: [crd.yaml, a.yaml, b.yaml, c.yaml, d.yaml]\n"),
    ]);
    assert_eq!(
        problems,
        [
            "a.yaml:5:9 Widget/a spec.sise: unknown field, did you mean size?",
            "a.yaml:6:11 Widget/a spec.colour: \"blu\" is not supported, did you mean \"blue\"?",
            "a.yaml:5:3 Widget/a spec.size: missing, its schema requires it",
            "b.yaml:6:22 Widget/b spec.parts[1]: {\"name\":\"x\"} is there twice",
            "b.yaml:5:3 Widget/b spec: may not be that large",
            "d.yaml:1:13 Widget/d apiVersion: its definition has no version v2, known is v1",
        ]
    );
    assert!(unchecked.is_empty(), "{unchecked:?}");
}

#[test]
fn a_kind_that_is_not_known_is_told_apart_from_one_that_cannot_be() {
    let object = |api_version: &str, kind: &str| {
        format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x, label: {{}}}}\n")
    };
    let (a, b, c, d) = (
        object("apps/v1beta1", "Deployment"),
        object("v1", "ConfigMapp"),
        object("example.com/v1", "Widget"),
        object("apps/v2", "Deployment"),
    );
    let (problems, unchecked) = told(&[
        ("a.yaml", &a),
        ("b.yaml", &b),
        ("c.yaml", &c),
        ("d.yaml", &d),
        ("kustomization.yaml", "resources: [a.yaml, b.yaml, c.yaml, d.yaml]\nsortOptions: {order: fifo}\n"),
    ]);
    assert_eq!(
        problems,
        [
            "a.yaml:1:13 Deployment/x apiVersion: Kubernetes 1.36 does not serve Deployment in apps/v1beta1, known is apps/v1",
            "a.yaml:3:28 Deployment/x metadata.label: unknown field, did you mean labels?",
            "b.yaml:3:28 ConfigMapp/x metadata.label: unknown field, did you mean labels?",
            "b.yaml:2:7 ConfigMapp/x kind: there is no ConfigMapp in v1, did you mean ConfigMap?",
            "c.yaml:3:28 Widget/x metadata.label: unknown field, did you mean labels?",
            "d.yaml:3:28 Deployment/x metadata.label: unknown field, did you mean labels?",
            "d.yaml:1:13 Deployment/x apiVersion: there is no Deployment in apps/v2, known is apps/v1",
        ]
    );
    assert_eq!(unchecked, ["example.com/v1 Widget"]);
}

#[test]
fn lists_of_custom_resources_merge_by_their_definition_when_that_is_asked_for() {
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a}\nspec:\n  size: 1\n  parts: [{name: x, n: 1}, {name: y, n: 2}]\n";
    let patch =
        "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a}\nspec:\n  parts: [{name: y, n: 3}]\n";
    let files = [
        ("crd.yaml", DEFINITION),
        ("widget.yaml", widget),
        ("patch.yaml", patch),
        ("kustomization.yaml", "resources: [crd.yaml, widget.yaml]\npatches: [{path: patch.yaml}]\n"),
    ];
    let mut fs = Memory::default();
    for (path, text) in files {
        fs.insert(format!("/app/{path}"), text);
    }
    let parts = |merge_by_definitions: bool| {
        let options = Options { merge_by_definitions, ..Options::default() };
        let build = build(&fs, Path::new("/app"), &options).unwrap_or_else(|error| panic!("{error}"));
        let widget =
            build.objects.iter().find(|object| object.str_at(&["kind"]) == Some("Widget")).unwrap().clone();
        format!("{:?}", widget.at(&["spec", "parts"]).unwrap())
    };
    assert_eq!(parts(false), r#"[{"name":"y","n":3}]"#, "as kustomize does");
    assert_eq!(parts(true), r#"[{"name":"y","n":3},{"name":"x","n":1}]"#, "what is patched comes first");
}
