//! Functions: scripts, and a container engine played by one.

use std::path::PathBuf;
use std::time::Duration;

use gantry_applet_kustomize::doors::Processes;
use gantry_kustomize::door::{Call, Finished, Programs};
use gantry_kustomize::{Build, Disk, Doors, Error, FunctionOptions, Options, Source, build_with};

use super::{POD, Project};

fn exec() -> Options {
    let functions = FunctionOptions { enabled: true, exec: true, ..FunctionOptions::default() };
    Options { functions, ..Options::default() }
}

fn config(name: &str, path: &str) -> String {
    format!(
        "apiVersion: example.com/v1\nkind: Fn\nmetadata:\n  name: {name}\n  annotations:\n    config.kubernetes.io/function: |\n      exec: {{path: {path}}}\nspec: {{limit: 3}}\n"
    )
}

#[test]
fn a_generator_reads_its_configuration_and_may_ask_for_a_hash() {
    let project = Project::new(&[
        ("app/kustomization.yaml", "generators: [fn.yaml]\nnamePrefix: x-\n"),
        ("app/fn.yaml", &config("make", "./make.sh")),
    ]);
    project.script(
        "app/make.sh",
        "#!/bin/sh\ncat > input\npwd > where\ncat <<E\napiVersion: config.kubernetes.io/v1\nkind: ResourceList\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata:\n    name: made\n    annotations: {kustomize.config.k8s.io/needs-hash: 'true'}\n  data: {a: '1'}\nE\n",
    );
    let found = project.run(&exec()).unwrap().to_yaml();
    let expected = "apiVersion: v1\ndata:\n  a: \"1\"\nkind: ConfigMap\nmetadata:\n  name: x-made-";
    assert!(found.starts_with(expected) && !found.contains("needs-hash"), "{found}");
    let input = std::fs::read_to_string(project.path("app/input")).unwrap();
    assert!(input.contains("kind: ResourceList\n") && input.contains("functionConfig:\n"), "{input}");
    assert!(input.contains("    limit: 3\n") && input.contains("local-config: \"true\"\n"), "{input}");
    let place = std::fs::read_to_string(project.path("app/where")).unwrap();
    assert_eq!(place.trim(), project.path("app").to_str().unwrap());
}

const TRANSFORM: &str = "#!/bin/sh\nsed 's/image: old/image: new/; s/name: x-gone/name: renamed/'\n";

#[test]
fn a_transformer_changes_adds_and_takes_away() {
    let deployment = "apiVersion: v1\nkind: Pod\nmetadata: {name: keep}\nspec:\n  containers:\n  - {name: c, image: old}\n";
    let user = "apiVersion: v1\nkind: Pod\nmetadata: {name: user}\nspec:\n  volumes:\n  - {name: v, configMap: {name: gone}}\n";
    let project = Project::new(&[
        (
            "app/kustomization.yaml",
            "resources: [pods.yaml, maps.yaml]\ntransformers: [fn.yaml]\nnamePrefix: x-\n",
        ),
        ("app/pods.yaml", &format!("{deployment}---\n{user}")),
        ("app/maps.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gone}\n"),
        ("app/fn.yaml", &config("change", "./change.sh")),
    ]);
    project.script("app/change.sh", TRANSFORM);
    let build = project.run(&exec()).unwrap();
    let found = build.to_yaml();
    assert!(found.contains("  - image: new\n") && !found.contains("internal.config"), "{found}");
    // Who has another name is still known by the one before.
    assert!(found.starts_with("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: renamed\n"), "{found}");
    assert!(found.contains("  - configMap:\n      name: renamed\n"), "{found}");
    // What the function left alone keeps the place that it was read from.
    let pod =
        build.objects.iter().find(|object| object.str_at(&["metadata", "name"]) == Some("x-keep")).unwrap();
    let name = pod.at(&["spec", "containers"]).unwrap().as_array().unwrap()[0].get("name").unwrap();
    assert_eq!(
        (name.span.line(), build.files.path(name.span.file())),
        (6, Some(project.path("app/pods.yaml").as_path()))
    );
    project.script(
        "app/change.sh",
        "#!/bin/sh\necho 'apiVersion: v1'\necho 'kind: Pod'\necho 'metadata: {name: other}'\n",
    );
    assert_eq!(project.run(&exec()).unwrap().to_yaml(), POD.replace("name: p", "name: other"));
}

#[test]
fn a_validator_may_only_look() {
    let project = Project::new(&[
        ("app/kustomization.yaml", "resources: [pod.yaml]\nvalidators: [fn.yaml]\n"),
        (
            "app/pod.yaml",
            &format!("{POD}spec:\n  priority: 1.0\n  containers:\n  - name: c\n    image: x:latest\n"),
        ),
        ("app/fn.yaml", &config("check", "./check.sh")),
    ]);
    project.script("app/check.sh", "#!/bin/sh\ncat\n");
    project.run(&exec()).unwrap();
    project.script("app/check.sh", "#!/bin/sh\nsed 's/x:latest/x:1/'\n");
    let refused = project.run(&exec()).unwrap_err();
    assert!(refused.message().contains("validator shouldn't modify the resource map"), "{refused}");
    // What is wrong is shown where it stands.
    project.script(
        "app/check.sh",
        "#!/bin/sh\ncat <<E\napiVersion: config.kubernetes.io/v1\nkind: ResourceList\nitems: []\nresults:\n- message: no tag\n  severity: error\n  resourceRef: {apiVersion: v1, kind: Pod, name: p}\n  field: {path: 'spec.containers[0].image'}\nE\nexit 1\n",
    );
    let refused = project.run(&exec()).unwrap_err();
    let place = project.path("app/pod.yaml");
    let line = format!("[error] v1/Pod/p spec.containers[0].image: no tag\n    at {}:9:12", place.display());
    assert!(refused.message().contains("exit status 1") && refused.message().contains(&line), "{refused}");
    assert!(refused.place().is_some_and(|place| place.contains("app/fn.yaml:1:1")), "{refused}");
}

#[test]
fn warnings_and_words_of_a_function_are_passed_on() {
    let project = Project::new(&[
        ("app/kustomization.yaml", "resources: [pod.yaml]\ntransformers: [fn.yaml]\n"),
        ("app/pod.yaml", POD),
        ("app/fn.yaml", &config("check", "./check.sh")),
    ]);
    project.script("app/check.sh", "#!/bin/sh\necho looking >&2\ncat\nprintf 'results:\\n- {message: old image, severity: warning}\\n'\n");
    let build = project.run(&exec()).unwrap();
    let id = "Fn.v1.example.com/check.[noNs]";
    assert_eq!(build.warnings, [format!("{id}: [warning]: old image"), "looking".to_owned()]);
}

#[test]
fn nothing_runs_that_was_not_allowed() {
    let project = Project::new(&[
        ("app/kustomization.yaml", "generators: [fn.yaml]\n"),
        ("app/fn.yaml", &config("make", "./make.sh")),
    ]);
    project.script("app/make.sh", "#!/bin/sh\ntouch ran\n");
    let only_plugins = FunctionOptions { enabled: true, ..FunctionOptions::default() };
    for (functions, why) in [
        (FunctionOptions::default(), "allow it with --enable-alpha-plugins"),
        (
            FunctionOptions { exec: true, ..FunctionOptions::default() },
            "allow it with --enable-alpha-plugins",
        ),
        (only_plugins, "it runs the program './make.sh': allow that with --enable-exec"),
    ] {
        let refused = project.run(&Options { functions, ..Options::default() }).unwrap_err();
        assert!(refused.message().contains(why), "{refused}");
        assert!(refused.place().is_some_and(|place| place.contains("app/fn.yaml:1:1")), "{refused}");
    }
    assert!(!project.path("app/ran").exists());
}

#[test]
fn a_function_that_fails_or_writes_nonsense_is_named() {
    let project = Project::new(&[
        ("app/kustomization.yaml", "generators: [fn.yaml]\n"),
        ("app/fn.yaml", &config("make", "./make.sh")),
    ]);
    for (script, why) in [
        ("echo 'no such team' >&2; exit 4", "exit status 4\nno such team"),
        ("echo 'a: [1'", "line 2 of its output"),
        ("echo 'kind: Pod'", "missing metadata.name"),
    ] {
        project.script("app/make.sh", &format!("#!/bin/sh\n{script}\n"));
        let refused = project.run(&exec()).unwrap_err();
        assert!(refused.message().contains(why), "{refused}");
        assert!(refused.place().is_some_and(|place| place.contains("app/fn.yaml:1:1")), "{refused}");
    }
}

/// Processes, with a container engine of our own.
pub(crate) struct Engine {
    processes: Processes,
    program: PathBuf,
}

impl Engine {
    pub(crate) fn new(program: PathBuf) -> Engine {
        Engine { processes: Processes::new(Duration::from_secs(60)), program }
    }

    /// Builds the folder `app`.
    pub(crate) fn build(&self, project: &Project, options: &Options) -> Result<Build, Error> {
        let fetcher = project.fetcher(true);
        let doors = Doors { remote: &fetcher, programs: self };
        build_with(&Disk, doors, Source::Directory(&project.path("app")), options)
    }
}

impl Programs for Engine {
    fn run(&self, call: &Call) -> Result<Finished, String> {
        self.processes.run(call)
    }

    fn scratch_file(&self, name: &str, content: &[u8]) -> Result<PathBuf, String> {
        self.processes.scratch_file(name, content)
    }

    fn scratch(&self) -> Result<PathBuf, String> {
        self.processes.scratch()
    }

    fn container_engine(&self) -> Result<String, String> {
        Ok(self.program.display().to_string())
    }

    fn user(&self) -> String {
        self.processes.user()
    }
}

#[test]
fn a_container_gets_its_mounts_and_variables_and_a_network_only_when_allowed() {
    let spec = "container: {image: 'example/fn:1', network: true, envs: [A=1], mounts: [{type: bind, src: data, dst: /data}]}";
    let project = Project::new(&[
        ("app/kustomization.yaml", "resources: [pod.yaml]\ntransformers: [fn.yaml]\n"),
        ("app/pod.yaml", POD),
        ("app/fn.yaml", &config("x", "y").replace("exec: {path: y}", spec)),
    ]);
    project.script(
        "bin/docker",
        "#!/bin/sh\necho \"$@\" > \"$(dirname \"$0\")/asked\"\nsed 's/name: p$/name: p2/'\n",
    );
    let engine = Engine::new(project.path("bin/docker"));
    let build =
        |functions: FunctionOptions| engine.build(&project, &Options { functions, ..Options::default() });
    let refused = build(FunctionOptions { enabled: true, ..FunctionOptions::default() }).unwrap_err();
    assert!(refused.message().contains("network required but not enabled with --network"), "{refused}");
    let found =
        build(FunctionOptions { enabled: true, network: true, ..FunctionOptions::default() }).unwrap();
    assert_eq!(found.to_yaml(), POD.replace("name: p", "name: p2"));
    let asked = std::fs::read_to_string(project.path("bin/asked")).unwrap();
    let expected = format!(
        "run --rm -i -a STDIN -a STDOUT -a STDERR --network host --user nobody --security-opt=no-new-privileges \
         --mount type=bind,source={},target=/data,readonly -e A=1 -e LOG_TO_STDERR=true -e STRUCTURED_RESULTS=true \
         example/fn:1\n",
        project.path("app/data").display()
    );
    assert_eq!(asked, expected);
}

/// Builds with little time and room for programs.
fn tightly(project: &Project, time: Duration) -> Error {
    let fetcher = project.fetcher(true);
    let processes = Processes::new(time);
    let doors = Doors { remote: &fetcher, programs: &processes };
    let built = build_with(&Disk, doors, Source::Directory(&project.path("app")), &exec());
    built.expect_err("refused")
}

/// Whether a process is there and has not ended.
fn lives(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    // The state follows the name, which stands in parentheses.
    status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

#[test]
fn a_function_that_hangs_or_dies_leaves_nothing_behind() {
    let project = Project::new(&[
        ("app/kustomization.yaml", "generators: [fn.yaml]\n"),
        ("app/fn.yaml", &config("make", "./make.sh")),
    ]);
    let long = Duration::from_secs(60);
    let cases = [
        ("sleep 600 & echo $! > left; sleep 600", "hit 300ms timeout", Duration::from_millis(300)),
        ("sleep 600 >/dev/null 2>&1 </dev/null & echo $! > left; kill -9 $$", "ended by signal 9", long),
        ("sleep 600 >/dev/null 2>&1 </dev/null & echo $! > left; exit 3", "exit status 3", long),
    ];
    for (script, why, time) in cases {
        project.script("app/make.sh", &format!("#!/bin/sh\n{script}\n"));
        let refused = tightly(&project, time);
        assert!(refused.message().contains(why), "{script}: {refused}");
        assert!(refused.place().is_some_and(|place| place.contains("app/fn.yaml:1:1")), "{refused}");
        let left = std::fs::read_to_string(project.path("app/left")).expect("its pid");
        // What was told to end has ended, or does so at once.
        let gone = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            !lives(&left)
        });
        assert!(gone, "{script}: {left} is still there");
    }
}
