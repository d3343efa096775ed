//! Targets in JSON or YAML files, read again when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::BoxFuture;
use gantry_prom_model::Labels;
use tokio_util::sync::CancellationToken;

use super::{ADDRESS_LABEL, Discoverer, GroupSink, TargetGroup, glob};
use crate::config::{FileSdConfig, StaticConfig};

/// Larger files are refused.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Between two looks at modification times; the configured interval rereads in any case.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads `file_sd_configs`.
#[derive(Debug)]
pub struct FileDiscoverer {
    patterns: Vec<PathBuf>,
    refresh: Duration,
    /// Groups last sent per file.
    sent: BTreeMap<PathBuf, usize>,
    stamps: BTreeMap<PathBuf, (std::time::SystemTime, u64)>,
}

impl FileDiscoverer {
    /// Relative paths are taken from `base`.
    pub fn new(config: &FileSdConfig, base: &Path) -> FileDiscoverer {
        FileDiscoverer {
            patterns: config.files.iter().map(|file| base.join(file)).collect(),
            refresh: config.refresh_interval.duration().max(LOOK_EVERY),
            sent: BTreeMap::new(),
            stamps: BTreeMap::new(),
        }
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        for pattern in &self.patterns {
            let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or("");
            if name.contains('*') {
                files.extend(glob(pattern));
            } else {
                // Also when it is missing, so that this is said.
                files.insert(pattern.clone());
            }
        }
        files
    }

    /// The groups that changed since the last look.
    fn look(&mut self, reread: bool) -> Vec<TargetGroup> {
        let files = self.files();
        let mut changed = Vec::new();
        for file in &files {
            let stamp = std::fs::metadata(file)
                .ok()
                .and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
            if !reread && stamp.is_some() && self.stamps.get(file) == stamp.as_ref() {
                continue;
            }
            match read(file) {
                Ok(groups) => {
                    let count = groups.len();
                    changed.extend(groups);
                    for index in count..self.sent.insert(file.clone(), count).unwrap_or(0) {
                        changed.push(TargetGroup { source: source(file, index), ..TargetGroup::default() });
                    }
                }
                // The targets stay as they were: a file is often missing or half-written for a moment.
                Err(reason) => tracing::warn!(file = %file.display(), %reason, "cannot read targets"),
            }
            if let Some(stamp) = stamp {
                self.stamps.insert(file.clone(), stamp);
            }
        }
        let gone: Vec<PathBuf> = self.sent.keys().filter(|file| !files.contains(*file)).cloned().collect();
        for file in gone {
            for index in 0..self.sent.remove(&file).unwrap_or(0) {
                changed.push(TargetGroup { source: source(&file, index), ..TargetGroup::default() });
            }
        }
        changed
    }
}

fn source(file: &Path, index: usize) -> String {
    format!("{}:{index}", file.display())
}

fn read(file: &Path) -> Result<Vec<TargetGroup>, String> {
    let size = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("{size} bytes are more than the {MAX_FILE_BYTES} that are read"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    // JSON is YAML.
    let groups: Vec<StaticConfig> =
        gantry_yaml::from_str(&file.display().to_string(), &text).map_err(|error| error.to_string())?;
    let path = file.display().to_string();
    Ok(groups
        .into_iter()
        .enumerate()
        .map(|(index, group)| {
            let mut labels = Labels::from_pairs(&group.labels).to_builder();
            labels.set("__meta_filepath", &path);
            TargetGroup {
                source: source(file, index),
                labels: labels.build(),
                targets: group
                    .targets
                    .iter()
                    .map(|address| Labels::from_pairs([(ADDRESS_LABEL, address)]).into())
                    .collect(),
            }
        })
        .collect())
}

impl Discoverer for FileDiscoverer {
    fn run(mut self: Box<Self>, sink: GroupSink, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut since_reread = self.refresh;
            loop {
                let reread = since_reread >= self.refresh;
                since_reread = if reread { Duration::ZERO } else { since_reread + LOOK_EVERY };
                let looked = tokio::task::spawn_blocking(move || {
                    let changed = self.look(reread);
                    (self, changed)
                })
                .await;
                let Ok((back, changed)) = looked else { return };
                self = back;
                if !changed.is_empty() && !sink.send(changed).await {
                    return;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_and_vanished_groups_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.json");
        std::fs::write(&file, r#"[{"targets": ["h:1"], "labels": {"env": "dev"}}, {"targets": ["h:2"]}]"#)
            .unwrap();
        let config =
            FileSdConfig { files: vec!["*.json".into()], refresh_interval: crate::config::Milliseconds(1) };
        let mut discoverer = FileDiscoverer::new(&config, dir.path());
        let groups = discoverer.look(true);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].labels.get("env"), Some("dev"));
        assert_eq!(groups[0].labels.get("__meta_filepath"), file.to_str());
        assert_eq!(groups[1].targets[0].labels.get("__address__"), Some("h:2"));
        assert!(discoverer.look(false).is_empty());
        std::fs::write(&file, r#"[{"targets": ["h:3"]}]"#).unwrap();
        let groups = discoverer.look(true);
        assert_eq!(groups.iter().map(|group| group.targets.len()).collect::<Vec<_>>(), [1, 0]);
        std::fs::write(&file, "[{").unwrap();
        assert!(discoverer.look(true).is_empty(), "a broken file changes nothing");
        std::fs::remove_file(&file).unwrap();
        let groups = discoverer.look(true);
        assert_eq!((groups.len(), groups[0].targets.len()), (1, 0));
    }
}
