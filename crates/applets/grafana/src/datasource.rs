//! The data sources: what is known of each, and how each is asked.

use std::sync::Arc;

use gantry_dashboards::{DataSource, SourceInfo, Sources, parse_duration};
use parking_lot::RwLock;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::remote::Remote;

const MOST: usize = 1000;
const PROMETHEUS: &str = "prometheus";

/// A data source as files and the API describe it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) uid: String,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) url: String,
    pub(crate) access: String,
    pub(crate) is_default: bool,
    pub(crate) basic_auth: bool,
    pub(crate) basic_auth_user: String,
    #[serde(deserialize_with = "or_empty")]
    pub(crate) json_data: Map<String, Value>,
    /// Never sent to anybody but the source itself.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) secure_json_data: Map<String, Value>,
    pub(crate) read_only: bool,
    pub(crate) version: u64,
}

/// Clients send `null` for what they have nothing for.
fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// All of them. Cheap to clone; clones are the same.
#[derive(Clone)]
pub(crate) struct Datasources {
    entries: Arc<RwLock<Vec<Known>>>,
    local: Option<Arc<dyn DataSource>>,
}

#[derive(Clone)]
struct Known {
    entry: Entry,
    opened: Opened,
}

/// How a source is asked.
#[derive(Clone)]
enum Opened {
    /// In this process.
    Local(Arc<dyn DataSource>),
    /// Over the network; one for as long as its entry is the same, so that its connections are used again.
    Remote(Arc<Remote>),
    /// Not at all: it is of a type that no panel can show.
    Unknown,
}

// === impl Entry ===

impl Entry {
    pub(crate) fn interval_ms(&self) -> i64 {
        let text = self.json_data.get("timeInterval").and_then(Value::as_str);
        text.and_then(parse_duration).unwrap_or(15_000).max(1)
    }

    /// As the API shows it: which secrets there are, not what they are.
    pub(crate) fn shown(&self) -> Value {
        let fields: Map<String, Value> =
            self.secure_json_data.keys().map(|key| (key.clone(), json!(true))).collect();
        json!({
            "id": self.id, "uid": self.uid, "orgId": 1, "name": self.name, "type": self.kind, "typeName": self.kind,
            "typeLogoUrl": "", "access": if self.access.is_empty() { "proxy" } else { &self.access }, "url": self.url,
            "user": "", "database": "", "basicAuth": self.basic_auth, "basicAuthUser": self.basic_auth_user,
            "withCredentials": false, "isDefault": self.is_default, "jsonData": self.json_data,
            "secureJsonFields": fields, "version": self.version, "readOnly": self.read_only,
        })
    }

    pub(crate) fn secret(&self, name: &str) -> Option<&str> {
        self.secure_json_data.get(name).and_then(Value::as_str)
    }
}

// === impl Datasources ===

impl Datasources {
    /// With `local`, the source of this uid is asked in this process.
    pub(crate) fn new(local: Option<(Entry, Arc<dyn DataSource>)>) -> Datasources {
        let (entry, source) = local.map_or((None, None), |(entry, source)| (Some(entry), Some(source)));
        let datasources = Datasources { entries: Arc::default(), local: source.clone() };
        if let Some(entry) = entry {
            datasources.entries.write().push(Known {
                entry: Entry { id: 1, version: 1, ..entry },
                opened: source.map_or(Opened::Unknown, Opened::Local),
            });
        }
        datasources
    }

    pub(crate) fn has_local(&self) -> bool {
        self.local.is_some()
    }

    /// Adds or replaces by uid (or by name, when it has no uid yet); gives it as it is now.
    pub(crate) fn put(&self, mut entry: Entry) -> Result<Entry, String> {
        if entry.name.is_empty() || entry.kind.is_empty() {
            return Err("a data source needs a name and a type".to_owned());
        }
        // Before anything is changed, and before anybody has to wait for it: certificates may be read from the disk.
        let opened = if entry.kind == PROMETHEUS {
            Opened::Remote(Arc::new(Remote::new(&entry)?))
        } else {
            Opened::Unknown
        };
        let mut known = self.entries.write();
        let at = known.iter().position(|one| {
            if entry.uid.is_empty() {
                one.entry.name == entry.name
            } else {
                one.entry.uid == entry.uid || one.entry.name == entry.name
            }
        });
        if entry.uid.is_empty() {
            entry.uid = match at {
                Some(at) => known[at].entry.uid.clone(),
                None => crate::store::uid_of(&entry.name),
            };
        }
        entry.id = match at {
            Some(at) => known[at].entry.id,
            None => known.iter().map(|one| one.entry.id).max().unwrap_or(0) + 1,
        };
        entry.version = at.map_or(1, |at| known[at].entry.version + 1);
        if at.is_none() && known.len() >= MOST {
            return Err(format!("there are {MOST} data sources, more are not kept"));
        }
        if entry.is_default || known.is_empty() {
            entry.is_default = true;
            known.iter_mut().for_each(|one| one.entry.is_default = false);
        }
        let new = Known { entry: entry.clone(), opened };
        match at {
            Some(at) => known[at] = new,
            None => known.push(new),
        }
        Ok(entry)
    }

    /// Removes the first that fits; gives it.
    pub(crate) fn remove(&self, fits: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let mut known = self.entries.write();
        let at = known.iter().position(|one| fits(&one.entry))?;
        Some(known.remove(at).entry)
    }

    /// The way to a source that is asked over the network.
    pub(crate) fn remote(&self, uid: &str) -> Option<Arc<Remote>> {
        match &self.entries.read().iter().find(|one| one.entry.uid == uid)?.opened {
            Opened::Remote(remote) => Some(remote.clone()),
            Opened::Local(_) | Opened::Unknown => None,
        }
    }

    pub(crate) fn find(&self, fits: impl Fn(&Entry) -> bool) -> Option<Entry> {
        self.entries.read().iter().map(|one| &one.entry).find(|entry| fits(entry)).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Entry> {
        self.entries.read().iter().map(|one| one.entry.clone()).collect()
    }
}

impl Sources for Datasources {
    fn list(&self) -> Vec<SourceInfo> {
        let info = |one: &Known| SourceInfo {
            uid: one.entry.uid.clone(),
            name: one.entry.name.clone(),
            kind: one.entry.kind.clone(),
            is_default: one.entry.is_default,
            interval_ms: one.entry.interval_ms(),
        };
        self.entries.read().iter().map(info).collect()
    }

    fn open(&self, uid: &str) -> Option<Arc<dyn DataSource>> {
        match &self.entries.read().iter().find(|one| one.entry.uid == uid)?.opened {
            Opened::Local(source) => Some(source.clone()),
            Opened::Remote(remote) => Some(remote.clone()),
            Opened::Unknown => None,
        }
    }
}
