//! YAML documents as object trees: the same places, the scalars' values instead of their text.

use std::borrow::Cow;

use gantry_yaml::{Data, Error, FileId, Node, Resolved, Style, Tag, Tree, View};

use crate::value::{Key, Kind, Map, Number, Value};

/// Reads every document of `text`. Documents that hold nothing (only comments, or `null`) are left out.
pub fn parse_yaml(file: FileId, text: &str) -> Result<Vec<Value>, Error> {
    let nodes = gantry_yaml::parse_documents(file, text)?;
    nodes.iter().filter(|node| !node.is_null()).map(from_yaml).collect()
}

/// The value that a node stands for, with its places. Fails only for a key that is a list or a mapping.
pub fn from_yaml(node: &Node) -> Result<Value, Error> {
    let kind = match &node.data {
        Data::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => Kind::Null,
            Resolved::Bool(b) => Kind::Bool(b),
            Resolved::Int(i) => Kind::Number(Number::Int(i)),
            Resolved::Uint(u) => Kind::Number(Number::Uint(u)),
            Resolved::Float(x) => Kind::Number(Number::Float(x)),
            Resolved::Str(s) => Kind::String(s),
        },
        Data::Sequence(items) => Kind::Array(items.iter().map(from_yaml).collect::<Result<_, _>>()?),
        Data::Mapping(entries) => {
            // The reader refuses equal keys, but `1` and "1" only become equal here.
            let all_text = entries.iter().all(|(key, _)| key.as_str().is_some());
            let mut map = Map::with_capacity(entries.len());
            for (key, value) in entries {
                let (key, value) = (key_of(key)?, from_yaml(value)?);
                if all_text {
                    map.push_new(key, value);
                } else {
                    map.insert(key, value);
                }
            }
            Kind::Object(map)
        }
    };
    Ok(Value::new(kind, node.span))
}

fn key_of(key: &Node) -> Result<Key, Error> {
    match key.as_scalar() {
        Some(scalar) => Ok(match scalar.resolve() {
            Resolved::Int(i) if scalar.tag == Tag::Int => i.to_string().into(),
            Resolved::Uint(u) if scalar.tag == Tag::Int => u.to_string().into(),
            Resolved::Str(s) => s,
            _ => scalar.text.clone(),
        }),
        None => Err(Error::new(format!("a key must be text, found a {}", key.type_name()), key.span)),
    }
}

/// The node that says the same as a value; [`from_yaml`] undoes it.
pub fn to_yaml(value: &Value) -> Node {
    let plain = |text: String, tag: Tag| {
        Data::Scalar(gantry_yaml::Scalar { text: text.into(), tag, style: Style::Plain })
    };
    let data = match &value.kind {
        Kind::Null => plain("null".into(), Tag::Null),
        Kind::Bool(b) => plain(b.to_string(), Tag::Bool),
        Kind::Number(Number::Int(i)) => plain(i.to_string(), Tag::Int),
        Kind::Number(Number::Uint(u)) => plain(u.to_string(), Tag::Int),
        Kind::Number(Number::Float(x)) => plain(format!("{x:?}"), Tag::Float),
        Kind::String(s) => return Node::string(s.clone(), value.span),
        Kind::Array(items) => Data::Sequence(items.iter().map(to_yaml).collect()),
        Kind::Object(map) => Data::Mapping(
            map.iter().map(|(key, item)| (Node::string(key.clone(), item.span), to_yaml(item))).collect(),
        ),
    };
    Node::new(data, value.span)
}

impl Tree for Value {
    fn view(&self) -> View<'_, Value> {
        match &self.kind {
            Kind::Null => View::Null,
            Kind::Bool(b) => View::Bool(*b),
            Kind::Number(Number::Int(i)) => View::Int(*i),
            Kind::Number(Number::Uint(u)) => View::Uint(*u),
            Kind::Number(Number::Float(x)) => View::Float(*x),
            Kind::String(s) => View::Str(Cow::Borrowed(s)),
            Kind::Array(items) => View::Seq(items),
            Kind::Object(map) => View::Map(map.iter().map(|(key, item)| (key.as_str(), item)).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_places() {
        let text = "# only a comment\n---\nkind: Foo\nspec:\n  n: 1\n  x: 1.5\n  list: [a, null]\n---\n";
        let values = parse_yaml(FileId(3), text).unwrap();
        assert_eq!(values.len(), 1);
        let n = values[0].at(&["spec", "n"]).unwrap();
        assert_eq!((n.as_i64(), n.span.file(), n.span.line(), n.span.column()), (Some(1), FileId(3), 5, 6));
        assert_eq!(from_yaml(&to_yaml(&values[0])).unwrap(), values[0]);
    }

    #[test]
    fn keys_that_become_equal_do_not_come_twice() {
        let values = parse_yaml(FileId(0), "{1: a, \"1\": b}").unwrap();
        assert_eq!(serde_json::to_string(&values).unwrap(), r#"[{"1":"b"}]"#);
        assert!(parse_yaml(FileId(0), "{[a]: b}").unwrap_err().to_string().contains("a key must be text"));
    }
}
