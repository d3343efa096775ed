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
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(Case::not_started("start a runtime", error)),
    };
    match runtime.block_on(play(name, &expected, &player, &compare, with_node)) {
        Ok(cases) => Some(cases),
        Err(error) => Some(Case::not_started(&format!("play the {name} session"), error)),
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
    let comparison = String::from_utf8_lossy(&output.stdout);
    cases(&std::fs::read_to_string(expected)?, &comparison).map_err(|error| {
        format!("{error}; it ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr))
            .into()
    })
}

/// One case for each recorded step; those that the comparison names have failed. An error when the comparison did not come
/// to its end, or names other steps than its last line counts.
fn cases(expected: &str, comparison: &str) -> Result<Vec<Case>, String> {
    let mut failures: HashMap<usize, String> = HashMap::new();
    let pattern = |text| Regex::new(text).map_err(|error| error.to_string());
    let (head, summary) = (pattern(r"^--- (\d+): ")?, pattern(r"^(\d+) of (\d+) steps agree$")?);
    let lines: Vec<&str> = comparison.trim_end().lines().collect();
    let (last, lines) = lines.split_last().ok_or("the comparison said nothing")?;
    let counted = summary
        .captures(last)
        .and_then(|found| Some((found[1].parse::<usize>().ok()?, found[2].parse::<usize>().ok()?)))
        .ok_or_else(|| format!("the comparison has no count at its end but {last:?}"))?;
    let mut current = None;
    for line in lines {
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
    let cases: Vec<Case> = expected.lines().enumerate().map(step).collect();
    let found = (cases.iter().filter(|case| case.failure.is_none()).count(), cases.len());
    if counted != found {
        return Err(format!(
            "the comparison counts {counted:?} steps (agreeing, all), its lines say {found:?}"
        ));
    }
    Ok(cases)
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

#[cfg(test)]
mod tests {
    use super::cases;

    const RECORDED: &str = "{\"method\": \"GET\", \"path\": \"/a\"}\n{\"args\": [\"get\", \"pods\"]}\n";

    #[test]
    fn a_comparison_without_its_count_judges_nothing() {
        assert!(cases(RECORDED, "").is_err());
        assert!(cases(RECORDED, "--- 1: kubectl get pods  differs in rc\n  rc expected: 0\n").is_err());
    }

    #[test]
    fn the_count_is_that_of_the_steps() {
        assert!(cases(RECORDED, "2 of 3 steps agree\n").is_err());
        assert!(cases(RECORDED, "1 of 2 steps agree\n").is_err());
        let all = cases(RECORDED, "2 of 2 steps agree\n").unwrap();
        assert!(all.iter().all(|case| case.failure.is_none()));
        let text = "--- 1: kubectl get pods  differs in rc\n  rc expected: 0\n  rc got:      1\n1 of 2 steps agree\n";
        let some = cases(RECORDED, text).unwrap();
        assert_eq!((some[0].failure.is_none(), some[1].failure.is_some()), (true, true));
    }
}
