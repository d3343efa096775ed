//! Volumes of a pod: directories under the pod's own, and the paths where containers find them.
//!
//! Without a mount namespace nothing can be mounted at an absolute path. A container's working directory is its
//! root directory `<pod>/containers/<name>/root`; each `mountPath` is reproduced beneath it as a symlink, and
//! `GANTRY_MOUNT_<VOLUME>` holds the real path of the first mount of that volume. With a mount namespace volumes are
//! also found at their paths.

mod atomic;
mod payload;

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Volume, VolumeMount};

pub(crate) use atomic::{File, Payload, write};
pub(crate) use payload::PayloadError;

use crate::downward::Facts;
use crate::env::References;
use crate::isolation::mounts::Mount;

/// Why a volume could not be made; shown as `FailedMount`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\": {source}")]
    Payload { volume: String, source: PayloadError },
    #[error("volume \"{volume}\": {source}")]
    Write { volume: String, source: io::Error },
    #[error(
        "volume \"{volume}\" is of a kind that pods run as processes do not have (supported: emptyDir, configMap, secret, downwardAPI, projected, hostPath)"
    )]
    Unsupported { volume: String },
    #[error("hostPath volume \"{volume}\": {path} {problem}")]
    HostPath { volume: String, path: String, problem: &'static str },
    #[error("container \"{container}\" mounts volume \"{volume}\" at \"{path}\": {problem}")]
    Mount { container: String, volume: String, path: String, problem: String },
}

/// Writes or updates every volume of the pod under `dir` (`<pod>/volumes`). Returns the names of those that changed.
pub(crate) fn materialise(
    volumes: &[Volume],
    facts: &Facts<'_>,
    references: &References,
    dir: &Path,
    stamp: &str,
) -> Result<Vec<String>, VolumeError> {
    let mut changed = Vec::new();
    for volume in volumes {
        let at = dir.join(&volume.name);
        let name = || volume.name.clone();
        let write = |source| VolumeError::Write { volume: name(), source };
        if volume.empty_dir.is_some() || volume.ephemeral.is_some() {
            std::fs::create_dir_all(&at).map_err(write)?;
            continue;
        }
        if let Some(host_path) = &volume.host_path {
            link_host_path(
                &volume.name,
                &host_path.path,
                host_path.type_.as_deref().unwrap_or_default(),
                &at,
            )?;
            continue;
        }
        let payload = payload::of(volume, facts, references)
            .map_err(|source| VolumeError::Payload { volume: name(), source })?
            .ok_or_else(|| VolumeError::Unsupported { volume: name() })?;
        if atomic::write(&at, &payload, stamp).map_err(write)? {
            changed.push(name());
        }
    }
    Ok(changed)
}

fn link_host_path(volume: &str, path: &str, kind: &str, at: &Path) -> Result<(), VolumeError> {
    let wrong = |problem| VolumeError::HostPath { volume: volume.into(), path: path.into(), problem };
    let write = |source| VolumeError::Write { volume: volume.into(), source };
    let host = Path::new(path);
    match kind {
        "DirectoryOrCreate" => std::fs::create_dir_all(host).map_err(write)?,
        "FileOrCreate" if !host.exists() => drop(std::fs::File::create(host).map_err(write)?),
        "Directory" if !host.is_dir() => return Err(wrong("is not a directory")),
        "File" | "FileOrCreate" if !host.is_file() => return Err(wrong("is not a file")),
        _ => {}
    }
    relink(host, at).map_err(write)
}

fn relink(target: &Path, link: &Path) -> io::Result<()> {
    if std::fs::read_link(link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    if let Some(parent) = link.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::remove_file(link) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => symlink(target, link),
    }
}

/// A container's volumes as they are found.
#[derive(Debug, Default)]
pub(crate) struct Mounted {
    /// `GANTRY_MOUNT_*`.
    pub(crate) variables: Vec<(String, String)>,
    /// For a mount namespace.
    pub(crate) mounts: Vec<Mount>,
}

/// Reproduces the container's mounts beneath `root`, where a path that lies in another volume needs a mount namespace.
/// Volumes in `read_only` are, whatever their mounts say.
pub(crate) fn mount(
    container: &Container,
    expand_sub_path: impl Fn(&str) -> String,
    volumes_dir: &Path,
    root: &Path,
    namespace: Option<&[&str]>,
) -> Result<Mounted, VolumeError> {
    let mut mounted = Mounted::default();
    let variables = &mut mounted.variables;
    let mut mounts: Vec<&VolumeMount> = container.volume_mounts.iter().flatten().collect();
    // An outer path must exist before what is mounted inside it.
    mounts.sort_by_key(|m| Path::new(&m.mount_path).components().count());
    for mount in mounts {
        let wrong = |problem: String| VolumeError::Mount {
            container: container.name.clone(),
            volume: mount.name.clone(),
            path: mount.mount_path.clone(),
            problem,
        };
        let sub_path = match (&mount.sub_path_expr, &mount.sub_path) {
            (Some(expr), _) if !expr.is_empty() => expand_sub_path(expr),
            (_, Some(sub_path)) => sub_path.clone(),
            _ => String::new(),
        };
        let sub_path =
            relative(&sub_path).ok_or_else(|| wrong(format!("subPath \"{sub_path}\" contains '..'")))?;
        let source = volumes_dir.join(&mount.name).join(sub_path);
        let beneath = relative(mount.mount_path.trim_start_matches('/'))
            .ok_or_else(|| wrong("the path contains '..'".into()))?;
        if std::fs::symlink_metadata(&source).is_err() {
            std::fs::create_dir_all(&source).map_err(|e| wrong(e.to_string()))?;
        }
        let absolute = std::path::absolute(&source).unwrap_or(source);
        if let Some(read_only) = namespace {
            let target = Path::new("/").join(&beneath);
            if target == Path::new("/") {
                return Err(wrong("a volume cannot be the root".into()));
            }
            mounted.mounts.push(Mount {
                source: absolute.clone(),
                target,
                read_only: mount.read_only == Some(true) || read_only.contains(&mount.name.as_str()),
            });
        }
        if !beneath.as_os_str().is_empty() {
            let link = root.join(beneath);
            let leaves_root = link.parent().is_some_and(|parent| {
                parent.canonicalize().is_ok_and(|p| root.canonicalize().is_ok_and(|r| !p.starts_with(r)))
            });
            match (leaves_root, namespace) {
                (false, _) => relink(&absolute, &link).map_err(|e| wrong(e.to_string()))?,
                (true, Some(_)) => {}
                (true, None) => {
                    return Err(wrong("it lies inside another volume, which needs mount namespaces".into()));
                }
            }
        }
        let variable = format!("GANTRY_MOUNT_{}", mount.name.to_uppercase().replace(['-', '.'], "_"));
        if !variables.iter().any(|(name, _)| *name == variable) {
            variables.push((variable, absolute.to_string_lossy().into_owned()));
        }
    }
    Ok(mounted)
}

/// Volumes whose files the node writes, and nobody else.
pub(crate) fn read_only(volumes: &[Volume]) -> Vec<&str> {
    let written = |volume: &&Volume| {
        volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.downward_api.is_some()
            || volume.projected.is_some()
    };
    volumes.iter().filter(written).map(|volume| volume.name.as_str()).collect()
}

/// `path` as a relative path without `..`.
fn relative(path: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn volumes_appear_beneath_the_working_directory_and_follow_updates() {
        let dir = tempfile::tempdir().unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "labels": {"a": "b"}},
            "spec": {
                "containers": [{"name": "c", "volumeMounts": [
                    {"name": "conf-a", "mountPath": "/etc/app"},
                    {"name": "scratch", "mountPath": "/var/scratch", "subPathExpr": "$(X)"}]}],
                "volumes": [
                    {"name": "conf-a", "projected": {"sources": [
                        {"configMap": {"name": "cm", "items": [{"key": "k", "path": "deep/k.txt", "mode": 256}]}},
                        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
                    {"name": "scratch", "emptyDir": {}}]},
        }))
        .unwrap();
        let spec = pod.spec.as_ref().unwrap();
        let allocatable = BTreeMap::new();
        let facts = Facts { pod: &pod, pod_ip: "", host_ip: "", node_name: "", allocatable: &allocatable };
        let with = |value: &str| References {
            config_maps: [(
                "cm".to_string(),
                serde_json::from_value::<ConfigMap>(json!({"data": {"k": value}})).unwrap(),
            )]
            .into(),
            ..References::default()
        };
        let volumes_dir = dir.path().join("volumes");
        let root = dir.path().join("root");
        let volumes = spec.volumes.as_deref().unwrap();
        assert_eq!(materialise(volumes, &facts, &with("1"), &volumes_dir, "v1").unwrap(), ["conf-a"]);
        let Mounted { variables, mounts } =
            mount(&spec.containers[0], |_| "x".into(), &volumes_dir, &root, Some(&read_only(volumes)))
                .unwrap();
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].target.as_path(), mounts[0].read_only), (Path::new("/etc/app"), true));
        assert_eq!((mounts[1].target.as_path(), mounts[1].read_only), (Path::new("/var/scratch"), false));
        assert!(mounts[1].source.ends_with("volumes/scratch/x"), "{mounts:?}");
        let read = || std::fs::read_to_string(root.join("etc/app/deep/k.txt")).unwrap();
        assert_eq!(read(), "1");
        assert_eq!(std::fs::read_to_string(root.join("etc/app/labels")).unwrap(), "a=\"b\"");
        assert!(root.join("var/scratch").is_dir());
        assert_eq!(variables[0].0, "GANTRY_MOUNT_CONF_A");
        assert!(Path::new(&variables[0].1).join("labels").exists());
        assert!(variables[1].1.ends_with("scratch/x"));

        assert_eq!(materialise(volumes, &facts, &with("2"), &volumes_dir, "v2").unwrap(), ["conf-a"]);
        assert_eq!(read(), "2");
        assert!(materialise(volumes, &facts, &with("2"), &volumes_dir, "v3").unwrap().is_empty());
        let again = mount(&spec.containers[0], |_| "x".into(), &volumes_dir, &root, None).unwrap();
        assert!(again.mounts.is_empty());
    }

    #[test]
    fn refusals_name_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let pod = Pod::default();
        let allocatable = BTreeMap::new();
        let facts = Facts { pod: &pod, pod_ip: "", host_ip: "", node_name: "", allocatable: &allocatable };
        let message = |volume: serde_json::Value| {
            let volume: Volume = serde_json::from_value(volume).unwrap();
            let none = References::default();
            materialise(&[volume], &facts, &none, dir.path(), "v").unwrap_err().to_string()
        };
        let text = message(json!({"name": "data", "persistentVolumeClaim": {"claimName": "x"}}));
        assert!(text.contains("\"data\""), "{text}");
        let text = message(json!({"name": "conf", "configMap": {"name": "gone"}}));
        assert_eq!(text, "MountVolume.SetUp failed for volume \"conf\": configmap \"gone\" not found");
        let text =
            message(json!({"name": "h", "hostPath": {"path": "/nonexistent-dir", "type": "Directory"}}));
        assert!(text.contains("/nonexistent-dir is not a directory"), "{text}");
    }
}
