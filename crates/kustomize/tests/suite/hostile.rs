//! Files that mean harm: each ends in an error that says where, within bounds of time and memory.

use std::cell::Cell;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use gantry_kustomize::{Disk, FileSystem, Memory, Options, build};

use super::run;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";

#[track_caller]
fn refused(files: &[(&str, &str)], message: &str, place: &str) {
    let error = run(files).expect_err("an error");
    assert!(error.to_string().contains(message), "{error}");
    assert!(error.place().is_some_and(|found| found.starts_with(place)), "{error}");
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut bomb = format!("{POD}data:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("  a{level}: &a{level} [{below}]\n"));
    }
    let files = [("kustomization.yaml", "resources: [bomb.yaml]\n"), ("bomb.yaml", bomb.as_str())];
    refused(&files, "excessive aliasing", "/app/bomb.yaml:");
    refused(&[("kustomization.yaml", &bomb)], "excessive aliasing", "/app/kustomization.yaml:");
    let patch = "patches:\n- path: bomb.yaml\nresources: [pod.yaml]\n";
    let files = [("kustomization.yaml", patch), ("bomb.yaml", bomb.as_str()), ("pod.yaml", POD)];
    refused(&files, "excessive aliasing", "/app/bomb.yaml:");
}

#[test]
fn deep_nesting_is_refused_in_every_file() {
    for deep in ["[".repeat(200_000), "- ".repeat(200_000), "{a: ".repeat(200_000)] {
        let files = [("kustomization.yaml", "resources: [deep.yaml]\n"), ("deep.yaml", deep.as_str())];
        assert!(run(&files).is_err());
        assert!(run(&[("kustomization.yaml", &deep)]).is_err());
        // Where a text may itself be YAML, it is read by the same rules.
        let holder = format!("{POD}data: {{inner: '{deep}'}}\n");
        let text = "resources: [pod.yaml]\nreplacements:\n- sourceValue: x\n  targets:\n  - select: {kind: Pod}\n    fieldPaths: [data.inner.a]\n";
        let files = [("kustomization.yaml", text), ("pod.yaml", holder.as_str())];
        refused(&files, "unable to find field", "/app/");
    }
}

#[test]
fn a_huge_scalar_is_only_large() {
    let text = "x".repeat(8 << 20);
    let pod = format!("{POD}data: {text}\n");
    let build = run(&[("kustomization.yaml", "resources: [pod.yaml]\n"), ("pod.yaml", &pod)]);
    assert_eq!(build.expect("builds").to_yaml().matches('x').count(), 8 << 20);
    // A message does not repeat it.
    let error = run(&[("kustomization.yaml", &format!("resources: {text}\n"))]).expect_err("an error");
    assert!(error.to_string().len() < 10_000, "{} bytes", error.to_string().len());
    let patch = format!("{POD}metadata2: {{a: [{text}]}}\n");
    let own = format!("{POD}metadata2: {{a: {{b: c}}}}\n");
    let files = [
        ("kustomization.yaml", "resources: [pod.yaml]\npatches:\n- path: patch.yaml\n"),
        ("pod.yaml", own.as_str()),
        ("patch.yaml", &patch),
    ];
    let error = run(&files).expect_err("an error");
    assert!(error.to_string().contains("wrong node kind") && error.to_string().len() < 10_000, "{error}");
}

#[test]
fn bytes_that_are_no_text_are_refused_by_place() {
    let mut fs = Memory::default();
    fs.insert("/app/kustomization.yaml", "resources:\n- pod.yaml\n");
    fs.insert("/app/pod.yaml", b"apiVersion: v1\nkind: \xff\xfe\n".as_slice());
    let error = build(&fs, Path::new("/app"), &Options::default()).expect_err("an error");
    assert!(error.to_string().contains("'pod.yaml' is not UTF-8 text"), "{error}");
    assert!(error.place().is_some_and(|place| place.starts_with("/app/kustomization.yaml:2:3")), "{error}");
    let nul = format!("{POD}spec: {{a: \"b\0c\"}}\n");
    refused(
        &[("kustomization.yaml", "resources: [pod.yaml]\n"), ("pod.yaml", &nul)],
        "control characters",
        "/app/pod.yaml:4:",
    );
    let error = run(&[("kustomization.yaml", "resources: [\"a\\0b.yaml\"]\n")]).expect_err("an error");
    assert!(error.place().is_some_and(|place| place.starts_with("/app/kustomization.yaml:1:13")), "{error}");
}

#[test]
fn bases_in_circles_and_very_deep_ones_are_refused() {
    for (first, second) in
        [("resources", "resources"), ("resources", "components"), ("components", "components")]
    {
        let kind = |field: &str| match field {
            "components" => "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n",
            _ => "",
        };
        let a = format!("{}{second}: [../b]\n", kind(first));
        let b = format!("{}{first}: [../a]\n", kind(second));
        let files = [
            ("over/kustomization.yaml", format!("{first}: [../a]\n")),
            ("a/kustomization.yaml", a),
            ("b/kustomization.yaml", b),
        ];
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        refused(&files, "cycle detected", "/app/");
    }
    refused(
        &[("over/kustomization.yaml", "resources: [.]\n")],
        "cycle detected",
        "/app/over/kustomization.yaml:1:13",
    );
    let mut fs = Memory::default();
    for level in 0..200 {
        fs.insert(format!("/d{level}/kustomization.yaml"), format!("resources: [../d{}]\n", level + 1));
    }
    let error = build(&fs, Path::new("/d0"), &Options::default()).expect_err("an error");
    assert!(error.to_string().contains("nest deeper than 64 directories"), "{error}");
}

#[test]
fn links_and_dots_do_not_lead_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().canonicalize().expect("its path");
    let app = dir.join("app");
    std::fs::create_dir_all(app.join("sub")).expect("made");
    std::fs::write(dir.join("secret.yaml"), POD).expect("written");
    symlink(dir.join("secret.yaml"), app.join("link.yaml")).expect("linked");
    symlink("loop.yaml", app.join("loop.yaml")).expect("linked");
    symlink(&dir, app.join("up")).expect("linked");
    for (path, why) in [
        ("../secret.yaml", "security; file"),
        ("sub/../../secret.yaml", "security; file"),
        ("link.yaml", "security; file"),
        ("up/secret.yaml", "security; file"),
        ("loop.yaml", "loop.yaml"),
        ("/etc/hostname", "cannot be absolute"),
    ] {
        for text in [
            format!("resources:\n- {path}\n"),
            format!("configMapGenerator:\n- name: c\n  files: [k={path}]\n"),
            format!("secretGenerator:\n- name: c\n  envs: [{path}]\n"),
            format!("configurations:\n- {path}\n"),
            format!("crds:\n- {path}\n"),
            format!("openapi: {{path: {path}}}\n"),
            format!("patches:\n- path: {path}\n  target: {{kind: Pod}}\n"),
        ] {
            std::fs::write(app.join("kustomization.yaml"), &text).expect("written");
            let error = build(&Disk, &app, &Options::default()).expect_err(&text).to_string();
            let of_path = text.starts_with("resources") || !path.starts_with('/');
            assert!(!of_path || error.contains(why), "{text}: {error}");
            assert!(error.contains("kustomization.yaml:"), "{text}: {error}");
        }
    }
}

/// Files of which one can no longer be read once somebody has looked for it.
struct Vanishing {
    files: Memory,
    path: PathBuf,
    reads: Cell<usize>,
}

impl FileSystem for Vanishing {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == self.path {
            self.reads.set(self.reads.get() + 1);
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such file or directory"));
        }
        self.files.read(path)
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.files.is_dir(path)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.files.canonical(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.files.list(path)
    }
}

#[test]
fn a_file_that_vanishes_is_named() {
    for name in ["kustomization.yaml", "pod.yaml", "patch.yaml", "values.txt"] {
        let mut files = Memory::default();
        files.insert(
            "/app/kustomization.yaml",
            "resources:\n- pod.yaml\npatches:\n- path: patch.yaml\nconfigMapGenerator:\n- name: c\n  files: [values.txt]\n",
        );
        files.insert("/app/pod.yaml", POD);
        files.insert("/app/patch.yaml", POD);
        files.insert("/app/values.txt", "v");
        let fs = Vanishing { files, path: Path::new("/app").join(name), reads: Cell::new(0) };
        let error = build(&fs, Path::new("/app"), &Options::default()).expect_err(name).to_string();
        assert!(error.contains(name) && error.contains("no such file"), "{error}");
        assert!(fs.reads.get() < 5, "{name} was asked for {} times", fs.reads.get());
    }
}
