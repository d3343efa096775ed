//! Changes to a kustomization file: what is touched has upstream's form, everything else keeps its bytes.

use std::path::Path;

use gantry_kustomize::edit::{
    self, Addition, Create, GeneratorChange, GeneratorSources, ImageChange, LabelChange, Outcome, Part,
    PatchEntry, Removal, Setting,
};
use gantry_kustomize::{Error, Memory};

const DIR: &str = "/app";
const FILE: &str = "/app/kustomization.yaml";

fn memory(files: &[(&str, &str)]) -> Memory {
    let mut fs = Memory::default();
    for (path, text) in files {
        fs.insert(format!("/app/{path}"), *text);
    }
    fs
}

fn with(text: &str) -> Memory {
    memory(&[("kustomization.yaml", text), ("a.yaml", ""), ("b.yaml", ""), ("new.yaml", "")])
}

/// What the kustomization file says after the change.
#[track_caller]
fn written(outcome: Result<Outcome, Error>) -> String {
    let outcome = outcome.unwrap_or_else(|error| panic!("{error}"));
    let file = outcome.writes.iter().find(|(path, _)| path == Path::new(FILE));
    file.map(|(_, text)| text.clone()).expect("the kustomization is written")
}

fn added(text: &str, addition: &Addition) -> Result<Outcome, Error> {
    edit::add(&with(text), Path::new(DIR), addition)
}

fn set(text: &str, setting: &Setting) -> Result<Outcome, Error> {
    edit::set(&with(text), Path::new(DIR), setting)
}

fn removed(text: &str, removal: &Removal) -> Result<Outcome, Error> {
    edit::remove(&with(text), Path::new(DIR), removal)
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn resources(paths: &[&str]) -> Addition {
    Addition::Resources { patterns: strings(paths), verify: true }
}

fn pairs(pairs: &[(&str, &str)]) -> edit::Pairs {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn image(name: &str, new_tag: &str) -> Setting {
    Setting::Images(vec![ImageChange {
        name: name.to_owned(),
        new_name: Part::Keep,
        new_tag: Part::Is(new_tag.to_owned()),
        digest: Part::None,
    }])
}

#[track_caller]
fn refused(outcome: Result<Outcome, Error>, message: &str, place: &str) {
    let error = outcome.expect_err("an error");
    assert!(error.message().contains(message), "{error}");
    let found = error.place().unwrap_or_default();
    assert!(found.starts_with(place), "{error}");
    assert_eq!(found.is_empty(), place.is_empty(), "{error}");
}

/// One of everything that a rewrite would lose.
const LIVED_IN: &str = "\
# The shop.
apiVersion: kustomize.config.k8s.io/v1beta1
kind:   Kustomization   # not a Component

RESOURCES:
  # first the base
  - ../base

  - 'a.yaml' # quoted
  # - off.yaml

images:
- newTag: '1.0'   # pinned
  name: web
# the database
- {name: db, newTag: \"14\"}

namePrefix: x-
";

#[test]
fn a_resource_is_added_and_nothing_else_changes() {
    let found = written(added(LIVED_IN, &resources(&["new.yaml"])));
    let expected = LIVED_IN.replace("# quoted\n", "# quoted\n  - new.yaml\n");
    assert_eq!(found, expected);
}

#[test]
fn patterns_name_files_but_not_the_kustomization_or_what_is_listed() {
    let outcome = added("resources:\n- a.yaml\n", &resources(&["*.yaml"])).expect("an outcome");
    assert_eq!(outcome.notes, ["resource a.yaml already in kustomization file"]);
    assert_eq!(written(Ok(outcome)), "resources:\n- a.yaml\n- b.yaml\n- new.yaml\n");
}

#[test]
fn what_is_not_there_is_refused_unless_unverified() {
    refused(added("resources: []\n", &resources(&["gone.yaml"])), "gone.yaml has no match", "");
    let unverified = Addition::Resources { patterns: strings(&["gone.yaml"]), verify: false };
    assert_eq!(written(added("resources: []\n", &unverified)), "resources:\n- gone.yaml\n");
}

#[test]
fn an_image_keeps_the_comments_of_its_entry() {
    let found = written(set(LIVED_IN, &image("web", "2")));
    assert_eq!(found, LIVED_IN.replace("'1.0'", "\"2\""));
    let found = written(set(LIVED_IN, &image("db", "15")));
    assert_eq!(found, LIVED_IN.replace("- {name: db, newTag: \"14\"}", "- name: db\n  newTag: \"15\""));
}

#[test]
fn a_new_image_goes_among_sorted_ones() {
    let text = "images:\n- name: a\n  newTag: x\n# about c\n- name: c\n  newTag: x\n";
    let expected =
        "images:\n- name: a\n  newTag: x\n- name: b\n  newTag: z\n# about c\n- name: c\n  newTag: x\n";
    assert_eq!(written(set(text, &image("b", "z"))), expected);
}

#[test]
fn adding_and_removing_gives_the_same_bytes_again() {
    let shapes = [
        "resources:\n- a.yaml\n",
        "resources: [a.yaml,  b.yaml]   # both\nnamespace: x",
        "resources:\n    - a.yaml\n\n\n# end",
        "namespace: x\r\nresources:\r\n- a.yaml\r\n",
        "# head\n---\nresources:\n- a.yaml # first\n# tail\nnamespace: x\n...\n",
        LIVED_IN,
    ];
    for text in shapes {
        let grown = written(added(text, &resources(&["new.yaml"])));
        assert_ne!(grown, text);
        let shrunk = written(removed(&grown, &Removal::Resources(strings(&["new.*"]))));
        assert_eq!(shrunk, text);
    }
}

#[test]
fn fields_that_become_empty_go() {
    let text = "# why\nresources:\n- a.yaml\n\nnamespace: x\n";
    let found = written(removed(text, &Removal::Resources(strings(&["*"]))));
    assert_eq!(found, "# why\n\nnamespace: x\n");
    let found = written(set("namespace: x # here\nnamePrefix: a-\n", &Setting::NamePrefix(String::new())));
    assert_eq!(found, "namespace: x # here\n");
}

#[test]
fn new_fields_come_at_the_end() {
    let text = "namespace: x\n# tail\n";
    assert_eq!(
        written(set(text, &Setting::NameSuffix("-y".to_owned()))),
        "namespace: x\n# tail\nnameSuffix: -y\n"
    );
    let quoted = written(set(text, &Setting::Namespace("123".to_owned())));
    assert_eq!(quoted, "namespace: \"123\"\n# tail\n");
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let outcome = set("namespace: 'x'\n", &Setting::Namespace("x".to_owned())).expect("an outcome");
    assert!(outcome.writes.is_empty());
    let outcome =
        removed("resources: [a.yaml]\n", &Removal::Resources(strings(&["b*"]))).expect("an outcome");
    assert!(outcome.writes.is_empty());
}

#[test]
fn replicas_are_numbers() {
    let text = "replicas:\n- name: b # one\n  count: 1\n";
    let counts = Setting::Replicas(vec![("b".to_owned(), 5), ("a".to_owned(), 2)]);
    assert_eq!(
        written(set(text, &counts)),
        "replicas:\n- count: 2\n  name: a\n- name: b # one\n  count: 5\n"
    );
}

#[test]
fn labels_go_where_they_reach_as_far() {
    let text = "labels:\n- includeSelectors: true\n  pairs:\n    a: \"1\"\n    b: \"1\"\n- pairs:\n    c: x\ncommonLabels:\n  d: y\n";
    let change = |keys: &[(&str, &str)], include_templates: bool| LabelChange {
        pairs: pairs(keys),
        force: false,
        without_selector: true,
        include_templates,
    };
    let found = written(added(text, &Addition::Labels(change(&[("b", "2")], false))));
    assert_eq!(found, text.replace("- pairs:\n    c: x\n", "- pairs:\n    b: \"2\"\n    c: x\n"));
    let found = written(set(text, &Setting::Labels(change(&[("b", "2"), ("d", "z")], true))));
    let expected = "labels:\n- includeSelectors: true\n  pairs:\n    a: \"1\"\n- pairs:\n    c: x\n\
                    - includeTemplates: true\n  pairs:\n    b: \"2\"\n    d: z\n";
    assert_eq!(found, expected);
    let keys = strings(&["c", "d"]);
    let found = written(removed(text, &Removal::Labels { keys, ignore_missing: false }));
    assert_eq!(found, "labels:\n- includeSelectors: true\n  pairs:\n    a: \"1\"\n    b: \"1\"\n");
}

#[test]
fn labels_and_annotations_are_refused_by_place() {
    let text = "commonLabels:\n  b: x # keep\n  app: y\ncommonAnnotations: {n: m}\n";
    let labels = LabelChange { pairs: pairs(&[("app", "z")]), ..LabelChange::default() };
    let message = "label app already in kustomization file";
    refused(added(text, &Addition::Labels(labels.clone())), message, "/app/kustomization.yaml:3:3\n");
    let forced = written(added(text, &Addition::Labels(LabelChange { force: true, ..labels })));
    assert_eq!(forced, text.replace("app: y", "app: z"));
    let annotations = Addition::Annotations { pairs: pairs(&[("n", "o")]), force: false };
    refused(added(text, &annotations), "annotation n already", "/app/kustomization.yaml:4:21\n");
    let removal = Removal::Annotations { keys: strings(&["q"]), ignore_missing: false };
    refused(removed(text, &removal), "annotation q is not defined", "/app/kustomization.yaml:4:1\n");
}

#[test]
fn a_configmap_is_found_by_name_and_namespace() {
    let text =
        "configMapGenerator:\n- name: cm # mine\n  literals:\n  - a=1 # one\n  - b=2\n  namespace: default\n";
    let sources = GeneratorSources {
        name: "cm".to_owned(),
        literals: strings(&["c=3"]),
        disable_name_suffix_hash: true,
        ..GeneratorSources::default()
    };
    let found = written(added(text, &Addition::ConfigMap(sources.clone())));
    let expected = "configMapGenerator:\n- name: cm # mine\n  literals:\n  - a=1 # one\n  - b=2\n  - c=3\n  \
                    namespace: default\n  options:\n    disableNameSuffixHash: true\n";
    assert_eq!(found, expected);
    let elsewhere = GeneratorSources { namespace: "ns".to_owned(), ..sources };
    let found = written(added(text, &Addition::ConfigMap(elsewhere)));
    let entry =
        "- literals:\n  - c=3\n  name: cm\n  namespace: ns\n  options:\n    disableNameSuffixHash: true\n";
    assert_eq!(found, format!("{text}{entry}"));
}

#[test]
fn a_secret_gets_its_files_by_pattern() {
    let fs = memory(&[
        ("kustomization.yaml", "namespace: x\n"),
        ("tls.crt", "c"),
        ("tls.key", "k"),
        (".env", "A=1\n"),
    ]);
    let secret = |files: &[&str], env_file: &str| {
        Addition::Secret(GeneratorSources {
            name: "tls".to_owned(),
            files: strings(files),
            env_file: env_file.to_owned(),
            secret_type: "kubernetes.io/tls".to_owned(),
            ..GeneratorSources::default()
        })
    };
    let add = |addition: &Addition| edit::add(&fs, Path::new(DIR), addition);
    let expected = "namespace: x\nsecretGenerator:\n- files:\n  - tls.crt\n  - tls.key\n  name: tls\n  type: kubernetes.io/tls\n";
    assert_eq!(written(add(&secret(&["tls.*"], ""))), expected);
    let expected = "namespace: x\nsecretGenerator:\n- files:\n  - cert=tls.crt\n  name: tls\n  type: kubernetes.io/tls\n";
    assert_eq!(written(add(&secret(&["cert=*.crt"], ""))), expected);
    let expected =
        "namespace: x\nsecretGenerator:\n- envs:\n  - .env\n  name: tls\n  type: kubernetes.io/tls\n";
    assert_eq!(written(add(&secret(&[], ".env"))), expected);
    refused(add(&secret(&["key=tls.*"], "")), "should catch only one", "");
    refused(add(&secret(&[], "")), "at least from-env-file, or from-file or from-literal must be set", "");
    refused(add(&secret(&[], "gone.env")), "gone.env", "/app/kustomization.yaml:1:1\n");
}

#[test]
fn literals_change_in_place() {
    let text = "configMapGenerator:\n- name: other\n  literals: [a=1]\n- name: cm\n  # sizes\n  literals:\n  - a=1\n  - b=x=y\n";
    let change = |literals: &[&str], namespace: &str| {
        Setting::ConfigMap(GeneratorChange {
            name: "cm".to_owned(),
            namespace: namespace.to_owned(),
            literals: strings(literals),
            new_namespace: String::new(),
        })
    };
    let found = written(set(text, &change(&["a=2"], "default")));
    assert_eq!(found, text.replace("  - a=1\n  - b", "  - a=2\n  - b"));
    refused(
        set(text, &change(&["c=2"], "")),
        "key 'c' not found in resource",
        "/app/kustomization.yaml:4:3\n",
    );
    let message = "unable to find ConfigMap with name \"cm\"";
    refused(set(text, &change(&["a=2"], "ns")), message, "/app/kustomization.yaml:1:1\n");
}

#[test]
fn patches_are_the_same_when_every_part_is() {
    let text = "patches:\n- path: p.yaml # mine\n  target: {kind: Deployment}\n- path: p.yaml\n";
    let entry =
        |kind: &str| PatchEntry { path: "p.yaml".to_owned(), kind: kind.to_owned(), ..PatchEntry::default() };
    let outcome = added(text, &Addition::Patch(entry("Deployment"))).expect("an outcome");
    assert!(outcome.writes.is_empty());
    assert_eq!(outcome.notes, ["patch p.yaml already in kustomization file"]);
    let found = written(added(text, &Addition::Patch(entry("Service"))));
    assert_eq!(found, format!("{text}- path: p.yaml\n  target:\n    kind: Service\n"));
    let found = written(removed(text, &Removal::Patch(entry(""))));
    assert_eq!(found, "patches:\n- path: p.yaml # mine\n  target: {kind: Deployment}\n");
    let inline = PatchEntry { patch: "- op: remove\n  path: /x\n".to_owned(), ..PatchEntry::default() };
    let found = written(added(text, &Addition::Patch(inline)));
    assert_eq!(found, format!("{text}- patch: |\n    - op: remove\n      path: /x\n"));
}

#[test]
fn build_metadata_is_a_list_of_words() {
    let text = "buildMetadata: [originAnnotations]\n";
    let words = strings(&["originAnnotations"]);
    let message = "buildMetadata option originAnnotations already";
    refused(added(text, &Addition::BuildMetadata(words.clone())), message, "/app/kustomization.yaml:1:17\n");
    let both = strings(&["originAnnotations", "managedByLabel"]);
    let found = written(set(text, &Setting::BuildMetadata(both)));
    assert_eq!(found, "buildMetadata: [originAnnotations, managedByLabel]\n");
    assert_eq!(written(removed(text, &Removal::BuildMetadata(words))), "");
}

#[test]
fn files_that_cannot_be_edited_say_where() {
    let change = Setting::Namespace("y".to_owned());
    refused(
        set("namespace: x\nnamspace: y\n", &change),
        "unknown field `namspace`",
        "/app/kustomization.yaml:2:1\n",
    );
    refused(set("{namespace: x}\n", &change), "in braces", "/app/kustomization.yaml:1:1\n");
    refused(set("namespace: x\nnamespace: z\n", &change), "already defined", "/app/kustomization.yaml:2:1\n");
    refused(
        set("namespace: x\n---\nnamespace: z\n", &change),
        "one document",
        "/app/kustomization.yaml:3:1\n",
    );
    let aliased = "resources: &r [a.yaml]\ncomponents: *r\n";
    let addition = Addition::Generators(strings(&["b.yaml"]));
    assert_eq!(written(added(aliased, &addition)), format!("{aliased}generators:\n- b.yaml\n"));
    let message = "the field 'resources' cannot be changed";
    refused(added(aliased, &resources(&["new.yaml"])), message, "/app/kustomization.yaml:1:1\n");
    let error = edit::set(&memory(&[("a.yaml", "")]), Path::new(DIR), &change).expect_err("no file");
    assert!(error.to_string().contains("Missing kustomization file 'kustomization.yaml'"), "{error}");
}

#[test]
fn generators_go_by_name_and_namespace() {
    let text = "secretGenerator:\n- name: a\n  literals: [x=1]\n# about b\n- name: b\n  namespace: ns\n";
    let removal = |names: &[&str], namespace: &str| Removal::Secrets {
        names: strings(names),
        namespace: namespace.to_owned(),
    };
    let outcome = removed(text, &removal(&["a", "b"], "")).expect("an outcome");
    assert_eq!(outcome.notes, ["secret b doesn't exist in kustomization file"]);
    assert_eq!(written(Ok(outcome)), "secretGenerator:\n# about b\n- name: b\n  namespace: ns\n");
    let message = "no specified secret(s) were found in the kustomization.yaml file";
    refused(removed(text, &removal(&["b"], "")), message, "/app/kustomization.yaml:1:1\n");
}

// === create ===

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n";

#[test]
fn a_kustomization_is_made_in_upstreams_order() {
    let fs = memory(&[("b.yaml", SERVICE), ("a.yaml", SERVICE)]);
    let create = Create {
        resources: strings(&["b.yaml", "*.yaml"]),
        namespace: "n".to_owned(),
        name_prefix: "p-".to_owned(),
        name_suffix: "-s".to_owned(),
        annotations: pairs(&[("note", "1")]),
        labels: pairs(&[("b", "x"), ("a", "")]),
        ..Create::default()
    };
    let found = written(edit::create(&fs, Path::new(DIR), &create));
    let expected = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- b.yaml\n- a.yaml\n\
                    - b.yaml\nnamePrefix: p-\nnameSuffix: -s\nnamespace: \"n\"\ncommonLabels:\n  a: \"\"\n  b: x\n\
                    commonAnnotations:\n  note: \"1\"\n";
    assert_eq!(found, expected);
}

#[test]
fn resources_are_detected() {
    let mut fs = memory(&[
        ("test.yaml", SERVICE),
        ("README.md", "# Not an object\nText: with a colon, and no kind.\n"),
        ("empty.yaml", "# nothing\n"),
        ("values.yaml", "other: yaml\n"),
        ("sub/test.yaml", SERVICE),
        ("sub/deeper/two.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n---\nkind: X\n"),
        ("overlay/kustomization.yml", "resources: [test.yaml]\n"),
        ("overlay/test.yaml", SERVICE),
    ]);
    let detect = |fs: &Memory, recursive: bool| {
        edit::create(fs, Path::new(DIR), &Create { autodetect: true, recursive, ..Create::default() })
    };
    let head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n";
    assert_eq!(written(detect(&fs, false)), format!("{head}- test.yaml\n"));
    assert_eq!(written(detect(&fs, true)), format!("{head}- overlay\n- sub/test.yaml\n- test.yaml\n"));
    fs.insert("/app/Kustomization", "");
    refused(detect(&fs, false), "kustomization file already exists: /app/Kustomization", "");
}

// === fix ===

fn fixed(files: &[(&str, &str)], vars: bool) -> Outcome {
    edit::fix(&memory(files), Path::new(DIR), vars).unwrap_or_else(|error| panic!("{error}"))
}

const IDENTITY: &str = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";

#[test]
fn deprecated_fields_are_moved_with_their_comments() {
    let text = "# head\nbases:\n# the base\n- ../base # by all\nresources:\n  - a.yaml\n\n# for pods\ncommonLabels:\n  app: x\n\
                configMapGenerator:\n- name: c\n  env: e.env\nimageTags:\n- name: i\n  newTag: \"1\"\n";
    let outcome = fixed(&[("kustomization.yaml", text), ("a.yaml", SERVICE)], false);
    let report = "Fixed fields:\n  bases -> resources\n  imageTags -> images\n  env -> envs\n  commonLabels -> labels\n";
    assert_eq!(outcome.report, report);
    let expected = "# head\nresources:\n  - a.yaml\n  # the base\n  - ../base # by all\n\n# for pods\n\
                    configMapGenerator:\n- envs:\n  - e.env\n  name: c\n";
    let added = format!(
        "{IDENTITY}labels:\n- includeSelectors: true\n  pairs:\n    app: x\nimages:\n- name: i\n  newTag: \"1\"\n"
    );
    assert_eq!(written(Ok(outcome)), format!("{expected}{added}"));
}

#[test]
fn patches_of_all_kinds_come_together() {
    let text = "patchesStrategicMerge:\n# first\n- one.yaml   # 1\n- two.yaml\n- |-\n  kind: X\n  x: 1\npatchesJson6902:\n- path: j.json\n  target:\n    kind: Pod\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";
    let two = format!("{pod}---\n{pod}--- # end\n");
    let outcome = fixed(
        &[("kustomization.yaml", text), ("one.yaml", pod), ("two.yaml", &two), ("two-1.yaml", "taken")],
        false,
    );
    let file = |name: &str| {
        let path = Path::new(DIR).join(name);
        outcome.writes.iter().find(|(written, _)| *written == path).map(|(_, text)| text.as_str())
    };
    let expected = "patches:\n- path: j.json\n  target:\n    kind: Pod\n# first\n- path: one.yaml   # 1\n- path: two-1-1.yaml\n\
                    - path: two-2.yaml\n- patch: |-\n    kind: X\n    x: 1\n";
    assert_eq!(file("kustomization.yaml"), Some(format!("{IDENTITY}{expected}").as_str()));
    assert_eq!(file("two-1-1.yaml"), Some(pod));
    assert_eq!(file("two-2.yaml"), Some(pod));
    assert_eq!(outcome.removals, [Path::new("/app/two.yaml")]);
}

#[test]
fn charts_and_what_they_share_come_apart() {
    let text = "helmChartInflationGenerator:\n- chartName: mc\n  chartVersion: 1.0.0\n  chartHome: ./charts\n  releaseName: r\n";
    let outcome = fixed(&[("kustomization.yaml", text)], false);
    let expected =
        "helmCharts:\n- name: mc\n  releaseName: r\n  version: 1.0.0\nhelmGlobals:\n  chartHome: ./charts\n";
    assert_eq!(written(Ok(outcome)), format!("{IDENTITY}{expected}"));
}

#[test]
fn a_label_in_both_places_is_refused() {
    let text = "commonLabels:\n  foo: bar\nlabels:\n- pairs:\n    foo: baz\n";
    let outcome = edit::fix(&memory(&[("kustomization.yaml", text)]), Path::new(DIR), false);
    refused(outcome, "label name 'foo' exists in both", "/app/kustomization.yaml:2:3\n");
}

#[test]
fn variables_become_replacements_that_build_the_same() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
    let text = format!(
        "{IDENTITY}\nresources:\n- base\n\npatches:\n- path: patch.yaml\n  target: {{kind: Pod}}\n\n# names\nvars:\n- name: S\n  objref:\n    \
         kind: Secret\n    name: s\n    apiVersion: v1\n"
    );
    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations:\n    a.b: $(S) # note\nspec:\n  containers:\n  - name: c\n    \
               args: [\"x/$(S)/y\"]\n";
    let patch = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels: {l: $(S)}\n";
    let outcome = fixed(
        &[
            ("kustomization.yaml", &text),
            ("patch.yaml", patch),
            ("base/kustomization.yaml", "resources: [pod.yaml, secret.yaml]\n"),
            ("base/pod.yaml", pod),
            ("base/secret.yaml", secret),
        ],
        true,
    );
    assert_eq!(outcome.report, "Fixed fields:\n  vars -> replacements\n");
    assert_eq!(outcome.notes, Vec::<String>::new());
    let base_pod = outcome.writes.iter().find(|(path, _)| path.ends_with("base/pod.yaml"));
    assert_eq!(base_pod.map(|(_, text)| text.clone()), Some(pod.replace("$(S)", "S_PLACEHOLDER")));
    let targets = "replacements:\n- source:\n    kind: Secret\n    name: s\n    version: v1\n  targets:\n  - fieldPaths:\n    \
                   - metadata.annotations.[a.b]\n    select:\n      kind: Pod\n      name: p\n      version: v1\n  - fieldPaths:\n    \
                   - spec.containers.0.args.0\n    options:\n      delimiter: /\n      index: 1\n    select:\n      kind: Pod\n      \
                   name: p\n      version: v1\n  - fieldPaths:\n    - metadata.labels.l\n    select:\n      kind: Pod\n";
    let kept = text.split("vars:").next().unwrap_or_default();
    assert_eq!(written(Ok(outcome)), format!("{kept}{targets}"));
}

#[test]
fn a_variable_without_delimiters_is_refused() {
    let files = [
        (
            "kustomization.yaml",
            "resources: [pod.yaml]\nvars:\n- name: S\n  objref: {kind: Secret, name: s, apiVersion: v1}\n",
        ),
        ("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {a: \"x$(S)/y\"}}\n"),
    ];
    let outcome = edit::fix(&memory(&files), Path::new(DIR), true);
    let message = "error with pod.yaml: cannot convert all vars to replacements; $(S) is not delimited";
    refused(outcome, message, "/app/kustomization.yaml:3:3\n");
    assert!(fixed(&files, false).report.contains("edit fix --vars"));
}
