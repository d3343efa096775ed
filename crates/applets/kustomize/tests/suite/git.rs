//! Remote bases, from a bare repository.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use gantry_kustomize::Options;

use super::{POD, Project, built_repository, git, has_git};

/// A project beside a repository with a base and a component, tagged v1; `main` has another name for the pod.
fn project() -> Project {
    let project = Project::new(&[
        ("work/base/kustomization.yaml", "resources: [pod.yaml]\n"),
        ("work/base/pod.yaml", POD),
        (
            "work/part/kustomization.yaml",
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nnameSuffix: -part\n",
        ),
        ("work/over/kustomization.yaml", "resources: [../base]\nnamePrefix: over-\n"),
    ]);
    let work = project.path("work");
    git(&work, &["init", "-q"]);
    commit(&project, "first");
    git(&work, &["tag", "-a", "v1", "-m", "one"]);
    project.write("work/base/pod.yaml", &POD.replace("name: p", "name: later"));
    commit(&project, "second");
    git(project.folder.path(), &["clone", "-q", "--bare", "work", "repo.git"]);
    project
}

fn commit(project: &Project, message: &str) {
    git(&project.path("work"), &["add", "-A"]);
    git(&project.path("work"), &["commit", "-q", "-m", message]);
}

fn push(project: &Project) {
    let target = project.path("repo.git");
    git(&project.path("work"), &["push", "-q", "-f", target.to_str().unwrap(), "main"]);
}

fn address(project: &Project, rest: &str) -> String {
    format!("file://{}{rest}", project.path("repo.git").display())
}

fn names(build: &gantry_kustomize::Build) -> Vec<String> {
    build.objects.iter().map(|object| object.str_at(&["metadata", "name"]).unwrap().to_owned()).collect()
}

#[test]
fn a_base_of_a_repository_is_built_at_its_ref() {
    if !has_git() {
        return;
    }
    let project = project();
    let fetcher = project.fetcher(false);
    let found = built_repository(&fetcher, &address(&project, "//over?ref=v1")).unwrap();
    assert_eq!(names(&found), ["over-p"]);
    let found = built_repository(&fetcher, &address(&project, "//over")).unwrap();
    assert_eq!(names(&found), ["over-later"]);
}

#[test]
fn bases_and_components_come_from_one_fetch() {
    if !has_git() {
        return;
    }
    let project = project();
    let (base, part) = (address(&project, "//base?ref=v1"), address(&project, "//part?ref=v1"));
    project.write("app/a/kustomization.yaml", &format!("namePrefix: a-\nresources: ['{base}']\n"));
    project.write("app/kustomization.yaml", &format!("resources: [a, '{base}']\ncomponents: ['{part}']\n"));
    let found = project.build(&project.fetcher(false), &Options::default()).unwrap();
    assert_eq!(names(&found), ["a-p-part", "p-part"]);
    let trees = std::fs::read_dir(project.path("cache/trees")).unwrap().count();
    assert_eq!(trees, 1, "one commit is one tree");
}

#[test]
fn offline_uses_what_was_fetched_and_nothing_else() {
    if !has_git() {
        return;
    }
    let project = project();
    project
        .write("app/kustomization.yaml", &format!("resources: ['{}']\n", address(&project, "//base?ref=v1")));
    let refused = project.build(&project.fetcher(true), &Options::default()).unwrap_err();
    assert!(refused.message().contains("is not in the cache, and --offline was given"), "{refused}");
    assert!(refused.place().is_some_and(|place| place.contains("app/kustomization.yaml:1:13")), "{refused}");
    project.build(&project.fetcher(false), &Options::default()).unwrap();
    std::fs::remove_dir_all(project.path("repo.git")).unwrap();
    let found = project.build(&project.fetcher(true), &Options::default()).unwrap();
    assert_eq!(names(&found), ["p"]);
}

#[test]
fn a_lock_file_pins_a_branch() {
    if !has_git() {
        return;
    }
    let project = project();
    project.write(
        "app/kustomization.yaml",
        &format!("resources: ['{}']\n", address(&project, "//base?ref=main")),
    );
    let fetcher = project.locked();
    assert_eq!(names(&project.build(&fetcher, &Options::default()).unwrap()), ["later"]);
    fetcher.save_lock().unwrap();
    project.write("work/base/pod.yaml", &POD.replace("name: p", "name: latest"));
    commit(&project, "third");
    push(&project);
    let unlocked = project.build(&project.fetcher(false), &Options::default()).unwrap();
    assert_eq!(names(&unlocked), ["latest"]);
    assert_eq!(names(&project.build(&project.locked(), &Options::default()).unwrap()), ["later"]);
    // The commit is fetched by its id where the cache has lost it.
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    assert_eq!(names(&project.build(&project.locked(), &Options::default()).unwrap()), ["later"]);
}

#[test]
fn what_is_fetched_reads_nothing_outside_of_its_repository() {
    if !has_git() {
        return;
    }
    let project = project();
    project.write("work/out/kustomization.yaml", "resources: [../../outside]\n");
    project.write("work/link/kustomization.yaml", "configMapGenerator:\n- {name: a, files: [passwd]}\n");
    std::os::unix::fs::symlink("/etc/passwd", project.path("work/link/passwd")).unwrap();
    commit(&project, "bad");
    push(&project);
    project.write("cache/trees/outside/kustomization.yaml", "resources: [pod.yaml]\n");
    let options = Options { load_restrictor: gantry_kustomize::LoadRestrictor::None, ..Options::default() };
    for (folder, why) in [("out", "must be within the repo"), ("link", "is not in or below")] {
        project.write(
            "app/kustomization.yaml",
            &format!("resources: ['{}']\n", address(&project, &format!("//{folder}"))),
        );
        let refused = project.build(&project.fetcher(false), &options).unwrap_err();
        assert!(refused.message().contains(why), "{refused}");
    }
}

#[test]
fn an_error_in_a_fetched_file_is_shown_with_its_address() {
    if !has_git() {
        return;
    }
    let project = project();
    project.write("work/base/pod.yaml", "kind: Pod\n bad: x\n");
    commit(&project, "bad");
    push(&project);
    let refused =
        built_repository(&project.fetcher(false), &address(&project, "//base?ref=main")).unwrap_err();
    let wanted = format!("{}?ref=main//base/pod.yaml:2:", address(&project, ""));
    assert!(refused.place().is_some_and(|place| place.starts_with(&wanted)), "{refused}");
}

#[test]
fn a_ref_that_is_not_there_is_refused_with_what_git_says() {
    if !has_git() {
        return;
    }
    let project = project();
    project.write(
        "app/kustomization.yaml",
        &format!("resources:\n- '{}'\n", address(&project, "//base?ref=v9")),
    );
    let refused = project.build(&project.fetcher(false), &Options::default()).unwrap_err();
    assert!(refused.message().contains("git fetch -q --depth=1 origin v9"), "{refused}");
    assert!(refused.place().is_some_and(|place| place.contains("app/kustomization.yaml:2:3")), "{refused}");
}

#[test]
fn the_origin_of_a_fetched_object_names_repository_and_ref() {
    if !has_git() {
        return;
    }
    let project = project();
    project.write(
        "app/kustomization.yaml",
        &format!(
            "resources: ['{}']\nbuildMetadata: [originAnnotations]\n",
            address(&project, "//over?ref=v1")
        ),
    );
    let found = project.build(&project.fetcher(false), &Options::default()).unwrap();
    let origin = found.objects[0].str_at(&["metadata", "annotations", "config.kubernetes.io/origin"]);
    let expected = format!("path: base/pod.yaml\nrepo: {}\nref: v1\n", address(&project, ""));
    assert_eq!(origin, Some(expected.as_str()));
}

#[test]
fn a_repository_that_leads_to_itself_is_a_cycle() {
    if !has_git() {
        return;
    }
    let project = project();
    let own = address(&project, "//loop");
    project.write("work/loop/kustomization.yaml", &format!("resources: ['{own}']\n"));
    commit(&project, "loop");
    push(&project);
    let refused = built_repository(&project.fetcher(false), &own).unwrap_err();
    assert!(refused.message().contains("cycle detected: URI"), "{refused}");
}

/// Serves the repositories of a folder through git's own daemon; the port on loopback.
fn serve(folder: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = OwnedFd::from(stream.unwrap());
            let base = format!("--base-path={}", folder.display());
            Command::new("git")
                .args(["daemon", "--inetd", "--export-all", &base])
                .stdin(Stdio::from(stream.try_clone().unwrap()))
                .stdout(Stdio::from(stream))
                .stderr(Stdio::null())
                .status()
                .unwrap();
        }
    });
    port
}

#[test]
fn submodules_are_fetched_unless_the_address_says_no() {
    let has_daemon = || {
        let path = Command::new("git").arg("--exec-path").output().unwrap().stdout;
        PathBuf::from(String::from_utf8(path).unwrap().trim()).join("git-daemon").exists()
    };
    if !has_git() || !has_daemon() {
        println!("skipped: git daemon not found");
        return;
    }
    let project = project();
    let port = serve(project.path(""));
    // Git takes submodules over its own protocol, and refuses those of local paths.
    git(
        &project.path("work"),
        &["submodule", "--quiet", "add", &format!("git://127.0.0.1:{port}/repo.git"), "sub"],
    );
    project.write("work/uses/kustomization.yaml", "resources: [../sub/base]\n");
    commit(&project, "submodule");
    push(&project);
    let with = built_repository(&project.fetcher(false), &address(&project, "//uses?ref=main")).unwrap();
    assert_eq!(names(&with), ["later"]);
    let without = address(&project, "//uses?ref=main&submodules=false");
    let refused = built_repository(&project.fetcher(false), &without).unwrap_err();
    assert!(refused.message().contains("sub/base' doesn't exist"), "{refused}");
}
