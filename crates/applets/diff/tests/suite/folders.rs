//! Two directories: builds, plain manifests, and what is neither.

use super::Project;

const WEB: &str = "\
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
";

fn overlays() -> Project {
    Project::new(&[
        ("base/web.yaml", WEB),
        (
            "base/kustomization.yaml",
            "resources: [web.yaml]\nconfigMapGenerator:\n- {name: settings, literals: [mode=slow]}\nsecretGenerator:\n- {name: key, literals: [word=hunter2], options: {disableNameSuffixHash: true}}\n",
        ),
        ("dev/kustomization.yaml", "resources: [../base]\nnamePrefix: dev-\nnamespace: dev\n"),
        (
            "prod/kustomization.yaml",
            "resources: [../base, extra.yaml]\nnamePrefix: prod-\nnamespace: prod\nreplicas: [{name: web, count: 3}]\nconfigMapGenerator:\n- {name: settings, behavior: merge, literals: [mode=fast]}\nsecretGenerator:\n- {name: key, behavior: merge, literals: [word=hunter3]}\n",
        ),
        (
            "prod/extra.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: extra}\nspec: {ports: [{port: 80}]}\n",
        ),
    ])
}

#[test]
fn overlays_are_compared_by_what_their_objects_were_called() {
    let project = overlays();
    let told = project.told(&["@dev", "@prod"]);
    for line in [
        "changed Deployment/prod-web in prod (was Deployment/dev-web in dev)\n",
        "  metadata.name: dev-web → prod-web\n",
        "  spec.replicas: 1 → 3\n",
        "  data.mode: slow → fast\n",
        "added Service/prod-extra in prod\n",
        "changed Secret/prod-key in prod (was Secret/dev-key in dev)\n",
        "  data.word: (…) → (…)\n",
        "3 changed, 1 added, 0 removed, 0 unchanged\n",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains("hunter") && !told.contains("aHVudGVy"), "{told}");
    // A hash belongs to its name: the ConfigMap is the same object in both.
    assert!(told.contains("changed ConfigMap/prod-settings-"), "{told}");
    assert!(project.told(&["@prod", "@dev"]).contains("removed Service/prod-extra in prod\n"));
}

#[test]
fn json_has_places() {
    let project = overlays();
    let report = project.compare(&["@dev", "@prod"]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    let objects = json["objects"].as_array().unwrap();
    let web = objects.iter().find(|object| object["object"]["name"] == "prod-web").unwrap();
    assert_eq!((&web["change"], &web["was"]["name"]), (&"changed".into(), &"dev-web".into()));
    let replicas =
        web["fields"].as_array().unwrap().iter().find(|field| field["path"] == "spec.replicas").unwrap();
    assert_eq!((&replicas["old"], &replicas["new"]), (&1.into(), &3.into()));
    assert_eq!(web["at"], format!("{}:1:1", project.path("base/web.yaml")));
    assert!(!report.to_json().contains("hunter") && !report.to_json().contains("aHVudGVy"));
}

#[test]
fn the_same_is_the_same() {
    let project = overlays();
    let report = project.compare(&["@dev", "@dev"]).unwrap();
    assert!(report.is_empty());
    assert_eq!((report.same, report.to_text(false).as_str()), (3, ""));
}

#[test]
fn folders_of_manifests_are_read_as_they_are() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n  spec: {ports: [{port: 81}]}\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: p}\n";
    let project = Project::new(&[
        ("old/a.yaml", service),
        ("old/notes.txt", "no manifest"),
        ("new/list.yml", list),
        ("new/below/more.json", r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"q"}}"#),
    ]);
    assert_eq!(
        project.told(&["@old", "@new"]),
        "changed Service/a\n  spec.ports[port=81]: – → {\"port\":81}\n  spec.ports[port=80]: {\"port\":80} → –\nadded Pod/p\n1 changed, 1 added, 0 removed, 0 unchanged\n"
    );
    assert!(project.told(&["@old", "@new", "-R"]).contains("added Pod/q\n"));
}

#[test]
fn what_cannot_be_compared_says_why() {
    let project = Project::new(&[
        ("empty/notes.txt", "nothing"),
        ("broken/a.yaml", "kind: [\n"),
        ("nameless/a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {}\n"),
        ("fine/a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"),
    ]);
    let error = |words: &[&str]| project.compare(words).unwrap_err();
    assert!(error(&["@empty", "@fine"]).contains("no kustomization and no manifest"));
    assert!(error(&["@broken", "@fine"]).contains("broken/a.yaml:"), "{}", error(&["@broken", "@fine"]));
    assert!(error(&["@nameless", "@fine"]).contains("nameless/a.yaml:1:1: an object without metadata.name"));
    assert!(error(&["@fine"]).contains("another directory, or --cluster"));
    assert!(error(&["@fine", "@fine", "--cluster"]).contains("name one"));
    assert!(error(&[]).contains("two directories, or one and --cluster"));
    assert!(error(&["@missing", "@fine"]).contains("missing"));
}
