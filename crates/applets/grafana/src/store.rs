//! Dashboards and folders: what was saved (kept in the data folder) and what files and ConfigMaps provide.
//!
//! Invariant: a dashboard that came from a file or a ConfigMap is changed only there; what was saved is on disk before
//! the save is answered, and a file is replaced whole.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_dashboards::Dashboard;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const MOST_DASHBOARDS: usize = 10_000;
const LONGEST_BYTES: usize = 16 << 20;

/// A folder of dashboards.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Folder {
    pub(crate) id: u64,
    pub(crate) uid: String,
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) parent_uid: String,
    /// Made for provisioned dashboards; not kept.
    #[serde(skip)]
    pub(crate) provisioned: bool,
}

/// A dashboard with what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) id: u64,
    pub(crate) json: Arc<Value>,
    pub(crate) parsed: Arc<Dashboard>,
    pub(crate) folder_uid: String,
    pub(crate) version: u64,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    /// Where it comes from, when that is a file or ConfigMap.
    pub(crate) origin: Option<String>,
    /// It may be saved although a file provides it (`allowUiUpdates`).
    pub(crate) editable: bool,
}

/// A file as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: u64,
    folder_uid: String,
    version: u64,
    created_ms: i64,
    updated_ms: i64,
    dashboard: Value,
}

/// One dashboard that a file or ConfigMap provides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Provided {
    pub(crate) origin: String,
    pub(crate) text: String,
    /// Title of its folder; empty for none.
    pub(crate) folder: String,
    pub(crate) folder_uid: String,
    pub(crate) editable: bool,
}

/// What a save was refused for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    #[error("Dashboard title cannot be empty")]
    NoTitle,
    #[error("The dashboard has been changed by someone else")]
    VersionMismatch,
    #[error("A dashboard with the same name in the folder already exists")]
    NameExists,
    #[error("Cannot save provisioned dashboard: it comes from {0}")]
    Provisioned(String),
    #[error("Dashboard not found")]
    NotFound,
    #[error("folder {0:?} not found")]
    NoFolder(String),
    #[error("{0}")]
    Invalid(String),
    #[error("the dashboard cannot be kept: {0}")]
    Disk(String),
}

/// What is to be saved.
pub(crate) struct Save {
    pub(crate) dashboard: Value,
    pub(crate) folder_uid: Option<String>,
    pub(crate) overwrite: bool,
    pub(crate) now_ms: i64,
}

#[derive(Default)]
pub(crate) struct Store {
    dir: Option<PathBuf>,
    dashboards: BTreeMap<String, Stored>,
    folders: BTreeMap<String, Folder>,
    /// What each provider gave last, so that what it no longer gives goes.
    provided: HashMap<String, Vec<Provided>>,
    next_id: u64,
}

/// A name for what has none: the same for the same text, on every start.
pub(crate) fn uid_of(text: &str) -> String {
    let hash =
        |seed: u64| text.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{:012x}", hash(0xcbf2_9ce4_8422_2325) & 0xffff_ffff_ffff)
}

/// `My board!` as `my-board`.
pub(crate) fn slug(title: &str) -> String {
    let mut out = String::new();
    for c in title.to_lowercase().chars() {
        if c.is_alphanumeric() {
            out.push(c);
        } else if !out.ends_with('-') && !out.is_empty() {
            out.push('-');
        }
    }
    let out = out.trim_end_matches('-').to_owned();
    if out.is_empty() { "dashboard".to_owned() } else { out }
}

/// Letters, digits, `-` and `_`, at most 40: what may stand in a path and a file's name.
pub(crate) fn is_uid(uid: &str) -> bool {
    !uid.is_empty()
        && uid.len() <= 40
        && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

// === impl Store ===

impl Store {
    /// Reads what was saved in `dir`; without one nothing outlives the process.
    pub(crate) fn open(dir: Option<&Path>) -> Result<Store, String> {
        let mut store = Store { dir: dir.map(Path::to_owned), next_id: 1, ..Store::default() };
        let Some(dir) = dir else { return Ok(store) };
        let wrong =
            |what: &Path, error: &dyn std::fmt::Display| format!("cannot read {}: {error}", what.display());
        let boards = dir.join("dashboards");
        std::fs::create_dir_all(&boards)
            .map_err(|error| format!("cannot create {}: {error}", boards.display()))?;
        let folders = dir.join("folders.json");
        if let Ok(text) = std::fs::read_to_string(&folders) {
            let list: Vec<Folder> = serde_json::from_str(&text).map_err(|error| wrong(&folders, &error))?;
            store.folders = list.into_iter().map(|folder| (folder.uid.clone(), folder)).collect();
        }
        for entry in std::fs::read_dir(&boards).map_err(|error| wrong(&boards, &error))?.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(|error| wrong(&path, &error))?;
            let kept: Kept = serde_json::from_str(&text).map_err(|error| wrong(&path, &error))?;
            let parsed =
                Dashboard::from_value(kept.dashboard.clone()).map_err(|error| wrong(&path, &error))?;
            let stored = Stored {
                id: kept.id,
                parsed: Arc::new(parsed),
                json: Arc::new(kept.dashboard),
                folder_uid: kept.folder_uid,
                version: kept.version,
                created_ms: kept.created_ms,
                updated_ms: kept.updated_ms,
                origin: None,
                editable: true,
            };
            store.dashboards.insert(stored.parsed.uid.clone(), stored);
        }
        let ids = store.dashboards.values().map(|one| one.id).chain(store.folders.values().map(|one| one.id));
        store.next_id = ids.max().unwrap_or(0) + 1;
        Ok(store)
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub(crate) fn get(&self, uid: &str) -> Option<&Stored> {
        self.dashboards.get(uid)
    }

    pub(crate) fn dashboards(&self) -> impl Iterator<Item = &Stored> {
        self.dashboards.values()
    }

    pub(crate) fn folders(&self) -> impl Iterator<Item = &Folder> {
        self.folders.values()
    }

    pub(crate) fn folder(&self, uid: &str) -> Option<&Folder> {
        self.folders.get(uid)
    }

    /// Saves a dashboard under the rules of the API.
    pub(crate) fn save(&mut self, save: Save) -> Result<&Stored, SaveError> {
        let Value::Object(mut object) = save.dashboard else {
            return Err(SaveError::Invalid("the dashboard is not an object".to_owned()));
        };
        let title = object.get("title").and_then(Value::as_str).unwrap_or_default().trim().to_owned();
        if title.is_empty() {
            return Err(SaveError::NoTitle);
        }
        let by_id = object.get("id").and_then(Value::as_u64).filter(|id| *id > 0);
        let given =
            object.get("uid").and_then(Value::as_str).filter(|uid| !uid.is_empty()).map(str::to_owned);
        if let Some(uid) = given.as_deref().filter(|uid| !is_uid(uid)) {
            return Err(SaveError::Invalid(format!(
                "uid {uid:?} is not made of at most 40 letters, digits, - and _"
            )));
        }
        let old = match (&given, by_id) {
            (Some(uid), _) => self.dashboards.get(uid),
            (None, Some(id)) => {
                Some(self.dashboards.values().find(|one| one.id == id).ok_or(SaveError::NotFound)?)
            }
            (None, None) => None,
        };
        let folder_uid =
            save.folder_uid.or_else(|| old.map(|old| old.folder_uid.clone())).unwrap_or_default();
        if !folder_uid.is_empty() && !self.folders.contains_key(&folder_uid) {
            return Err(SaveError::NoFolder(folder_uid));
        }
        let same_name =
            self.dashboards.values().find(|one| one.parsed.title == title && one.folder_uid == folder_uid);
        let old = match (old, same_name) {
            (None, Some(same)) if save.overwrite && given.is_none() => Some(same),
            (None, Some(_)) if !save.overwrite => return Err(SaveError::NameExists),
            (Some(old), Some(same)) if old.parsed.uid != same.parsed.uid && !save.overwrite => {
                return Err(SaveError::NameExists);
            }
            (old, _) => old,
        };
        if let Some(old) = old {
            if let Some(origin) = old.origin.as_ref().filter(|_| !old.editable) {
                return Err(SaveError::Provisioned(origin.clone()));
            }
            let based_on = object.get("version").and_then(Value::as_u64);
            if !save.overwrite && based_on != Some(old.version) {
                return Err(SaveError::VersionMismatch);
            }
        } else if self.dashboards.len() >= MOST_DASHBOARDS {
            return Err(SaveError::Invalid(format!(
                "there are {MOST_DASHBOARDS} dashboards, more are not kept"
            )));
        }
        let (old_id, old_uid) = old.map_or((None, None), |old| (Some(old.id), Some(old.parsed.uid.clone())));
        let (version, created_ms) = old.map_or((1, save.now_ms), |old| (old.version + 1, old.created_ms));
        let id = old_id.unwrap_or_else(|| self.id());
        let uid = old_uid.or(given).unwrap_or_else(|| uid_of(&format!("{title}/{id}/{}", save.now_ms)));
        object.insert("uid".to_owned(), json!(uid));
        object.insert("id".to_owned(), json!(id));
        object.insert("version".to_owned(), json!(version));
        object.insert("title".to_owned(), json!(title));
        let json = Value::Object(object);
        let parsed =
            Dashboard::from_value(json.clone()).map_err(|error| SaveError::Invalid(error.to_string()))?;
        let stored = Stored {
            id,
            json: Arc::new(json),
            parsed: Arc::new(parsed),
            folder_uid,
            version,
            created_ms,
            updated_ms: save.now_ms,
            origin: None,
            editable: true,
        };
        self.keep(&uid, &stored).map_err(SaveError::Disk)?;
        self.dashboards.insert(uid.clone(), stored);
        self.dashboards.get(&uid).ok_or(SaveError::NotFound)
    }

    fn keep(&self, uid: &str, stored: &Stored) -> Result<(), String> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let kept = Kept {
            id: stored.id,
            folder_uid: stored.folder_uid.clone(),
            version: stored.version,
            created_ms: stored.created_ms,
            updated_ms: stored.updated_ms,
            dashboard: (*stored.json).clone(),
        };
        let text = serde_json::to_vec(&kept).map_err(|error| error.to_string())?;
        write_whole(&dir.join("dashboards").join(format!("{uid}.json")), &text)
    }

    /// Removes a dashboard; `Err` when it is provided by a file.
    pub(crate) fn delete(&mut self, uid: &str) -> Result<Stored, SaveError> {
        let stored = self.dashboards.get(uid).ok_or(SaveError::NotFound)?;
        if let Some(origin) = &stored.origin {
            return Err(SaveError::Provisioned(origin.clone()));
        }
        if let Some(dir) = &self.dir {
            let path = dir.join("dashboards").join(format!("{uid}.json"));
            std::fs::remove_file(&path)
                .map_err(|error| SaveError::Disk(format!("{}: {error}", path.display())))?;
        }
        self.dashboards.remove(uid).ok_or(SaveError::NotFound)
    }

    pub(crate) fn make_folder(
        &mut self,
        uid: Option<String>,
        title: &str,
        parent: &str,
    ) -> Result<Folder, SaveError> {
        let title = title.trim();
        if title.is_empty() {
            return Err(SaveError::Invalid("folder title cannot be empty".to_owned()));
        }
        let uid =
            uid.filter(|uid| !uid.is_empty()).unwrap_or_else(|| uid_of(&format!("folder/{parent}/{title}")));
        if !is_uid(&uid) {
            return Err(SaveError::Invalid(format!(
                "uid {uid:?} is not made of at most 40 letters, digits, - and _"
            )));
        }
        if self.folders.contains_key(&uid) {
            return Err(SaveError::VersionMismatch);
        }
        if self.folders.values().any(|folder| folder.title == title && folder.parent_uid == parent) {
            return Err(SaveError::NameExists);
        }
        let folder = Folder {
            id: self.id(),
            uid: uid.clone(),
            title: title.to_owned(),
            parent_uid: parent.to_owned(),
            provisioned: false,
        };
        self.folders.insert(uid, folder.clone());
        self.keep_folders()?;
        Ok(folder)
    }

    pub(crate) fn rename_folder(&mut self, uid: &str, title: &str) -> Result<Folder, SaveError> {
        let folder = self.folders.get_mut(uid).ok_or_else(|| SaveError::NoFolder(uid.to_owned()))?;
        folder.title = title.trim().to_owned();
        let folder = folder.clone();
        self.keep_folders()?;
        Ok(folder)
    }

    /// Removes a folder and the saved dashboards in it.
    pub(crate) fn delete_folder(&mut self, uid: &str) -> Result<Folder, SaveError> {
        let folder = self.folders.get(uid).cloned().ok_or_else(|| SaveError::NoFolder(uid.to_owned()))?;
        let inside: Vec<String> = self
            .dashboards
            .values()
            .filter(|one| one.folder_uid == uid)
            .map(|one| one.parsed.uid.clone())
            .collect();
        if let Some(origin) = inside.iter().filter_map(|uid| self.dashboards[uid].origin.clone()).next() {
            return Err(SaveError::Provisioned(origin));
        }
        for dashboard in inside {
            self.delete(&dashboard)?;
        }
        self.folders.remove(uid);
        self.keep_folders()?;
        Ok(folder)
    }

    fn keep_folders(&self) -> Result<(), SaveError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let kept: Vec<&Folder> = self.folders.values().filter(|folder| !folder.provisioned).collect();
        let text = serde_json::to_vec(&kept).map_err(|error| SaveError::Disk(error.to_string()))?;
        write_whole(&dir.join("folders.json"), &text).map_err(SaveError::Disk)
    }

    /// Takes what a provider has now in place of what it had before. Gives what could not be read, and why.
    pub(crate) fn provide(&mut self, provider: &str, list: Vec<Provided>, now_ms: i64) -> Vec<String> {
        let before = self.provided.get(provider).cloned().unwrap_or_default();
        if before == list {
            return Vec::new();
        }
        let origins: Vec<&str> = list.iter().map(|one| one.origin.as_str()).collect();
        let is_gone = |one: &Stored| {
            one.origin.as_deref().is_some_and(|origin| {
                before.iter().any(|old| old.origin == origin) && !origins.contains(&origin)
            })
        };
        self.dashboards.retain(|_, one| !is_gone(one));
        let mut problems = Vec::new();
        for one in list.iter().filter(|one| !before.contains(one)) {
            if let Err(problem) = self.provide_one(one, now_ms) {
                problems.push(format!("{}: {problem}", one.origin));
            }
        }
        let used: Vec<String> = self.dashboards.values().map(|one| one.folder_uid.clone()).collect();
        self.folders.retain(|uid, folder| !folder.provisioned || used.contains(uid));
        self.provided.insert(provider.to_owned(), list);
        problems
    }

    fn provide_one(&mut self, one: &Provided, now_ms: i64) -> Result<(), String> {
        if one.text.len() > LONGEST_BYTES {
            return Err(format!("{} bytes, at most {LONGEST_BYTES} are read", one.text.len()));
        }
        let mut json: Value = serde_json::from_str(&one.text).map_err(|error| error.to_string())?;
        let mut parsed = Dashboard::from_value(json.clone()).map_err(|error| error.to_string())?;
        if !is_uid(&parsed.uid) {
            parsed.uid = uid_of(&one.origin);
            json["uid"] = json!(parsed.uid);
        }
        let folder_uid = self.provided_folder(one);
        let old = self.dashboards.get(&parsed.uid);
        if let Some(other) = old.and_then(|old| old.origin.as_ref()).filter(|origin| **origin != one.origin) {
            return Err(format!("uid {:?} is already taken by {other}", parsed.uid));
        }
        let (id, version, created_ms) = match old {
            Some(old) => (old.id, old.version + 1, old.created_ms),
            None => (self.id(), 1, now_ms),
        };
        let stored = Stored {
            id,
            json: Arc::new(json),
            folder_uid,
            version,
            created_ms,
            updated_ms: now_ms,
            origin: Some(one.origin.clone()),
            editable: one.editable,
            parsed: Arc::new(parsed),
        };
        self.dashboards.insert(stored.parsed.uid.clone(), stored);
        Ok(())
    }

    fn provided_folder(&mut self, one: &Provided) -> String {
        if one.folder.is_empty() {
            return String::new();
        }
        if let Some(folder) = self.folders.values().find(|folder| folder.title == one.folder) {
            return folder.uid.clone();
        }
        let uid = if is_uid(&one.folder_uid) {
            one.folder_uid.clone()
        } else {
            uid_of(&format!("folder//{}", one.folder))
        };
        let folder = Folder {
            id: self.id(),
            uid: uid.clone(),
            title: one.folder.clone(),
            parent_uid: String::new(),
            provisioned: true,
        };
        self.folders.insert(uid.clone(), folder);
        uid
    }
}

/// Replaces a file so that a reader, or a crash, sees the old or the new one.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), String> {
    write_with_mode(path, bytes, 0o644)
}

/// As [`write_whole`], for a file that holds secrets.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), String> {
    write_with_mode(path, bytes, 0o600)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    let temporary = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(mode).open(&temporary).map_err(wrong)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(wrong)?;
    std::fs::rename(&temporary, path).map_err(wrong)?;
    if let Some(folder) = path.parent() {
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(wrong)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(store: &mut Store, dashboard: Value, overwrite: bool) -> Result<(String, u64), String> {
        let save = Save { dashboard, folder_uid: None, overwrite, now_ms: 7 };
        store.save(save).map(|one| (one.parsed.uid.clone(), one.version)).map_err(|error| error.to_string())
    }

    #[test]
    fn versions_must_agree_unless_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(Some(dir.path())).unwrap();
        assert_eq!(save(&mut store, json!({"uid": "a", "title": "A"}), false), Ok(("a".into(), 1)));
        assert!(
            save(&mut store, json!({"uid": "a", "title": "A", "version": 9}), false)
                .unwrap_err()
                .contains("changed")
        );
        assert_eq!(
            save(&mut store, json!({"uid": "a", "title": "A", "version": 1}), false),
            Ok(("a".into(), 2))
        );
        assert!(save(&mut store, json!({"title": "A"}), false).unwrap_err().contains("same name"));
        assert_eq!(save(&mut store, json!({"title": "A"}), true), Ok(("a".into(), 3)));
        assert!(save(&mut store, json!({"uid": "../x", "title": "B"}), true).is_err());
        assert!(save(&mut store, json!({"uid": "b"}), true).unwrap_err().contains("title"));
        let again = Store::open(Some(dir.path())).unwrap();
        assert_eq!(again.get("a").unwrap().version, 3);
    }

    #[test]
    fn what_a_provider_no_longer_has_is_gone() {
        let mut store = Store::open(None).unwrap();
        let one = |name: &str| Provided {
            origin: format!("x/{name}.json"),
            text: json!({"uid": name, "title": name}).to_string(),
            folder: "Team".into(),
            folder_uid: String::new(),
            editable: false,
        };
        assert!(store.provide("x", vec![one("a"), one("b")], 1).is_empty());
        assert!(save(&mut store, json!({"uid": "a", "title": "A"}), true).unwrap_err().contains("x/a.json"));
        assert_eq!(store.folders().count(), 1);
        let broken = Provided { text: "{".into(), ..one("c") };
        assert_eq!(store.provide("x", vec![one("b"), broken], 2).len(), 1);
        assert!(store.get("a").is_none() && store.get("b").is_some());
        store.provide("x", Vec::new(), 3);
        assert_eq!((store.dashboards().count(), store.folders().count()), (0, 0));
    }
}
