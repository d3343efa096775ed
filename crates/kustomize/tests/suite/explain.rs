//! Which file and line set each value, and what every layer changed on the way.

use std::path::Path;

use gantry_apimachinery::difference::in_short;
use gantry_apimachinery::{FieldPath, Value};
use gantry_kustomize::explain::{Explained, NotFound, Wanted, WantedKind, explain};
use gantry_kustomize::{Doors, Memory, Options, Source};
use gantry_yaml::Span;

use super::built;

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 1
  template:
    spec:
      containers:
      - name: web
        image: example/web:1
        envFrom:
        - configMapRef: {name: settings}
      - name: log
        image: example/log:1
";

const SHOP: &[(&str, &str)] = &[
    ("base/web.yaml", DEPLOYMENT),
    ("base/app.conf", "colour=red\n"),
    (
        "base/kustomization.yaml",
        "resources:\n- web.yaml\nconfigMapGenerator:\n- name: settings\n  files:\n  - app.conf\n  literals:\n  - mode=slow\n",
    ),
    (
        "debug/kustomization.yaml",
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches:\n- path: patch.yaml\n",
    ),
    (
        "debug/patch.yaml",
        "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec:
      containers:
      - name: web
        args: [--debug]
      - name: log
        $patch: delete
",
    ),
    (
        "over/kustomization.yaml",
        "\
resources:
- ../base
components:
- ../debug
namePrefix: dev-
namespace: shop
labels:
- pairs:
    team: blue
  includeSelectors: false
images:
- name: example/web
  newTag: '2'
replicas:
- name: web
  count: 3
configMapGenerator:
- name: settings
  behavior: merge
  literals:
  - mode=fast
patches:
- target: {kind: Deployment}
  path: json.yaml
",
    ),
    (
        "over/json.yaml",
        "- op: add\n  path: /spec/paused\n  value: true\n- op: remove\n  path: /spec/template/spec/containers/0/envFrom/0/configMapRef/optional\n",
    ),
];

fn shop() -> Vec<(&'static str, String)> {
    let text = |path: &str, text: &str| match path {
        // What the last operation takes away.
        "base/web.yaml" => text.replace("{name: settings}", "{name: settings, optional: true}"),
        _ => text.to_owned(),
    };
    SHOP.iter().map(|(path, content)| (*path, text(path, content))).collect()
}

fn explained(files: &[(&str, &str)]) -> Explained {
    let mut fs = Memory::default();
    for (path, text) in files {
        fs.insert(format!("/app/{path}"), *text);
    }
    let overlay = files.iter().any(|(path, _)| path.starts_with("over/"));
    let dir = Path::new(if overlay { "/app/over" } else { "/app" });
    explain(&fs, Doors::closed(), Source::Directory(dir), &Options::default())
        .unwrap_or_else(|error| panic!("{error}"))
}

fn wanted<'a>(kind: &str, name: &'a str) -> Wanted<'a> {
    let kind = WantedKind { kind: kind.to_owned(), ..WantedKind::default() };
    Wanted { kinds: vec![kind], name, namespace: None }
}

fn place(explained: &Explained, at: Span) -> String {
    match explained.file(at) {
        Some(file) => {
            format!("{}:{}:{}", file.strip_prefix("/app").unwrap().display(), at.line(), at.column())
        }
        None => "-".to_owned(),
    }
}

/// `layer field place old → new` of each step that a field went through.
fn told(explained: &Explained, kind: &str, name: &str, field: &str) -> Vec<String> {
    let history = explained.object(&wanted(kind, name)).unwrap_or_else(|error| panic!("{error}"));
    let fields =
        history.fields(&FieldPath::parse(field).unwrap()).unwrap_or_else(|missing| panic!("{missing:?}"));
    assert_eq!(fields.len(), 1);
    let mut lines = Vec::new();
    for step in &fields[0].steps {
        let layer = explained.layer(step.step).unwrap();
        let below = if step.path == fields[0].path { String::new() } else { format!(" {}", step.path) };
        lines.push(format!(
            "{} {} {}{below} {} → {}",
            layer.kind.name(),
            step.step.field,
            place(explained, step.at),
            in_short(step.old, 60),
            in_short(step.new, 60)
        ));
    }
    lines.push(format!("set at {}", place(explained, fields[0].set_at)));
    lines
}

fn with(files: &[(&'static str, String)]) -> Explained {
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    explained(&files)
}

#[test]
fn a_value_is_followed_through_all_layers() {
    let shop = with(&shop());
    assert_eq!(
        told(&shop, "Deployment", "dev-web", "spec.template.spec.containers[name=web].image"),
        [
            "base resources[0] base/web.yaml:11:16 – → example/web:1",
            "overlay images[0] over/kustomization.yaml:12:3 example/web:1 → example/web:2",
            "set at over/kustomization.yaml:12:3"
        ]
    );
    assert_eq!(
        told(&shop, "Deployment", "web", "metadata.name"),
        [
            "base resources[0] base/web.yaml:4:9 – → web",
            "overlay namePrefix over/kustomization.yaml:5:13 web → dev-web",
            "set at over/kustomization.yaml:5:13"
        ]
    );
    assert_eq!(
        told(&shop, "Deployment", "web", "metadata.labels.team"),
        ["overlay labels[0] over/kustomization.yaml:9:11 – → blue", "set at over/kustomization.yaml:9:11"]
    );
    assert_eq!(
        told(&shop, "Deployment", "web", "spec.replicas"),
        [
            "base resources[0] base/web.yaml:6:13 – → 1",
            "overlay replicas[0] over/kustomization.yaml:15:3 1 → 3",
            "set at over/kustomization.yaml:15:3"
        ]
    );
}

#[test]
fn patches_are_told_by_their_own_files() {
    let shop = with(&shop());
    assert_eq!(
        told(&shop, "Deployment", "web", "spec.template.spec.containers[name=web].args"),
        ["component patches[0] debug/patch.yaml:10:15 – → [\"--debug\"]", "set at debug/patch.yaml:10:15"]
    );
    assert_eq!(
        told(&shop, "Deployment", "web", "spec.paused"),
        ["overlay patches[0] over/json.yaml:3:10 – → true", "set at over/json.yaml:3:10"]
    );
    let containers = told(&shop, "Deployment", "web", "spec.template.spec.containers");
    let has =
        |part: &str| assert!(containers.iter().any(|line| line.contains(part)), "{part}: {containers:#?}");
    // What a patch takes away is told by the place where it says so.
    has("component patches[0] debug/patch.yaml:11:9 spec.template.spec.containers[name=log]");
    has(
        "overlay patches[0] over/json.yaml:4:3 spec.template.spec.containers[name=web].envFrom[0].configMapRef.optional true → –",
    );
}

#[test]
fn generated_data_comes_from_its_source() {
    let shop = with(&shop());
    assert_eq!(
        told(&shop, "ConfigMap", "settings", "data[app.conf]"),
        ["base configMapGenerator[0] base/app.conf:1:1 – → colour=red⏎", "set at base/app.conf:1:1"]
    );
    assert_eq!(
        told(&shop, "ConfigMap", "settings", "data.mode"),
        [
            "base configMapGenerator[0] base/kustomization.yaml:8:5 – → slow",
            "overlay configMapGenerator[0] over/kustomization.yaml:21:5 slow → fast",
            "set at over/kustomization.yaml:21:5"
        ]
    );
    let name = told(&shop, "ConfigMap", "settings", "metadata.name");
    assert!(
        name[1].starts_with("overlay namePrefix over/kustomization.yaml:5:13 settings → dev-settings"),
        "{name:?}"
    );
    assert!(
        name[2]
            .starts_with("overlay nameSuffixHash base/kustomization.yaml:4:3 dev-settings → dev-settings-"),
        "{name:?}"
    );
    let reference = told(
        &shop,
        "Deployment",
        "web",
        "spec.template.spec.containers[name=web].envFrom[0].configMapRef.name",
    );
    assert!(
        reference[1]
            .starts_with("overlay nameReference base/kustomization.yaml:4:3 settings → dev-settings-"),
        "{reference:?}"
    );
}

#[test]
fn all_layers_of_an_object_are_told_in_order() {
    let shop = with(&shop());
    let history = shop.object(&wanted("deployment", "web")).unwrap();
    let steps: Vec<String> = history
        .steps()
        .iter()
        .map(|step| {
            let paths: Vec<String> = step.changes.iter().map(|change| change.path.to_string()).collect();
            let layer = shop.layer(step.step).unwrap();
            format!("{} {}: {}", layer.kind.name(), step.step.field, paths.join(" "))
        })
        .collect();
    assert_eq!(
        steps,
        [
            "base resources[0]: ",
            "component patches[0]: spec.template.spec.containers[name=web].args spec.template.spec.containers[name=log]",
            "overlay patches[0]: spec.template.spec.containers[name=web].envFrom[0].configMapRef.optional spec.paused",
            "overlay namespace: metadata.namespace",
            "overlay namePrefix: metadata.name",
            "overlay labels[0]: metadata.labels",
            "overlay replicas[0]: spec.replicas",
            "overlay images[0]: spec.template.spec.containers[name=web].image",
            "overlay nameReference: spec.template.spec.containers[name=web].envFrom[0].configMapRef.name",
        ]
    );
}

#[test]
fn what_is_explained_is_what_is_built() {
    let files = shop();
    let borrowed: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let explained = explained(&borrowed);
    let mut objects: Vec<String> =
        explained.objects().map(|object: &Value| gantry_yaml::emit(object)).collect();
    objects.sort();
    let text = built(&borrowed);
    let mut expected: Vec<&str> = text.split("---\n").collect();
    expected.sort_unstable();
    assert_eq!(objects, expected);
}

#[test]
fn names_that_are_not_there_have_near_misses() {
    let shop = with(&shop());
    let message = |kind: &str, name: &str| shop.object(&wanted(kind, name)).unwrap_err().to_string();
    assert_eq!(
        message("Deployment", "dev-wbe"),
        "Deployment/dev-wbe: the build has no such object, did you mean Deployment/dev-web in shop?"
    );
    assert_eq!(
        message("Service", "dev-web"),
        "Service/dev-web: the build has no such object, did you mean Deployment/dev-web in shop?"
    );
    assert_eq!(
        message("Service", "nothing-like-it"),
        "Service/nothing-like-it: the build has no such object"
    );
    let elsewhere = Wanted { namespace: Some("other"), ..wanted("Deployment", "dev-web") };
    assert!(matches!(shop.object(&elsewhere), Err(NotFound::Nothing { .. })));
    let here = Wanted { namespace: Some("shop"), ..wanted("Deployment", "dev-web") };
    assert!(shop.object(&here).is_ok());
    let history = shop.object(&wanted("Deployment", "dev-web")).unwrap();
    let missing = history
        .fields(&FieldPath::parse("spec.template.spec.containers[name=web].imag").unwrap())
        .unwrap_err();
    assert!(missing.known.contains(&"image".to_owned()), "{missing:?}");
}

#[test]
fn an_object_that_a_patch_took_away_is_told() {
    let gone = explained(&[
        ("web.yaml", DEPLOYMENT),
        ("other.yaml", "apiVersion: v1\nkind: Service\nmetadata:\n  name: other\n"),
        ("kustomization.yaml", "resources: [web.yaml, other.yaml]\npatches:\n- path: gone.yaml\n"),
        ("gone.yaml", "$patch: delete\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n"),
    ]);
    match gone.object(&wanted("Deployment", "web")) {
        Err(NotFound::Removed { field, at, .. }) => {
            assert_eq!((field.as_str(), place(&gone, at).as_str()), ("patches[0]", "gone.yaml:1:1"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_objects_of_a_name_are_told_apart_by_their_namespaces() {
    let service = |namespace: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: {namespace}}}\n")
    };
    let (one, two) = (service("one"), service("two"));
    let both = explained(&[
        ("1.yaml", &one),
        ("2.yaml", &two),
        ("kustomization.yaml", "resources: [1.yaml, 2.yaml]\n"),
    ]);
    let message = both.object(&wanted("Service", "a")).unwrap_err().to_string();
    assert!(message.contains("Service/a in one, Service/a in two"), "{message}");
}

#[test]
fn replacements_json_patches_of_old_and_annotations_are_told() {
    let found = explained(&[
        ("web.yaml", DEPLOYMENT),
        (
            "kustomization.yaml",
            "\
resources: [web.yaml]
commonAnnotations:
  owner: me
replacements:
- source: {kind: Deployment, name: web, fieldPath: metadata.name}
  targets:
  - select: {kind: Deployment}
    fieldPaths: ['spec.template.spec.containers.[name=log].image']
patchesJson6902:
- target: {group: apps, version: v1, kind: Deployment, name: web}
  patch: |-
    - {op: replace, path: /spec/replicas, value: 5}
buildMetadata: [originAnnotations, transformerAnnotations]
",
        ),
    ]);
    assert_eq!(
        told(&found, "Deployment", "web", "spec.template.spec.containers[name=log].image"),
        [
            "base resources[0] web.yaml:15:16 – → example/log:1",
            "base replacements kustomization.yaml:5:1 example/log:1 → web",
            "set at kustomization.yaml:5:1"
        ]
    );
    assert_eq!(
        told(&found, "Deployment", "web", "spec.replicas")[1],
        "base patchesJson6902[0] kustomization.yaml:10:3 1 → 5"
    );
    assert_eq!(
        told(&found, "Deployment", "web", "metadata.annotations.owner"),
        ["base commonAnnotations kustomization.yaml:3:10 – → me", "set at kustomization.yaml:3:10"]
    );
    let origin = told(&found, "Deployment", "web", "metadata.annotations[config.kubernetes.io/origin]");
    assert!(origin[0].starts_with("base buildMetadata kustomization.yaml:13:16"), "{origin:?}");
}
