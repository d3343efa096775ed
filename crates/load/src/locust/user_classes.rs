//! The user classes of a run: which the locustfile has, what was set for them since, and which of them take part.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::message::{ClassDescription, Described};

const MOST_CLASSES: usize = 1000;
/// Different settings of one class.
const MOST_SETTINGS: usize = 100;

#[derive(Default)]
pub(super) struct UserClasses {
    /// As the locustfile has them.
    told: Vec<ClassDescription>,
    /// The same with what was set since.
    known: Vec<ClassDescription>,
    /// What was set, by class; a class that no worker has told of may come yet.
    settings: IndexMap<String, Map<String, Value>>,
    /// Told by the shim, and not only guessed from what a worker reports.
    described: bool,
    shapes: Vec<String>,
    chosen: Option<Vec<String>>,
}

// === impl UserClasses ===

impl UserClasses {
    /// Classes that are known before any worker tells.
    pub(super) fn new(told: Vec<ClassDescription>) -> UserClasses {
        UserClasses { known: told.clone(), described: !told.is_empty(), told, ..UserClasses::default() }
    }

    /// Every class that is known, chosen or not.
    pub(super) fn all(&self) -> &[ClassDescription] {
        &self.known
    }

    pub(super) fn shapes(&self) -> &[String] {
        &self.shapes
    }

    /// The classes that take part.
    pub(super) fn chosen(&self) -> Vec<ClassDescription> {
        let chosen =
            |class: &&ClassDescription| self.chosen.as_ref().is_none_or(|names| names.contains(&class.name));
        self.known.iter().filter(chosen).cloned().collect()
    }

    /// Only these classes; all when `None`.
    ///
    /// # Errors
    /// The names that no worker knows, where it is known which there are.
    pub(super) fn choose(&mut self, names: Option<Vec<String>>) -> Result<(), Vec<String>> {
        let unknown: Vec<String> = names.iter().flatten().filter(|name| !self.knows(name)).cloned().collect();
        if !unknown.is_empty() && self.described {
            return Err(unknown);
        }
        self.chosen = names;
        Ok(())
    }

    /// The one host all classes name.
    pub(super) fn common_host(&self) -> Option<String> {
        let mut hosts = self.known.iter().map(|class| class.host.clone());
        let first = hosts.next()??;
        hosts.all(|host| host.as_ref() == Some(&first)).then_some(first)
    }

    /// Sets attributes of a class. True when the class is known, and workers are to be told.
    ///
    /// # Errors
    /// When it names no class, one that the locustfile does not have, or sets more than is kept.
    pub(super) fn set(&mut self, settings: &Value) -> Result<bool, String> {
        let name = settings.get("user_class_name").and_then(Value::as_str);
        let (Some(name), Some(fields)) = (name, settings.as_object()) else {
            return Err("user_class_name: expected the name of a user class".to_owned());
        };
        let known = self.knows(name);
        if !known && self.described {
            return Err(unknown_class(name));
        }
        if self.settings.len() >= MOST_CLASSES && !self.settings.contains_key(name) {
            return Err(format!("user class {name:?}: at most {MOST_CLASSES} classes can have settings"));
        }
        let mut merged = self.settings.get(name).cloned().unwrap_or_default();
        merged.extend(fields.clone());
        if merged.len() > MOST_SETTINGS {
            return Err(format!("user class {name:?}: it can have at most {MOST_SETTINGS} settings"));
        }
        self.settings.insert(name.to_owned(), merged);
        self.apply_settings();
        Ok(known)
    }

    /// What was set for the classes that are known: a worker that is told of a class that it does not have hears nothing
    /// more.
    pub(super) fn settings(&self) -> impl Iterator<Item = Value> {
        self.known.iter().filter_map(|class| self.settings.get(&class.name)).cloned().map(Value::from)
    }

    /// What was set for these.
    pub(super) fn settings_of(&self, names: &[String]) -> impl Iterator<Item = Value> {
        names.iter().filter_map(|name| self.settings.get(name)).cloned().map(Value::from)
    }

    /// Classes that have settings and that no worker has told of.
    pub(super) fn unknown_settings(&self) -> Vec<String> {
        self.settings.keys().filter(|name| !self.knows(name)).cloned().collect()
    }

    /// A worker describes its locustfile. Returns which classes are new.
    pub(super) fn describe(&mut self, mut described: Described) -> Vec<String> {
        described.classes.truncate(MOST_CLASSES);
        if described.classes.is_empty() {
            return Vec::new();
        }
        let is_new = |class: &&ClassDescription| !self.told.iter().any(|known| known.name == class.name);
        let new = described.classes.iter().filter(is_new).map(|class| class.name.clone()).collect();
        self.told = described.classes;
        self.apply_settings();
        self.shapes = described.shapes;
        if !std::mem::replace(&mut self.described, true) {
            for name in self.unknown_settings() {
                tracing::error!(target: "locust.runners", "{}", unknown_class(&name));
            }
        }
        new
    }

    /// A worker without the shim tells at least the names with its first report. Returns which are new.
    pub(super) fn learn<'a>(&mut self, names: impl Iterator<Item = &'a String>) -> Vec<String> {
        let mut new = Vec::new();
        if self.described {
            return new;
        }
        for name in names {
            if self.told.len() < MOST_CLASSES && !self.told.iter().any(|class| class.name == *name) {
                new.push(name.clone());
                self.told.push(ClassDescription {
                    name: name.clone(),
                    weight: 1.0,
                    fixed_count: 0,
                    host: None,
                    tasks: Vec::new(),
                });
            }
        }
        if !new.is_empty() {
            self.apply_settings();
        }
        new
    }

    fn knows(&self, name: &str) -> bool {
        self.known.iter().any(|class| class.name == name)
    }

    fn apply_settings(&mut self) {
        self.known = self.told.clone();
        for class in &mut self.known {
            if let Some(settings) = self.settings.get(&class.name) {
                apply(class, settings);
            }
        }
    }
}

fn unknown_class(name: &str) -> String {
    format!("user class {name:?}: the locustfile has no such class")
}

/// As Locust sets attributes of a class; those that only workers need are left to them.
fn apply(class: &mut ClassDescription, settings: &Map<String, Value>) {
    if let Some(weight) = settings.get("weight").and_then(Value::as_f64) {
        class.weight = weight;
    }
    if let Some(count) = settings.get("fixed_count").and_then(Value::as_u64) {
        class.fixed_count = count;
    }
    match settings.get("host") {
        Some(Value::String(host)) => class.host = Some(host.clone()),
        Some(Value::Null) => class.host = None,
        _ => {}
    }
    if let Some(chosen) = settings.get("tasks").and_then(Value::as_array) {
        class.tasks.retain(|task| chosen.iter().any(|name| name.as_str() == Some(task.name.as_str())));
    }
}
