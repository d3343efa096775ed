//! Dashboards and folders: what was saved (kept in the data folder) and what files and ConfigMaps provide.
//!
//! Invariant: a dashboard that came from a file or a ConfigMap is changed only there; what was saved is on disk before
//! the save is answered, and a file is replaced whole.

mod provide;

pub(crate) use provide::Provided;

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
    /// Of the text that a file provides, or did when this was edited.
    pub(crate) provided: Option<String>,
    /// It was saved over what a file provides.
    pub(crate) edited: bool,
}

/// A file as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: u64,
    folder_uid: String,
    version: u64,
    created_ms: i64,
    updated_ms: i64,
    /// The fingerprint of the file's text that this is an edit of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provided: Option<String>,
    dashboard: Value,
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
        if let Some(text) = read_if_there(&folders)? {
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
            let mut parsed =
                Dashboard::from_value(kept.dashboard.clone()).map_err(|error| wrong(&path, &error))?;
            // The file's name is what it is replaced and deleted by, so it is what it is found by.
            let uid = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            parsed.uid.clone_from(&uid);
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
                edited: kept.provided.is_some(),
                provided: kept.provided,
            };
            store.dashboards.insert(uid, stored);
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
        let (origin, provided) = old.map_or((None, None), |old| (old.origin.clone(), old.provided.clone()));
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
        if parsed.uid != uid {
            // An export with the dashboard inside: it would be shown under one uid and kept under another.
            return Err(SaveError::Invalid(format!(
                "dashboard {uid:?} has another one inside, with uid {:?}; expected the inner one alone",
                parsed.uid
            )));
        }
        let stored = Stored {
            id,
            json: Arc::new(json),
            parsed: Arc::new(parsed),
            folder_uid,
            version,
            created_ms,
            updated_ms: save.now_ms,
            edited: provided.is_some(),
            origin,
            editable: true,
            provided,
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
            provided: stored.provided.clone(),
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
        let mut folders = self.folders.clone();
        folders.insert(uid, folder.clone());
        self.replace_folders(folders)?;
        Ok(folder)
    }

    pub(crate) fn rename_folder(&mut self, uid: &str, title: &str) -> Result<Folder, SaveError> {
        let title = title.trim();
        if title.is_empty() {
            return Err(SaveError::Invalid("folder title cannot be empty".to_owned()));
        }
        let mut folders = self.folders.clone();
        let folder = folders.get_mut(uid).ok_or_else(|| SaveError::NoFolder(uid.to_owned()))?;
        if folder.provisioned {
            return Err(SaveError::Invalid(format!(
                "folder {uid:?} is made for provisioned dashboards and is renamed only where they come from"
            )));
        }
        folder.title = title.to_owned();
        let folder = folder.clone();
        self.replace_folders(folders)?;
        Ok(folder)
    }

    /// Removes a folder with the folders and the saved dashboards in it.
    pub(crate) fn delete_folder(&mut self, uid: &str) -> Result<Folder, SaveError> {
        let folder = self.folders.get(uid).cloned().ok_or_else(|| SaveError::NoFolder(uid.to_owned()))?;
        let mut gone = vec![uid.to_owned()];
        let mut next = 0;
        while let Some(parent) = gone.get(next).cloned() {
            let inner = self.folders.values().filter(|folder| folder.parent_uid == parent);
            let inner: Vec<String> =
                inner.map(|folder| folder.uid.clone()).filter(|uid| !gone.contains(uid)).collect();
            gone.extend(inner);
            next += 1;
        }
        let inside: Vec<(String, Option<String>)> = self
            .dashboards
            .iter()
            .filter(|(_, one)| gone.contains(&one.folder_uid))
            .map(|(uid, one)| (uid.clone(), one.origin.clone()))
            .collect();
        if let Some(origin) = inside.iter().find_map(|(_, origin)| origin.clone()) {
            return Err(SaveError::Provisioned(origin));
        }
        for (dashboard, _) in inside {
            self.delete(&dashboard)?;
        }
        let mut folders = self.folders.clone();
        folders.retain(|uid, _| !gone.contains(uid));
        self.replace_folders(folders)?;
        Ok(folder)
    }

    /// Keeps the folders, and only then has them: what the disk refuses did not happen.
    fn replace_folders(&mut self, folders: BTreeMap<String, Folder>) -> Result<(), SaveError> {
        if let Some(dir) = &self.dir {
            let kept: Vec<&Folder> = folders.values().filter(|folder| !folder.provisioned).collect();
            let text = serde_json::to_vec(&kept).map_err(|error| SaveError::Disk(error.to_string()))?;
            write_whole(&dir.join("folders.json"), &text).map_err(SaveError::Disk)?;
        }
        self.folders = folders;
        Ok(())
    }
}

/// A file's text; `None` when there is no such file. One that cannot be read is not one that is empty: what is written
/// next would take its place.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
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
    fn a_wrapped_dashboard_is_not_kept_under_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(Some(dir.path())).unwrap();
        store.make_folder(Some("f".into()), "F", "").unwrap();
        let inner = json!({"uid": "inner", "title": "Inner"});
        let wrapped = json!({"uid": "outer", "title": "Outer", "dashboard": inner});
        let to_folder =
            |dashboard: Value| Save { dashboard, folder_uid: Some("f".into()), overwrite: true, now_ms: 7 };
        let refused = store.save(to_folder(wrapped.clone())).unwrap_err().to_string();
        assert!(refused.contains("\"inner\"") && store.dashboards().count() == 0, "{refused}");
        // One that lies there from before has the name of its file, and goes with its folder.
        let kept = Kept {
            id: 1,
            folder_uid: "f".into(),
            version: 1,
            created_ms: 7,
            updated_ms: 7,
            provided: None,
            dashboard: wrapped,
        };
        let file = dir.path().join("dashboards/outer.json");
        std::fs::write(&file, serde_json::to_vec(&kept).unwrap()).unwrap();
        let mut store = Store::open(Some(dir.path())).unwrap();
        assert_eq!(store.get("outer").unwrap().parsed.uid, "outer");
        store.delete_folder("f").unwrap();
        assert!(store.get("outer").is_none() && !file.exists());
    }

    #[test]
    fn a_folder_goes_with_all_that_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(Some(dir.path())).unwrap();
        store.make_folder(Some("a".into()), "A", "").unwrap();
        store.make_folder(Some("b".into()), "B", "a").unwrap();
        store.make_folder(Some("c".into()), "C", "").unwrap();
        let board = Save {
            dashboard: json!({"uid": "x", "title": "X"}),
            folder_uid: Some("b".into()),
            overwrite: false,
            now_ms: 7,
        };
        store.save(board).unwrap();
        assert!(store.rename_folder("a", " ").unwrap_err().to_string().contains("empty"));
        store.delete_folder("a").unwrap();
        let again = Store::open(Some(dir.path())).unwrap();
        for store in [&store, &again] {
            let left: Vec<&str> = store.folders().map(|folder| folder.uid.as_str()).collect();
            assert_eq!((left, store.dashboards().count()), (vec!["c"], 0));
        }
    }

    #[test]
    fn a_folder_that_the_disk_refuses_does_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(Some(dir.path())).unwrap();
        store.make_folder(Some("a".into()), "A", "").unwrap();
        // A folder in the place of the file that is written first.
        std::fs::create_dir(dir.path().join("folders.new")).unwrap();
        assert!(matches!(store.make_folder(Some("b".into()), "B", ""), Err(SaveError::Disk(_))));
        assert!(matches!(store.rename_folder("a", "C"), Err(SaveError::Disk(_))));
        assert!(matches!(store.delete_folder("a"), Err(SaveError::Disk(_))));
        assert_eq!(store.folders().map(|folder| folder.title.as_str()).collect::<Vec<_>>(), ["A"]);
    }

    #[test]
    fn what_cannot_be_read_is_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("folders.json")).unwrap();
        let error = Store::open(Some(dir.path())).err().unwrap();
        assert!(error.starts_with("cannot read ") && error.contains("folders.json"), "{error}");
    }
}
