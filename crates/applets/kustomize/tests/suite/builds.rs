//! Several builds in one process, and builds that are repeated when a file changes: the command line as a user has it.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::{POD, Project};

/// Runs a command line; whether it says that all is well.
pub(crate) fn run(line: &[&str]) -> bool {
    let words = ["kustomize"].iter().chain(line);
    let matches = gantry_applet_kustomize::command().try_get_matches_from(words).unwrap();
    // An exit code has no other way to be compared.
    format!("{:?}", gantry_applet_kustomize::run(&matches)) == format!("{:?}", ExitCode::SUCCESS)
}

fn overlays() -> Project {
    let project = Project::new(&[
        ("base/kustomization.yaml", "resources: [pod.yaml]\n"),
        ("base/pod.yaml", POD),
        ("bad/kustomization.yaml", "resources: [missing.yaml]\n"),
    ]);
    for name in ["a", "b", "c"] {
        let text = format!("namePrefix: {name}-\nresources: [../../base]\n");
        project.write(&format!("overlays/{name}/kustomization.yaml"), &text);
    }
    project
}

fn paths(project: &Project, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| project.path(name).display().to_string()).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn several_folders_are_one_stream_in_the_order_of_the_arguments() {
    let project = overlays();
    let folders = paths(&project, &["overlays/c", "overlays/a", "overlays/b"]);
    let out = project.path("out.yaml").display().to_string();
    let mut line = vec!["build", "-o", &out];
    line.extend(folders.iter().map(String::as_str));
    assert!(run(&line));
    let pod = |name: &str| POD.replace("name: p", &format!("name: {name}-p"));
    assert_eq!(read(Path::new(&out)), [pod("c"), pod("a"), pod("b")].join("---\n"));
}

#[test]
fn one_that_fails_leaves_nothing_written() {
    let project = overlays();
    let folders = paths(&project, &["overlays/a", "bad"]);
    let out = project.path("out.yaml").display().to_string();
    assert!(!run(&["build", "-o", &out, &folders[0], &folders[1]]));
    assert!(!Path::new(&out).exists());
}

#[test]
fn each_of_several_gets_a_directory_of_its_own() {
    let project = overlays();
    let folders = paths(&project, &["overlays/a", "overlays/b"]);
    std::fs::create_dir(project.path("out")).unwrap();
    let out = project.path("out").display().to_string();
    assert!(run(&["build", "-o", &out, &folders[0], &folders[1]]));
    assert_eq!(read(&project.path("out/a/v1_pod_a-p.yaml")), POD.replace("name: p", "name: a-p"));
    assert_eq!(read(&project.path("out/b/v1_pod_b-p.yaml")), POD.replace("name: p", "name: b-p"));
    assert!(run(&["build", "-o", &out, &folders[0]]), "one alone has the directory itself");
    assert!(project.path("out/v1_pod_a-p.yaml").exists());
}

/// Waits until a file has this text.
fn becomes(path: &Path, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while read(path) != wanted {
        assert!(Instant::now() < deadline, "{}: {}", path.display(), read(path));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_changed_file_is_built_again() {
    let project = overlays();
    let folder = project.path("overlays/a").display().to_string();
    let out = project.path("out.yaml");
    let shown = out.display().to_string();
    // Goes on for as long as the tests run.
    std::thread::spawn(move || run(&["build", "--watch", "-o", &shown, &folder]));
    let pod = |name: &str| POD.replace("name: p", &format!("name: {name}"));
    becomes(&out, &pod("a-p"));
    project.write("base/pod.yaml", &pod("q"));
    becomes(&out, &pod("a-q"));
    project.write("overlays/a/kustomization.yaml", "resources: [nothing]\n");
    project.write("overlays/a/kustomization.yaml", "namePrefix: z-\nresources: [../../base]\n");
    becomes(&out, &pod("z-q"));
}

#[test]
fn watching_writes_one_stream() {
    let project = overlays();
    let out = project.path("base").display().to_string();
    assert!(!run(&["build", "--watch", "-o", &out, &out]));
}
