//! What files and ConfigMaps provide takes its place among what was saved.
//!
//! Invariant: a file wins over what was saved before it came or before it changed, and says so; an edit of the very text
//! that a file still has wins over the file.

use std::collections::BTreeSet;
use std::sync::Arc;

use gantry_dashboards::Dashboard;
use serde_json::{Value, json};

use super::{Folder, LONGEST_BYTES, Store, Stored, is_uid, uid_of};

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

/// Tells one text from another, in this process and the next.
fn fingerprint(text: &str) -> String {
    format!("{}-{}", text.len(), uid_of(text))
}

impl Store {
    /// Takes what a provider has now in place of what it had before. Gives what could not be read, and why,
    /// and what is hidden by it.
    pub(crate) fn provide(&mut self, provider: &str, list: Vec<Provided>, now_ms: i64) -> Vec<String> {
        let before = self.provided.get(provider).cloned().unwrap_or_default();
        if before == list {
            return Vec::new();
        }
        let origins: BTreeSet<&str> = list.iter().map(|one| one.origin.as_str()).collect();
        let is_gone = |one: &Stored| {
            one.origin.as_deref().is_some_and(|origin| {
                before.iter().any(|old| old.origin == origin) && !origins.contains(origin)
            })
        };
        self.dashboards.retain(|_, one| !is_gone(one) || one.edited);
        // What somebody wrote outlives the file it was written over, as a saved dashboard.
        for one in self.dashboards.values_mut() {
            if is_gone(one) {
                (one.origin, one.editable) = (None, true);
            }
        }
        let mut problems = Vec::new();
        for one in list.iter().filter(|one| !before.contains(one)) {
            match self.provide_one(one, now_ms) {
                Ok(None) => {}
                Ok(Some(notice)) => problems.push(format!("{}: {notice}", one.origin)),
                Err(problem) => problems.push(format!("{}: {problem}", one.origin)),
            }
        }
        let used: Vec<String> = self.dashboards.values().map(|one| one.folder_uid.clone()).collect();
        self.folders.retain(|uid, folder| !folder.provisioned || used.contains(uid));
        self.provided.insert(provider.to_owned(), list);
        problems
    }

    /// Takes one; gives a word about what it hides.
    fn provide_one(&mut self, one: &Provided, now_ms: i64) -> Result<Option<String>, String> {
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
        let fingerprint = fingerprint(&one.text);
        let hidden = match old {
            Some(old) if old.edited && one.editable && old.provided.as_ref() == Some(&fingerprint) => {
                let uid = parsed.uid;
                if let Some(edit) = self.dashboards.get_mut(&uid) {
                    if !edit.folder_uid.is_empty() && !self.folders.contains_key(&edit.folder_uid) {
                        edit.folder_uid = folder_uid;
                    }
                    edit.origin = Some(one.origin.clone());
                }
                return Ok(None);
            }
            Some(old) if old.edited => {
                Some(format!("the file's text is shown, what was saved over it as {:?} is not", parsed.uid))
            }
            Some(old) if old.origin.is_none() => {
                Some(format!("the saved dashboard {:?} is hidden by it", parsed.uid))
            }
            _ => None,
        };
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
            provided: Some(fingerprint),
            edited: false,
            parsed: Arc::new(parsed),
        };
        self.dashboards.insert(stored.parsed.uid.clone(), stored);
        Ok(hidden)
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
        // A saved folder of this uid under another title is the same folder.
        if self.folders.contains_key(&uid) {
            return uid;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Save;

    fn save(store: &mut Store, dashboard: Value, overwrite: bool) -> Result<u64, String> {
        let save = Save { dashboard, folder_uid: None, overwrite, now_ms: 7 };
        store.save(save).map(|one| one.version).map_err(|error| error.to_string())
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

    #[test]
    fn an_edit_stays_until_its_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let provided = |title: &str, editable: bool| {
            vec![Provided {
                origin: "x/a.json".into(),
                text: json!({"uid": "a", "title": title}).to_string(),
                folder: "Team".into(),
                folder_uid: String::new(),
                editable,
            }]
        };
        let title = |store: &Store| store.get("a").map(|one| one.parsed.title.clone()).unwrap_or_default();
        let mut store = Store::open(Some(dir.path())).unwrap();
        store.provide("x", provided("A", true), 1);
        save(&mut store, json!({"uid": "a", "title": "Mine"}), true).unwrap();
        assert!(store.delete("a").is_err(), "the file still provides it");
        let mut again = Store::open(Some(dir.path())).unwrap();
        assert!(again.provide("x", provided("A", true), 2).is_empty());
        let one = again.get("a").unwrap();
        assert_eq!(
            (one.parsed.title.as_str(), one.version, one.origin.as_deref()),
            ("Mine", 2, Some("x/a.json"))
        );
        assert_eq!(again.folder(&one.folder_uid).map(|folder| folder.title.as_str()), Some("Team"));
        let said = again.provide("x", provided("B", true), 3);
        assert!(title(&again) == "B" && said.len() == 1 && said[0].contains("saved over"), "{said:?}");
        let mut fixed = Store::open(Some(dir.path())).unwrap();
        assert_eq!(fixed.provide("x", provided("A", false), 2).len(), 1);
        assert_eq!(title(&fixed), "A");
        let mut left = Store::open(Some(dir.path())).unwrap();
        left.provide("x", provided("A", true), 2);
        left.provide("x", Vec::new(), 3);
        assert_eq!((title(&left).as_str(), &left.get("a").unwrap().origin), ("Mine", &None));
    }

    #[test]
    fn a_saved_dashboard_is_not_hidden_in_silence() {
        let mut store = Store::open(None).unwrap();
        store.make_folder(Some("f".into()), "Mine", "").unwrap();
        save(&mut store, json!({"uid": "a", "title": "Mine"}), true).unwrap();
        let one = Provided {
            origin: "x/a.json".into(),
            text: json!({"uid": "a", "title": "A"}).to_string(),
            folder: "Theirs".into(),
            folder_uid: "f".into(),
            editable: false,
        };
        let said = store.provide("x", vec![one], 1);
        assert!(said.len() == 1 && said[0].contains("\"a\" is hidden"), "{said:?}");
        assert_eq!(store.folder("f").map(|folder| folder.title.as_str()), Some("Mine"));
    }
}
