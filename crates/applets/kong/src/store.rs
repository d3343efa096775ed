//! Entities in one file under the prefix, `entities.json`: replaced as a whole, on disk before a change is acknowledged.

use gantry_gateway::admin::Persist;
use gantry_kong_model::Entities;
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Keys, secrets and private keys are in the file: it is its owner's alone, whatever the umask says.
const FILE_MODE: u32 = 0o600;

pub(crate) struct FileStore {
    folder: PathBuf,
    /// Held for as long as the store is open, so that two servers do not overwrite each other's changes.
    _lock: File,
}

impl FileStore {
    pub(crate) fn open(folder: &Path) -> Result<FileStore, String> {
        let failed =
            |what: &str, error: std::io::Error| format!("prefix {}: {what}: {error}", folder.display());
        std::fs::create_dir_all(folder).map_err(|error| failed("cannot create it", error))?;
        let lock = File::create(folder.join("lock")).map_err(|error| failed("cannot write in it", error))?;
        lock.try_lock().map_err(|_| format!("prefix {}: another server uses it", folder.display()))?;
        Ok(FileStore { folder: folder.to_owned(), _lock: lock })
    }

    fn file(&self) -> PathBuf {
        self.folder.join("entities.json")
    }
}

impl Persist for FileStore {
    fn load(&self) -> Result<Entities, String> {
        let file = self.file();
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Entities::default()),
            Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
        };
        let parsed: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let mut entities = Entities::default();
        for (collection, all) in parsed {
            if let Value::Object(all) = all {
                entities.0.insert(collection, all);
            }
        }
        Ok(entities)
    }

    fn save(&self, entities: &Entities) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot write {}: {error}", self.file().display());
        let text = serde_json::to_vec(&entities.0).map_err(|error| error.to_string())?;
        let next = self.folder.join("entities.json.next");
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(FILE_MODE).open(&next).map_err(failed)?;
        // One that was left behind keeps the mode it had.
        file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&next, self.file()).map_err(failed)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_saved_is_found_again_and_the_folder_is_used_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut entities = Entities::default();
        entities.insert("services", "a", json!({"id": "a"}));
        let store = FileStore::open(folder.path()).unwrap();
        assert_eq!(store.load().unwrap(), Entities::default());
        std::fs::write(folder.path().join("entities.json.next"), "left behind").unwrap();
        store.save(&entities).unwrap();
        let mode = std::fs::metadata(store.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, FILE_MODE);
        assert!(FileStore::open(folder.path()).is_err());
        drop(store);
        assert_eq!(FileStore::open(folder.path()).unwrap().load().unwrap(), entities);
    }
}
