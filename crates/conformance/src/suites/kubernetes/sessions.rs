//! Recorded sessions played against this server, step by step, and compared by the tool they were recorded with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use regex::Regex;
use tokio::process::Command;

use super::super::Case;
use super::cluster::{Cluster, TOKEN};

/// Raw HTTP requests.
pub(crate) fn http(data: &Path) -> Option<Vec<Case>> {
    session(data, "http", false)
}

/// Command lines of the real kubectl.
pub(crate) fn kubectl(data: &Path) -> Option<Vec<Case>> {
    if std::process::Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        println!("skipped: kubectl not found");
        return None;
    }
    session(data, "kubectl", true)
}

fn session(data: &Path, name: &str, with_node: bool) -> Option<Vec<Case>> {
    let expected = data.join(format!("kubernetes-api/recorded/{name}.jsonl"));
    let tools = data.parent()?.join("tools");
    let player = tools.join(format!("{name}-session.py"));
    let compare = tools.join("compare-sessions.py");
    if [&expected, &player, &compare].iter().any(|file| !file.is_file()) {
        return None;
    }
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: python3 not found");
        return None;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().ok()?;
    match runtime.block_on(play(name, &expected, &player, &compare, with_node)) {
        Ok(cases) => Some(cases),
        Err(error) => Some(vec![Case::new(name, Err(error.to_string()))]),
    }
}

async fn play(
    name: &str,
    expected: &Path,
    player: &Path,
    compare: &Path,
    with_node: bool,
) -> Result<Vec<Case>, Box<dyn std::error::Error>> {
    let folder = Folder::new(name)?;
    let cluster = Cluster::start(&folder.0, with_node).await?;
    let played = folder.0.join("played.jsonl");
    let mut run = Command::new("python3");
    run.arg(player).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    match name {
        "http" => run.args([cluster.url.as_str(), TOKEN]),
        _ => run.arg(&cluster.kubeconfig),
    };
    // kubectl keeps what it discovered below its home.
    run.arg(&played).env("HOME", &folder.0).env("KUBECTL_KUBERC", "false");
    let status = run.status().await?;
    if !status.success() {
        return Err(format!("{} ended with {status}", player.display()).into());
    }
    let output = Command::new("python3").arg(compare).arg(expected).arg(&played).arg("-v").output().await?;
    Ok(cases(&std::fs::read_to_string(expected)?, &String::from_utf8_lossy(&output.stdout)))
}

/// One case for each recorded step; those that the comparison names have failed.
fn cases(expected: &str, comparison: &str) -> Vec<Case> {
    let mut failures: HashMap<usize, String> = HashMap::new();
    let Ok(head) = Regex::new(r"^--- (\d+): ") else { return Vec::new() };
    let mut current = None;
    for line in comparison.lines() {
        if let Some(found) = head.captures(line) {
            current = found[1].parse::<usize>().ok();
        }
        if let Some(step) = current {
            let text = failures.entry(step).or_default();
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(line);
        }
    }
    let step = |(index, line): (usize, &str)| {
        let recorded: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let name = match recorded["args"].as_array() {
            Some(words) => words.iter().filter_map(|word| word.as_str()).collect::<Vec<_>>().join(" "),
            None => format!(
                "{} {}",
                recorded["method"].as_str().unwrap_or_default(),
                recorded["path"].as_str().unwrap_or_default()
            ),
        };
        Case::new(format!("{index} {name}"), failures.remove(&index).map_or(Ok(()), Err))
    };
    expected.lines().enumerate().map(step).collect()
}

/// A folder of this run, gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> std::io::Result<Folder> {
        let path = std::env::temp_dir().join(format!("gantry-{name}-session-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
