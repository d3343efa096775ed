//! The oddities of strategic merge, list by list, against the real kustomize inside kubectl.

use std::path::Path;
use std::process::Command;

use gantry_kustomize::{Disk, Options, build};

/// A field of a container: what the patch says, what the object has.
const LISTS: &[(&str, &str, &str)] = &[
    ("env", "[{name: Q}, {name: A, value: p}]", "[{name: A, value: a}, {name: B}]"),
    ("env", "[{name: A, $patch: delete}]", "[{name: B}, {name: A}]"),
    ("env", "[{name: A, $patch: replace, value: z}]", "[{name: A, value: b}]"),
    ("env", "[{$patch: replace}, {name: B}]", "[{name: A}]"),
    ("env", "[{$patch: replace}, {name: B}]", "null"),
    ("env", "[{value: x}, {name: Q}]", "[{name: A}]"),
    ("env", "[{name: Q}]", "[{name: A}, {value: x}, {value: y}]"),
    ("env", "[{name: A, value: x}]", "[{name: A, value: q}, {name: A, value: r}]"),
    ("env", "null", "[{name: A}]"),
    ("ports", "[{containerPort: 80, name: n}]", "[{containerPort: 80, protocol: TCP}]"),
    ("ports", "[{containerPort: 80, name: n, protocol: TCP}]", "[{containerPort: 80}, {containerPort: 81}]"),
    ("ports", "[{containerPort: 80, name: n}]", "[{containerPort: 80}, {containerPort: 81, protocol: UDP}]"),
    ("ports", "[{name: n}]", "[{containerPort: 80}, {containerPort: 82, protocol: UDP}]"),
    ("command", "[a]", "[b, c]"),
];

#[test]
fn lists_merge_as_kustomize_merges_them() {
    let version = Command::new("kubectl").args(["version", "--client"]).output();
    if !version.is_ok_and(|output| output.status.success()) {
        println!("skipped: kubectl not found");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    for (index, (field, patch, own)) in LISTS.iter().enumerate() {
        let dir = dir.path().join(index.to_string());
        write(&dir, field, patch, own);
        let theirs = Command::new("kubectl").arg("kustomize").arg(&dir).output().expect("kubectl runs");
        let ours = build(&Disk, &dir, &Options::default()).expect("builds").to_yaml();
        assert_eq!(ours, String::from_utf8_lossy(&theirs.stdout), "{field}: {patch} onto {own}");
    }
}

fn write(dir: &Path, field: &str, patch: &str, own: &str) {
    std::fs::create_dir_all(dir).expect("a directory");
    let pod = |list: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - name: c\n    {field}: {list}\n"
        )
    };
    std::fs::write(dir.join("pod.yaml"), pod(own)).expect("written");
    std::fs::write(dir.join("patch.yaml"), pod(patch)).expect("written");
    let text = "resources: [pod.yaml]\npatches:\n- path: patch.yaml\n";
    std::fs::write(dir.join("kustomization.yaml"), text).expect("written");
}
