//! The rules of the house that a reader cannot be expected to check: who may use whom, and what no engine may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const FLOOR_0: &[&str] = &["yaml", "apimachinery", "prom-model", "clock", "gotemplate", "kong-model"];

/// Rooms above floor 0 and the complete list of rooms each may use besides floor 0.
const MAY_USE: &[(&str, &[&str])] = &[
    ("serve", &[]),
    ("kustomize", &[]),
    ("apiserver", &[]),
    ("tsdb", &[]),
    ("promql", &[]),
    ("scrape", &[]),
    ("rules", &["promql"]),
    ("remote", &["tsdb"]),
    ("bucket", &["tsdb", "promql"]),
    ("gateway", &[]),
    ("lua", &["gateway"]),
    ("load", &[]),
    ("scalers", &[]),
    ("dashboards", &["promql"]),
    ("operator", &[]),
    ("workloads", &["operator"]),
    ("node", &["operator", "serve"]),
    ("discovery", &["operator", "scrape"]),
    ("ingress", &["operator", "gateway"]),
    ("autoscaler", &["operator", "scalers", "promql"]),
    ("console", &["serve"]),
];

/// Floor 0 itself: only what is listed.
const FLOOR_0_MAY_USE: &[(&str, &[&str])] = &[
    ("yaml", &[]),
    ("apimachinery", &["yaml"]),
    ("prom-model", &[]),
    ("clock", &[]),
    ("gotemplate", &[]),
    ("kong-model", &["yaml"]),
];

/// Rooms that talk to an API server, and so may know the Kubernetes client.
const FLOOR_2: &[&str] = &["operator", "workloads", "node", "discovery", "ingress", "autoscaler"];

struct Room {
    name: String,
    folder: PathBuf,
    rooms_used: BTreeSet<String>,
    libraries_used: BTreeSet<String>,
}

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/conformance is two below the root")
        .into()
}

fn rooms() -> Vec<Room> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace_root())
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let crates = workspace_root().join("crates");
    let mut rooms = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let manifest = Path::new(package["manifest_path"].as_str().expect("manifest path"));
        let folder = manifest.parent().expect("a manifest has a folder");
        let Ok(name) = folder.strip_prefix(&crates) else { continue };
        let normal =
            package["dependencies"].as_array().expect("dependencies").iter().filter(|d| d["kind"].is_null());
        let (ours, theirs): (BTreeSet<String>, BTreeSet<String>) = normal
            .map(|dependency| dependency["name"].as_str().expect("name").to_owned())
            .partition(|name| name.starts_with("gantry-"));
        rooms.push(Room {
            name: name.to_str().expect("UTF-8").to_owned(),
            folder: folder.into(),
            rooms_used: ours.iter().map(|name| name.trim_start_matches("gantry-").to_owned()).collect(),
            libraries_used: theirs,
        });
    }
    assert!(rooms.len() > 10, "the workspace has rooms");
    rooms
}

fn is_engine_or_below(room: &Room) -> bool {
    !FLOOR_2.contains(&room.name.as_str())
        && (FLOOR_0.contains(&room.name.as_str()) || allowed().contains_key(&*room.name))
}

fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    MAY_USE.iter().chain(FLOOR_0_MAY_USE).copied().collect()
}

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return files };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Lines of a room's own code (no tests, no comments) in which `found` is true, as `path:line: text`.
fn lines_where(room: &Room, found: impl Fn(&str) -> bool) -> Vec<String> {
    let mut hits = Vec::new();
    for file in source_files(&room.folder.join("src")) {
        let is_test_file = file.file_stem().is_some_and(|stem| stem == "tests")
            || file.components().any(|part| part.as_os_str() == "tests");
        if is_test_file {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a source file is readable");
        let own = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for (index, line) in own.lines().enumerate() {
            if !line.trim_start().starts_with("//") && found(line) {
                hits.push(format!("{}:{}: {}", file.display(), index + 1, line.trim()));
            }
        }
    }
    hits
}

#[test]
fn a_room_uses_only_what_the_design_lists() {
    let allowed = allowed();
    let mut broken = Vec::new();
    for room in rooms() {
        let Some(list) = allowed.get(room.name.as_str()) else {
            let free =
                room.name.starts_with("applets/") || ["gantry", "conformance"].contains(&room.name.as_str());
            assert!(free, "room {} is on no floor: add it to the design and to this test", room.name);
            continue;
        };
        let on_floor_0 = FLOOR_0.contains(&room.name.as_str());
        for used in &room.rooms_used {
            let fine = list.contains(&used.as_str()) || (!on_floor_0 && FLOOR_0.contains(&used.as_str()));
            if !fine {
                broken.push(format!("{} must not use {used}", room.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn only_controllers_know_the_kubernetes_client() {
    for room in rooms().iter().filter(|room| is_engine_or_below(room)) {
        for library in ["kube", "k8s-openapi"] {
            assert!(!room.libraries_used.contains(library), "{} must not use {library}", room.name);
        }
    }
}

#[test]
fn only_applets_parse_flags_and_read_the_environment() {
    let free =
        |room: &Room| room.name.starts_with("applets/") || ["gantry", "conformance"].contains(&&*room.name);
    for room in rooms().iter().filter(|room| !free(room)) {
        assert!(!room.libraries_used.contains("clap"), "{} must not parse flags", room.name);
        let hits = lines_where(room, |line| line.contains("env::var") || line.contains("env::args"));
        assert!(hits.is_empty(), "{} must not read the environment: {hits:#?}", room.name);
    }
}

#[test]
fn floor_0_is_pure() {
    for room in rooms().iter().filter(|room| FLOOR_0.contains(&&*room.name)) {
        for library in ["tokio", "hyper", "async-trait", "futures"] {
            assert!(
                !room.libraries_used.contains(library),
                "{} is pure and must not use {library}",
                room.name
            );
        }
        let hits = lines_where(room, |line| {
            line.contains("std::fs") || line.contains("std::net") || line.contains("std::process")
        });
        assert!(hits.is_empty(), "{} is pure: {hits:#?}", room.name);
    }
}

#[test]
fn only_serve_gateway_load_and_the_node_open_sockets() {
    // A load master is what its workers connect to, over a protocol of their own. The node binds a pod's port for a moment,
    // to say who has it before the pod fails on it; where pods have networks of their own, its holder makes the sockets that
    // others listen and connect with in there, and asks this machine's name servers for them.
    // The scoreboard plays the servers that are asked in its cases.
    const WAYS: &[&str] = &[
        "TcpListener::bind",
        "UnixListener::bind",
        "UdpSocket::bind",
        "UnixDatagram::bind",
        "socket.listen(",
    ];
    let free = |room: &Room| ["serve", "gateway", "load", "node", "conformance"].contains(&&*room.name);
    for room in rooms().iter().filter(|room| !free(room)) {
        let hits = lines_where(room, |line| WAYS.iter().any(|way| line.contains(way)));
        assert!(hits.is_empty(), "{} must not open listening sockets: {hits:#?}", room.name);
        // Sockets that are put together by hand have no name to look for.
        assert!(!room.libraries_used.contains("socket2"), "{} must not make sockets", room.name);
    }
}

#[test]
fn time_comes_from_a_clock_in_engines() {
    let mut hits = Vec::new();
    for room in rooms().iter().filter(|room| FLOOR_0.contains(&&*room.name) && room.name != "clock") {
        hits.extend(lines_where(room, |line| {
            line.contains("SystemTime::now") || line.contains("Instant::now")
        }));
    }
    assert!(hits.is_empty(), "floor 0 takes its time from a clock argument: {hits:#?}");
}

#[test]
fn no_room_keeps_global_mutable_state() {
    for room in rooms() {
        let hits = lines_where(&room, |line| {
            let line = line.trim_start();
            let is_static = line.starts_with("static ")
                || line.starts_with("pub static ")
                || line.starts_with("pub(crate) static ");
            is_static && ["mut ", "Mutex<", "RwLock<", "Atomic"].iter().any(|kind| line.contains(kind))
        });
        assert!(hits.is_empty(), "{} keeps global mutable state: {hits:#?}", room.name);
    }
}

#[test]
fn there_is_one_crypto_provider() {
    let lock = std::fs::read_to_string(workspace_root().join("Cargo.lock")).expect("Cargo.lock is kept");
    for other in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{other}\"")), "{other} entered the tree beside ring");
    }
}
