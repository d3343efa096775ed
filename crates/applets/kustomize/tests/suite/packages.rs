//! `fn run`: the functions of a package, as programs of this machine and in containers played by a script.

use super::Project;
use super::builds::run;

fn function(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: example.com/v1\nkind: Fn\nmetadata:\n  name: {name}\n  annotations:\n    config.kubernetes.io/function: |\n      {spec}\n    config.kubernetes.io/local-config: 'true'\n"
    )
}

const MAP: &str = "# kept\nkind: ConfigMap\napiVersion: v1\nmetadata:\n    name: a # here\ndata: {k: old}\n";

fn read(project: &Project, path: &str) -> String {
    std::fs::read_to_string(project.path(path)).unwrap_or_default()
}

fn package(script: &str) -> (Project, String) {
    let project = Project::new(&[("p/a.yaml", MAP), ("p/b.yaml", "kind: Other\nmetadata:\n    name:   b\n")]);
    project.script("bin/fn.sh", script);
    let program = project.path("bin/fn.sh").display().to_string();
    project.write("p/fn.yaml", &function("f", &format!("exec: {{path: {program}}}")));
    let folder = project.path("p").display().to_string();
    (project, folder)
}

#[test]
fn a_function_changes_objects_and_other_files_stay() {
    let (project, folder) = package("#!/bin/sh\nsed 's/k: old/k: new/'\n");
    let other = read(&project, "p/b.yaml");
    assert!(!run(&["fn", "run", &folder]), "programs are off until they are allowed");
    assert_eq!(read(&project, "p/a.yaml"), MAP);
    assert!(run(&["fn", "run", &folder, "--enable-exec", "--dry-run"]));
    assert_eq!(read(&project, "p/a.yaml"), MAP);
    assert!(run(&["fn", "run", &folder, "--enable-exec"]));
    let expected = "# kept\nkind: ConfigMap\napiVersion: v1\nmetadata:\n  name: a # here\ndata: {k: new}\n";
    assert_eq!(read(&project, "p/a.yaml"), expected);
    assert_eq!(read(&project, "p/b.yaml"), other);
}

#[test]
fn a_function_adds_and_takes_away_and_says_what_it_found() {
    let script = "#!/bin/sh\ncat > /dev/null\ncat <<E\napiVersion: config.kubernetes.io/v1\nkind: ResourceList\nitems:\n\
                  - kind: Made\n  apiVersion: v1\n  metadata:\n    name: One\nresults:\n- message: looked\n  severity: info\nE\n";
    let (project, folder) = package(script);
    let results = project.path("results").display().to_string();
    assert!(run(&["fn", "run", &folder, "--enable-exec", "--results-dir", &results]));
    assert_eq!(read(&project, "p/made_one.yaml"), "kind: Made\napiVersion: v1\nmetadata:\n  name: One\n");
    assert!(!project.path("p/a.yaml").exists() && !project.path("p/fn.yaml").exists());
    assert_eq!(read(&project, "results/results-0.yaml"), "- message: looked\n  severity: info\n");
}

#[test]
fn a_function_sees_its_own_folder_and_those_below() {
    let (project, folder) = package("#!/bin/sh\nsed 's/k: old/k: new/'\n");
    std::fs::rename(project.path("p/fn.yaml"), project.path("fn.yaml")).unwrap();
    project.write("p/sub/functions/fn.yaml", &read(&project, "fn.yaml"));
    project.write("p/sub/c.yaml", MAP);
    project.write("p/subway/d.yaml", MAP);
    assert!(run(&["fn", "run", &folder, "--enable-exec"]));
    assert!(read(&project, "p/sub/c.yaml").contains("k: new"));
    assert_eq!(
        (read(&project, "p/a.yaml"), read(&project, "p/subway/d.yaml")),
        (MAP.to_owned(), MAP.to_owned())
    );
    assert!(run(&["fn", "run", &folder, "--enable-exec", "--global-scope"]));
    assert!(read(&project, "p/a.yaml").contains("k: new"));
}

#[test]
fn a_function_of_the_command_line_gets_its_data() {
    let (project, folder) = package("#!/bin/sh\n");
    let input = project.path("input").display().to_string();
    project.script("bin/fn.sh", &format!("#!/bin/sh\ntee {input}\n"));
    let program = project.path("bin/fn.sh").display().to_string();
    let line = ["fn", "run", &folder, "--enable-exec", "--exec-path", &program, "--", "Fn", "a=1", "b=x y"];
    assert!(run(&line));
    let found = read(&project, "input");
    assert!(found.contains("functionConfig:\n  apiVersion: v1\n  kind: Fn\n"), "{found}");
    assert!(found.contains("  data:\n    a: 1\n    b: x y\n"), "{found}");
    assert!(found.contains("internal.config.kubernetes.io/path: 'a.yaml'\n"), "{found}");
    assert_eq!(read(&project, "p/a.yaml"), MAP, "what came back as it was stays as it is");
    assert!(!run(&["fn", "run", &folder, "--", "a=1"]), "arguments are for a function that is named");
}

#[test]
fn nothing_is_written_outside_of_the_package_or_when_a_function_fails() {
    for path in ["../out.yaml", "/tmp/gantry-out.yaml", "link/out.yaml"] {
        let script = format!(
            "#!/bin/sh\ncat > /dev/null\nprintf 'kind: A\\nmetadata:\\n  name: a\\n  annotations:\\n    config.kubernetes.io/path: {path}\\n'\n"
        );
        let (project, folder) = package(&script);
        std::os::unix::fs::symlink("..", project.path("p/link")).unwrap();
        assert!(!run(&["fn", "run", &folder, "--enable-exec"]), "{path}");
        assert!(!project.path("out.yaml").exists(), "{path}");
    }
    let (project, folder) = package("#!/bin/sh\nsed 's/k: old/k: new/'\nexit 3\n");
    assert!(!run(&["fn", "run", &folder, "--enable-exec"]));
    assert_eq!(read(&project, "p/a.yaml"), MAP);
}
