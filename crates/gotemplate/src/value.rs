//! What templates compute with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A value; cloning shares what is large.
#[derive(Clone, Default)]
pub enum Value {
    /// No value at all: what a map gives for an absent key.
    #[default]
    Missing,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(Arc<str>),
    List(Arc<[Value]>),
    Map(Arc<Map>),
    /// A value with fields or methods of its own.
    Object(Arc<dyn Object>),
    Function(Function),
}

/// A map with string keys, iterated in their order.
#[derive(Clone, Debug, Default)]
pub struct Map {
    pub entries: BTreeMap<Arc<str>, Value>,
    /// The zero value of the elements' type; `Nil` for a map of anything.
    pub zero: Value,
}

/// What an [`Object`] has by a name.
pub enum Member {
    Field(Value),
    Method(Function),
}

/// A struct of the caller's: fields and methods by name.
pub trait Object: Send + Sync {
    /// The type in error messages and for `%T`.
    fn type_name(&self) -> &str;
    fn member(&self, name: &str) -> Option<Member>;
    /// What `%v` shows.
    fn text(&self) -> String;
    /// What `range` goes over, `len` counts and `index` picks from; `None` when it is no collection.
    fn items(&self) -> Option<Arc<[Value]>> {
        None
    }
}

type Call = dyn Fn(&[Value]) -> Result<Value, String> + Send + Sync;

/// A function of the caller's. Its arguments are counted before it is called; their types are its own to check.
#[derive(Clone)]
pub struct Function {
    pub(crate) least: usize,
    /// `None` when the last argument may be repeated.
    pub(crate) most: Option<usize>,
    pub(crate) call: Arc<Call>,
}

// === impl Value ===

impl Value {
    pub fn string(text: impl Into<Arc<str>>) -> Value {
        Value::String(text.into())
    }

    pub fn list(items: impl IntoIterator<Item = Value>) -> Value {
        Value::List(items.into_iter().collect())
    }

    /// A map of anything.
    pub fn map<K: Into<Arc<str>>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
        let entries = entries.into_iter().map(|(key, value)| (key.into(), value)).collect();
        Value::Map(Arc::new(Map { entries, zero: Value::Nil }))
    }

    /// A map of strings, whose zero value is the empty string.
    pub fn string_map<K: Into<Arc<str>>, V: Into<Arc<str>>>(
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Value {
        let entries =
            entries.into_iter().map(|(key, value)| (key.into(), Value::String(value.into()))).collect();
        Value::Map(Arc::new(Map { entries, zero: Value::string("") }))
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// An integer or a float as a float.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Int(int) => Some(*int as f64),
            Value::Float(float) => Some(*float),
            _ => None,
        }
    }

    /// Go's name of the type.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Missing | Value::Nil => "interface {}",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::String(_) => "string",
            Value::List(_) => "[]interface {}",
            Value::Map(map) if matches!(map.zero, Value::String(_)) => "map[string]string",
            Value::Map(_) => "map[string]interface {}",
            Value::Object(object) => object.type_name(),
            Value::Function(_) => "func(...interface {}) (interface {}, error)",
        }
    }

    /// Whether `if` takes the value for true: it is not the zero value of its type, not empty, not nil.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Missing | Value::Nil => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::String(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Map(map) => !map.entries.is_empty(),
            Value::Object(object) => object.items().is_none_or(|items| !items.is_empty()),
            Value::Function(_) => true,
        }
    }

    pub(crate) fn is_nil(&self) -> bool {
        matches!(self, Value::Missing | Value::Nil)
    }

    /// The elements of a list or of an object that is a collection.
    pub(crate) fn items(&self) -> Option<Arc<[Value]>> {
        match self {
            Value::List(items) => Some(items.clone()),
            Value::Object(object) => object.items(),
            _ => None,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::format::printf("%#v", std::slice::from_ref(self)))
    }
}

/// Equal as `eq` has it, for the kinds that have it; collections element by element.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Missing | Value::Nil, Value::Missing | Value::Nil) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::String(a), Value::String(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a.entries == b.entries,
            (Value::Object(a), Value::Object(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::string(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::string(value)
    }
}

// === impl Function ===

impl Function {
    /// A function of exactly `arguments` arguments.
    pub fn new(
        arguments: usize,
        call: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Function {
        Function { least: arguments, most: Some(arguments), call: Arc::new(call) }
    }

    /// A function of at least `least` arguments.
    pub fn variadic(
        least: usize,
        call: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Function {
        Function { least, most: None, call: Arc::new(call) }
    }

    /// What Go says about a wrong number of arguments.
    pub(crate) fn check_count(
        name: &str,
        least: usize,
        most: Option<usize>,
        given: usize,
    ) -> Result<(), String> {
        match most {
            None if given < least => {
                Err(format!("wrong number of args for {name}: want at least {least} got {given}"))
            }
            Some(most) if given != most => {
                Err(format!("wrong number of args for {name}: want {most} got {given}"))
            }
            _ => Ok(()),
        }
    }
}
