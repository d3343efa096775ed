//! The same builds by the real kustomize inside kubectl: what it prints, and what it asks helm and docker.

use std::process::Command;

use gantry_kustomize::{FunctionOptions, HelmOptions, Options};

use super::functions::Engine;
use super::{POD, Project, git, has_git};

/// What kubectl prints for the folder `app`, with our scripts first on PATH; `None` where there is no kubectl.
fn kubectl(project: &Project, arguments: &[&str]) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("kubectl")
        .arg("kustomize")
        .args(arguments)
        .arg(project.path("app"))
        .env("PATH", format!("{}:{path}", project.path("bin").display()))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output();
    let Ok(output) = output else {
        println!("skipped: kubectl not found");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// What a script wrote down, which is then forgotten.
fn take(project: &Project, file: &str) -> String {
    let path = project.path("bin").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    drop(std::fs::remove_file(path));
    text
}

#[test]
fn a_repository_is_built_as_kubectl_builds_it() {
    if !has_git() {
        return;
    }
    let project = Project::new(&[
        (
            "work/base/kustomization.yaml",
            "resources: [pod.yaml]\nconfigMapGenerator: [{name: c, files: [pod.yaml]}]\n",
        ),
        ("work/base/pod.yaml", POD),
        ("work/over/kustomization.yaml", "resources: [../base]\nnamePrefix: over-\n"),
    ]);
    let work = project.path("work");
    git(&work, &["init", "-q"]);
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", "first"]);
    git(&work, &["tag", "v1"]);
    git(project.folder.path(), &["clone", "-q", "--bare", "work", "repo.git"]);
    let repository = format!("file://{}", project.path("repo.git").display());
    project.write(
        "app/kustomization.yaml",
        &format!("nameSuffix: -x\nresources: ['{repository}//over?ref=v1', '{repository}/base']\nbuildMetadata: [originAnnotations]\n"),
    );
    let Some(expected) = kubectl(&project, &[]) else { return };
    let found = project.build(&project.fetcher(false), &Options::default()).unwrap();
    assert_eq!(found.to_yaml(), expected);
}

#[test]
fn helm_is_asked_what_kubectl_asks_it() {
    let project = Project::new(&[
        ("app/charts/web/values.yaml", "replicas: 2\nimage: {tag: '1'}\nlist: [1, 2]\nnothing: null\n"),
        ("app/more.yaml", "a: 1\n"),
        (
            "app/kustomization.yaml",
            "helmGlobals: {configHome: /tmp/none}\nhelmCharts:\n- name: web\n  releaseName: r\n  namespace: shop\n  nameTemplate: t\n  includeCRDs: true\n  skipTests: true\n  skipHooks: true\n  apiVersions: [a/v1, b/v1]\n  additionalValuesFiles: [more.yaml]\n  valuesInline: {replicas: 3, list: [], image: {pull: Always}, gone: null}\n- name: other\n  version: 1.2.3\n  repo: https://charts.example\n  valuesMerge: merge\n  valuesInline: {replicas: 9, b: 1}\n",
        ),
    ]);
    let helm = "#!/bin/sh\nhere=$(dirname \"$0\")\necho \"$@\" >> \"$here/asked\"\nenv | grep ^HELM_ | sort >> \"$here/homes\"\ncase $1 in\nversion) echo v3.14.0 ;;\npull) mkdir -p \"$4/other\"; echo 'replicas: 7' > \"$4/other/values.yaml\" ;;\n*)\n  while [ $# -gt 1 ]; do [ \"$1\" = -f ] && cat \"$2\" >> \"$here/values\" && chart=$(basename \"$2\" | cut -d- -f1); shift; done\n  printf \"apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: c$(wc -l < \"$here/asked\" | tr -d ' ')}\\n\" ;;\nesac\n";
    project.script("bin/helm", helm);
    let command = project.path("bin/helm").to_str().unwrap().to_owned();
    let pulled = project.path("app/charts/other-1.2.3");
    let Some(expected) =
        kubectl(&project, &["--enable-helm", "--helm-command", &command, "--helm-kube-version", "1.30"])
    else {
        return;
    };
    let asked = |project: &Project| {
        // The file of values has another name each time, and the version is asked for without `-c`, which Helm 4 refuses.
        let text = take(project, "asked").replace("version -c --short", "version --short");
        let words =
            text.split(' ').map(|word| if word.contains("-kustomize-values.yaml") { "VALUES" } else { word });
        words.collect::<Vec<_>>().join(" ")
    };
    let theirs = (asked(&project), take(&project, "values"), take(&project, "homes"));
    std::fs::remove_dir_all(pulled).unwrap();
    let helm = HelmOptions { command, kube_version: "1.30".into(), ..HelmOptions::default() };
    let found = project.run(&Options { helm: Some(helm), ..Options::default() }).unwrap().to_yaml();
    assert_eq!((asked(&project), take(&project, "values"), take(&project, "homes")), theirs);
    assert_eq!(found, expected);
}

#[test]
fn a_container_is_run_as_kubectl_runs_it() {
    let function = "apiVersion: example.com/v1\nkind: Fn\nmetadata:\n  name: f\n  annotations:\n    config.kubernetes.io/function: |\n      container: {image: 'example/fn:1', envs: [A=1, HOME], network: true, mounts: [{type: bind, src: data, dst: /data}]}\n";
    let project = Project::new(&[
        (
            "app/kustomization.yaml",
            "resources: [pod.yaml]\ntransformers: [fn.yaml]\ngenerators: [gen.yaml]\nnamePrefix: x-\n",
        ),
        ("app/pod.yaml", POD),
        ("app/fn.yaml", function),
        ("app/gen.yaml", &function.replace("name: f", "name: g")),
    ]);
    project.script(
        "bin/docker",
        "#!/bin/sh\nhere=$(dirname \"$0\")\necho \"$@\" >> \"$here/asked\"\nsed 's/name: x-p$/name: x-q/'\n",
    );
    let flags = [
        "--enable-alpha-plugins",
        "--network",
        "--mount",
        "type=bind,src=/x,dst=/y,rw=true",
        "-e",
        "B=2",
        "-e",
        "A=3",
    ];
    let Some(expected) = kubectl(&project, &flags) else { return };
    let theirs = take(&project, "asked");
    let functions = FunctionOptions {
        enabled: true,
        network: true,
        mounts: vec!["type=bind,src=/x,dst=/y,rw=true".into()],
        environment: vec!["B=2".into(), "A=3".into()],
        ..FunctionOptions::default()
    };
    let engine = Engine::new(project.path("bin/docker"));
    let found = engine.build(&project, &Options { functions, ..Options::default() }).unwrap();
    assert_eq!(take(&project, "asked"), theirs);
    assert_eq!(found.to_yaml(), expected);
}
