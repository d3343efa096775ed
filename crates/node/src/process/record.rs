//! The durable record of a container's process, by which a later life of this program finds it.
//!
//! A record is written before the process starts (without a pid) and again right after. A kill of this program in
//! between is covered by the environment: every process of a container carries `GANTRY_CONTAINER_ID`, which a scan
//! of `/proc` finds. Records need not reach the disk platter: they must survive the end of this program, not of the
//! machine, since no process does either; the boot id tells the two apart.

use std::io;
use std::path::Path;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::runtime::{ContainerKey, Exit, PodRef};

pub(crate) const ID_VARIABLE: &str = "GANTRY_CONTAINER_ID";
const FILE: &str = "record.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) pod: PodRef,
    pub(crate) container: String,
    pub(crate) attempt: u32,
    pub(crate) boot_id: String,
    pub(crate) started_at: Timestamp,
    /// Pid and start time in ticks since boot; absent until the process was seen.
    pub(crate) process: Option<ProcessId>,
    pub(crate) exit: Option<Exit>,
    /// It runs in namespaces of its own.
    #[serde(default)]
    pub(crate) isolated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
}

impl Record {
    pub(crate) fn write(&self, container_dir: &Path) -> io::Result<()> {
        let next = container_dir.join("record.json.next");
        std::fs::write(&next, serde_json::to_vec(self)?)?;
        std::fs::rename(next, container_dir.join(FILE))
    }

    /// `None` when there is no record or it cannot be read.
    pub(crate) fn read(container_dir: &Path) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(container_dir.join(FILE)).ok()?).ok()
    }
}

/// The value of [`ID_VARIABLE`].
pub(crate) fn id_of(key: &ContainerKey) -> String {
    format!("{}/{}/{}", key.pod_uid, key.container, key.attempt)
}

/// The pod uid in a value of [`ID_VARIABLE`].
pub(crate) fn pod_uid_of(id: &str) -> &str {
    id.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(dir.path()), None);
        let record = Record {
            pod: PodRef { namespace: "ns".into(), name: "p".into(), uid: "u".into() },
            container: "c".into(),
            attempt: 3,
            boot_id: "b".into(),
            started_at: Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
            process: Some(ProcessId { pid: 7, start_ticks: 99 }),
            exit: None,
            isolated: true,
        };
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()), Some(record));
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(Record::read(dir.path()), None);
    }
}
