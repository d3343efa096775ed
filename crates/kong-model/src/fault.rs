//! What is wrong with an entity, in the shape of Kong's `fields`: a message, or messages by field and by position.

use serde_json::{Map, Value};

/// A field's name, or a position counted from 1 as Kong counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Name(String),
    Position(usize),
}

impl std::fmt::Display for Key {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Name(name) => out.write_str(name),
            Key::Position(position) => write!(out, "{position}"),
        }
    }
}

/// What is wrong with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Message(String),
    Nested(Faults),
}

impl Fault {
    pub(crate) fn of(message: impl Into<String>) -> Fault {
        Fault::Message(message.into())
    }

    /// As JSON has it.
    pub fn to_json(&self) -> Value {
        match self {
            Fault::Message(message) => Value::String(message.clone()),
            Fault::Nested(faults) => faults.to_json(),
        }
    }
}

/// Faults by key, in the order they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<(Key, Fault)>);

/// Where faults of a whole entity stand.
pub(crate) const ENTITY: &str = "@entity";

impl Faults {
    /// One field, one message.
    pub fn one(field: &str, message: impl Into<String>) -> Faults {
        Faults(vec![(Key::Name(field.to_owned()), Fault::of(message))])
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&Fault> {
        self.0
            .iter()
            .find(|(key, _)| matches!(key, Key::Name(known) if known == name))
            .map(|(_, fault)| fault)
    }

    /// Sets the fault at `key`, in place of the one that was there.
    pub fn set(&mut self, key: Key, fault: Fault) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = fault,
            None => self.0.push((key, fault)),
        }
    }

    pub(crate) fn set_name(&mut self, name: &str, fault: Fault) {
        self.set(Key::Name(name.to_owned()), fault);
    }

    /// Sets the fault at a path of names joined by dots.
    pub(crate) fn set_path(&mut self, path: &str, fault: Fault) {
        let Some((first, rest)) = path.split_once('.') else { return self.set_name(path, fault) };
        let key = Key::Name(first.to_owned());
        let at = match self.0.iter().position(|(known, _)| *known == key) {
            Some(at) => at,
            None => {
                self.0.push((key, Fault::Nested(Faults::default())));
                self.0.len() - 1
            }
        };
        if let Fault::Message(_) = self.0[at].1 {
            self.0[at].1 = Fault::Nested(Faults::default());
        }
        if let Fault::Nested(nested) = &mut self.0[at].1 {
            nested.set_path(rest, fault);
        }
    }

    /// Adds a fault of the whole entity.
    pub(crate) fn add_entity(&mut self, message: impl Into<String>) {
        if self.get(ENTITY).is_none() {
            self.set_name(ENTITY, Fault::Nested(Faults::default()));
        }
        for (key, fault) in &mut self.0 {
            if let (Key::Name(name), Fault::Nested(list)) = (key, fault)
                && name == ENTITY
            {
                list.0.push((Key::Position(list.0.len() + 1), Fault::Message(message.into())));
                return;
            }
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Fault> {
        let at = self.0.iter().position(|(key, _)| matches!(key, Key::Name(known) if known == name))?;
        Some(self.0.remove(at).1)
    }

    /// Lays `other` over these.
    pub(crate) fn merge(&mut self, other: Faults) {
        for (key, fault) in other.0 {
            match (self.0.iter_mut().find(|(known, _)| *known == key), fault) {
                (Some((_, Fault::Nested(mine))), Fault::Nested(theirs)) => mine.merge(theirs),
                (Some((_, mine)), theirs) => *mine = theirs,
                (None, theirs) => self.0.push((key, theirs)),
            }
        }
    }

    /// As JSON has it: positions without a gap are a list.
    pub fn to_json(&self) -> Value {
        let mut positions: Vec<(usize, &Fault)> = Vec::new();
        for (key, fault) in &self.0 {
            if let Key::Position(position) = key {
                positions.push((*position, fault));
            }
        }
        positions.sort_by_key(|(position, _)| *position);
        let is_list = !self.0.is_empty()
            && positions.len() == self.0.len()
            && positions.iter().enumerate().all(|(i, (position, _))| *position == i + 1);
        if is_list {
            return Value::Array(positions.into_iter().map(|(_, fault)| fault.to_json()).collect());
        }
        let entries = self.0.iter().map(|(key, fault)| (key.to_string(), fault.to_json()));
        Value::Object(entries.collect::<Map<String, Value>>())
    }

    /// Every message with its path, for a person.
    pub fn messages(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        self.collect("", &mut out);
        out
    }

    fn collect(&self, prefix: &str, out: &mut Vec<(String, String)>) {
        for (key, fault) in &self.0 {
            let is_entity = matches!(key, Key::Name(name) if name == ENTITY);
            let path = match (is_entity, prefix.is_empty()) {
                (true, _) => prefix.to_owned(),
                (false, true) => key.to_string(),
                (false, false) => format!("{prefix}.{key}"),
            };
            match fault {
                Fault::Message(message) => out.push((path, message.clone())),
                Fault::Nested(nested) if is_entity => {
                    for (_, fault) in &nested.0 {
                        if let Fault::Message(message) = fault {
                            out.push((path.clone(), message.clone()));
                        }
                    }
                }
                Fault::Nested(nested) => nested.collect(&path, out),
            }
        }
    }
}

/// The sentence Kong makes of the faults of a schema violation.
pub fn summary(faults: &Faults) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (key, fault) in &faults.0 {
        match (key, fault) {
            (Key::Name(name), Fault::Nested(list)) if name == ENTITY => {
                for (_, fault) in &list.0 {
                    if let Fault::Message(message) = fault {
                        parts.push(message.clone());
                    }
                }
            }
            (key, fault) => parts.push(format!("{key}: {}", described(fault))),
        }
    }
    parts.sort();
    if parts.len() > 1 {
        return format!("{} schema violations ({})", parts.len(), parts.join("; "));
    }
    format!("schema violation ({})", parts.join("; "))
}

fn described(fault: &Fault) -> String {
    match fault {
        Fault::Message(message) => message.clone(),
        Fault::Nested(nested) => {
            let mut parts: Vec<String> =
                nested.0.iter().map(|(key, fault)| format!("{key}: {}", described(fault))).collect();
            for part in &mut parts {
                if let Some(rest) = part.strip_prefix("1: ") {
                    *part = rest.to_owned();
                }
            }
            parts.join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn positions_without_a_gap_become_a_list() {
        let mut faults = Faults::default();
        faults.set(Key::Position(1), Fault::of("a"));
        assert_eq!(faults.to_json(), json!(["a"]));
        faults.set(Key::Position(3), Fault::of("c"));
        assert_eq!(faults.to_json(), json!({"1": "a", "3": "c"}));
    }

    #[test]
    fn paths_make_their_way() {
        let mut faults = Faults::one("config", "broken");
        faults.set_path("config.redis.host", Fault::of("required field missing"));
        faults.add_entity("one");
        faults.add_entity("two");
        assert_eq!(
            faults.to_json(),
            json!({"config": {"redis": {"host": "required field missing"}}, "@entity": ["one", "two"]})
        );
        assert_eq!(faults.messages().len(), 3);
    }
}
