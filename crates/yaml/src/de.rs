//! Typed configuration from YAML: serde over nodes, with the place of whatever did not fit.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::compose::parse_documents;
use crate::error::Error;
use crate::node::{Data, Node, Scalar, Style, Tag};
use crate::resolve::Resolved;
use crate::span::{FileId, Span};

/// Reads one document as a `T`. An error carries `file:line:col`, a hint for a misspelt field, and the line itself.
///
/// As Go does: a number or boolean is accepted where text is wanted, an empty document where a struct is wanted,
/// and `yes`/`on` where a boolean is wanted.
pub fn from_str<T: DeserializeOwned>(file_name: &str, text: &str) -> Result<T, Error> {
    let read = || {
        let mut documents = parse_documents(FileId(0), text)?;
        if let Some(second) = documents.get(1) {
            return Err(Error::new("expected a single document, found another one here", second.span));
        }
        let node = documents.pop().unwrap_or_else(|| Node::null(Span::NONE));
        from_node(&node)
    };
    read().map_err(|error| error.in_file(file_name, text))
}

/// Makes a `T` of a node. The error has a place but no file name yet: see [`Error::in_file`].
pub fn from_node<T: DeserializeOwned>(node: &Node) -> Result<T, Error> {
    T::deserialize(NodeDeserializer { node })
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error::new(message.to_string(), Span::NONE)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Error {
        Error::new(format!("unknown field `{field}`{}", hint(field, expected)), Span::NONE)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Error {
        Error::new(format!("unknown value `{variant}`{}", hint(variant, expected)), Span::NONE)
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Error {
        Error::new(format!("expected {expected}, found {found}"), Span::NONE)
    }
}

fn hint(word: &str, expected: &[&str]) -> String {
    match nearest(word, expected) {
        Some(near) => format!(", did you mean `{near}`?"),
        None if expected.is_empty() => ", none is known here".to_owned(),
        None => format!(", known are `{}`", expected.join("`, `")),
    }
}

/// The candidate that a typist most likely meant: a third of its letters wrong at most, letter case aside.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .iter()
        .map(|candidate| (edit_distance(&lower, &candidate.to_lowercase()), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours. Long words are never near each other.
fn edit_distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = substituted.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

struct NodeDeserializer<'a> {
    node: &'a Node,
}

impl<'a> NodeDeserializer<'a> {
    fn scalar(&self) -> Option<&'a Scalar> {
        self.node.as_scalar()
    }

    fn any<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.data {
            Data::Sequence(items) => visitor.visit_seq(Items { items: items.iter() }),
            Data::Mapping(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
            Data::Scalar(scalar) => match scalar.resolve() {
                Resolved::Null => visitor.visit_unit(),
                Resolved::Bool(b) => visitor.visit_bool(b),
                Resolved::Int(i) => visitor.visit_i64(i),
                Resolved::Uint(u) => visitor.visit_u64(u),
                Resolved::Float(x) => visitor.visit_f64(x),
                Resolved::Str(s) => visitor.visit_str(&s),
            },
        }
    }

    /// Text, also where a plain scalar would be a number or a boolean.
    fn text<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Error> {
        match self.scalar() {
            Some(Scalar { tag: Tag::Int | Tag::Float | Tag::Bool | Tag::Timestamp, text, .. }) => {
                visitor.visit_str(text)
            }
            _ => self.any(visitor),
        }
    }
}

macro_rules! deserialize_as {
    ($($method:ident => $with:ident),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let span = self.node.span;
            self.$with(visitor).map_err(|error| error.at(span))
        })*
    };
}

impl<'de> de::Deserializer<'de> for NodeDeserializer<'_> {
    type Error = Error;

    deserialize_as! {
        deserialize_any => any,
        deserialize_i8 => any,
        deserialize_i16 => any,
        deserialize_i32 => any,
        deserialize_i64 => any,
        deserialize_i128 => any,
        deserialize_u8 => any,
        deserialize_u16 => any,
        deserialize_u32 => any,
        deserialize_u64 => any,
        deserialize_u128 => any,
        deserialize_f32 => any,
        deserialize_f64 => any,
        deserialize_char => text,
        deserialize_str => text,
        deserialize_string => text,
        deserialize_identifier => text,
        deserialize_bytes => text,
        deserialize_byte_buf => text,
        deserialize_unit => any,
        deserialize_ignored_any => any,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let word =
            self.scalar().filter(|scalar| scalar.style == Style::Plain).map(|scalar| scalar.text.as_str());
        let visited = match word {
            Some("y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON") => visitor.visit_bool(true),
            Some("n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF") => visitor.visit_bool(false),
            _ => self.any(visitor),
        };
        visited.map_err(|error| error.at(self.node.span))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let span = self.node.span;
        visitor.visit_newtype_struct(self).map_err(|error| error.at(span))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let span = self.node.span;
        let visited = if self.node.is_null() {
            visitor.visit_seq(Items { items: [].iter() })
        } else {
            self.any(visitor)
        };
        visited.map_err(|error| error.at(span))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let span = self.node.span;
        let visited = if self.node.is_null() {
            visitor.visit_map(Entries { entries: [].iter(), value: None })
        } else {
            self.any(visitor)
        };
        visited.map_err(|error| error.at(span))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let span = self.node.span;
        let access = match &self.node.data {
            Data::Mapping(entries) if entries.len() == 1 => {
                Variant { name: &entries[0].0, content: Some(&entries[0].1) }
            }
            Data::Scalar(_) => Variant { name: self.node, content: None },
            _ => {
                return Err(Error::new(
                    format!("expected a name or a mapping with one key, found {}", self.node.type_name()),
                    span,
                ));
            }
        };
        visitor.visit_enum(access).map_err(|error| error.at(span))
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(node) = self.items.next() else { return Ok(None) };
        seed.deserialize(NodeDeserializer { node }).map(Some).map_err(|error| error.at(node.span))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (Node, Node)>,
    value: Option<&'a Node>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(NodeDeserializer { node: key }).map(Some).map_err(|error| error.at(key.span))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let node =
            self.value.take().ok_or_else(|| de::Error::custom("a value was asked for before its key"))?;
        seed.deserialize(NodeDeserializer { node }).map_err(|error| error.at(node.span))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

struct Variant<'a> {
    name: &'a Node,
    content: Option<&'a Node>,
}

impl<'a, 'de> EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = Content<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'a>), Error> {
        let name = self.name.text().unwrap_or_default();
        let variant = seed
            .deserialize(StrDeserializer::<Error>::new(name))
            .map_err(|error| error.at(self.name.span))?;
        Ok((variant, Content { node: self.content }))
    }
}

struct Content<'a> {
    node: Option<&'a Node>,
}

impl Content<'_> {
    fn required(&self) -> Result<NodeDeserializer<'_>, Error> {
        self.node
            .map(|node| NodeDeserializer { node })
            .ok_or_else(|| de::Error::custom("this value needs content: write it as `name: …`"))
    }
}

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.node {
            Some(node) if !node.is_null() => Err(Error::new("this value takes no content", node.span)),
            _ => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.required()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_seq(self.required()?, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_map(self.required()?, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Config {
        name: String,
        #[serde(default)]
        port: u16,
        #[serde(default)]
        on: bool,
        #[serde(default)]
        mode: Mode,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        #[serde(default)]
        items: Vec<f64>,
        limit: Option<i64>,
    }

    #[derive(Debug, Deserialize, PartialEq, Default)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        #[default]
        Fast,
        Every {
            n: u32,
        },
        Named(String),
    }

    #[test]
    fn a_whole_struct() {
        let text = "name: 1.10\nport: 80\non: yes\nmode: {every: {n: 3}}\nlabels: {a: 1, b: true}\nitems: [1, 2.5]\n";
        let config: Config = from_str("c.yaml", text).unwrap();
        assert_eq!(config.name, "1.10");
        assert!(config.on);
        assert_eq!((config.port, config.mode), (80, Mode::Every { n: 3 }));
        assert_eq!(config.labels["b"], "true");
        assert_eq!((config.items, config.limit), (vec![1.0, 2.5], None));
        let named: Config = from_str("c.yaml", "name: x\nmode:\n  named: y\nitems:\n").unwrap();
        assert_eq!(named.mode, Mode::Named("y".into()));
    }

    #[track_caller]
    fn error(text: &str) -> String {
        from_str::<Config>("c.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_place_and_show_the_line() {
        assert_eq!(
            error("name: x\nprot: 80\n"),
            "c.yaml:2:1: unknown field `prot`, did you mean `port`?\n2 | prot: 80\n  | ^"
        );
        assert!(error("name: x\nport: 99999\n").starts_with("c.yaml:2:7: "));
        assert!(error("port: 1\n").starts_with("c.yaml:1:1: missing field `name`"));
        assert!(
            error("name: x\nitems: [1, a]\n").starts_with("c.yaml:2:12: expected f64, found string \"a\"")
        );
        assert!(error("name: x\nmode: fst\n").contains("unknown value `fst`, did you mean `fast`?"));
        assert!(error("a: b: c\n").starts_with("c.yaml:1:5: mapping values are not allowed"));
        assert!(error("name: x\n---\nname: y\n").starts_with("c.yaml:3:1: expected a single document"));
    }
}
