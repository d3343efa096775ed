//! The value of an expression.

use super::functions::{call, method};
use super::{Binary, Each, Expression, Node, Unary};
use crate::value::{Kind, Map, Number, Value};

/// What one evaluation may cost; a rule that costs more fails.
const BUDGET: u64 = 1_000_000;
/// Names that are words of the language are written like this in a rule.
const ESCAPES: [(&str, &str); 4] =
    [("__underscores__", "__"), ("__dot__", "."), ("__dash__", "-"), ("__slash__", "/")];

/// Why an expression has no value, in the words of the reference's evaluator where it has some.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum EvalError {
    #[error("no such key: {0}")]
    NoSuchKey(String),
    #[error("undeclared reference to '{0}'")]
    NoSuchName(String),
    #[error("no such overload: {0}")]
    NoOverload(String),
    #[error("index out of bounds: {0}")]
    OutOfBounds(i64),
    #[error("{0}")]
    Arithmetic(&'static str),
    #[error("operation cancelled: actual cost limit exceeded")]
    TooCostly,
}

/// The value of the expression with the given names.
pub fn evaluate(expression: &Expression, names: &[(&str, &Value)]) -> Result<Value, EvalError> {
    let names = names.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone())).collect();
    Evaluation { names, left: BUDGET }.value(&expression.0)
}

struct Evaluation {
    /// The innermost last.
    names: Vec<(String, Value)>,
    left: u64,
}

impl Evaluation {
    fn spend(&mut self, cost: usize) -> Result<(), EvalError> {
        self.left = self.left.checked_sub(cost as u64).ok_or(EvalError::TooCostly)?;
        Ok(())
    }

    fn values(&mut self, nodes: &[Node]) -> Result<Vec<Value>, EvalError> {
        nodes.iter().map(|node| self.value(node)).collect()
    }

    fn value(&mut self, node: &Node) -> Result<Value, EvalError> {
        self.spend(1)?;
        match node {
            Node::Literal(value) => Ok(value.clone()),
            Node::Name(name) => {
                let found = self.names.iter().rev().find(|(known, _)| known == name);
                let value = found.map(|(_, value)| value.clone());
                value.ok_or_else(|| EvalError::NoSuchName(name.clone()))
            }
            Node::List(items) => Ok(self.values(items)?.into()),
            Node::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let key = self.value(key)?;
                    let value = self.value(value)?;
                    map.insert(key_text(&key), value);
                }
                Ok(map.into())
            }
            Node::Field { of, name, presence } => self.field(of, name, *presence),
            Node::Index(of, index) => {
                let (of, index) = (self.value(of)?, self.value(index)?);
                match (&of.kind, &index.kind) {
                    (Kind::Array(items), Kind::Number(Number::Int(at))) => usize::try_from(*at)
                        .ok()
                        .and_then(|at| items.get(at))
                        .cloned()
                        .ok_or(EvalError::OutOfBounds(*at)),
                    (Kind::Object(map), _) => {
                        let key = key_text(&index);
                        map.get(&key).cloned().ok_or(EvalError::NoSuchKey(key))
                    }
                    _ => Err(EvalError::NoOverload("_[_]".into())),
                }
            }
            Node::Unary(operator, of) => match (operator, self.value(of)?.kind) {
                (Unary::Not, Kind::Bool(flag)) => Ok((!flag).into()),
                (Unary::Minus, Kind::Number(Number::Int(number))) => {
                    number.checked_neg().map(Value::from).ok_or(EvalError::Arithmetic("integer overflow"))
                }
                (Unary::Minus, Kind::Number(number)) => Ok((-number.as_f64()).into()),
                (operator, _) => Err(EvalError::NoOverload(format!("{operator:?}"))),
            },
            Node::Binary(operator @ (Binary::And | Binary::Or), a, b) => self.logic(*operator, a, b),
            Node::Binary(operator, a, b) => {
                let (a, b) = (self.value(a)?, self.value(b)?);
                self.spend(size(&a).min(size(&b)))?;
                binary(*operator, &a, &b)
            }
            Node::Condition(condition, then, otherwise) => match self.value(condition)?.as_bool() {
                Some(true) => self.value(then),
                Some(false) => self.value(otherwise),
                None => Err(EvalError::NoOverload("_?_:_".into())),
            },
            Node::Call { function, arguments } => {
                let arguments = self.values(arguments)?;
                self.spend(arguments.iter().map(size).sum())?;
                call(function, &arguments)
            }
            Node::Method { of, function, arguments } => {
                let of = self.value(of)?;
                let arguments = self.values(arguments)?;
                self.spend(size(&of))?;
                method(function, &of, &arguments)
            }
            Node::Each { of, how, variable, filter, body } => {
                let of = self.value(of)?;
                self.each(&of, *how, variable, filter.as_deref(), body)
            }
        }
    }

    fn field(&mut self, of: &Node, name: &str, presence: bool) -> Result<Value, EvalError> {
        let of = self.value(of)?;
        let Kind::Object(map) = &of.kind else { return Err(EvalError::NoOverload(format!("field {name}"))) };
        let found = map.get(name).or_else(|| map.get(&unescaped(name)));
        match (found, presence) {
            (found, true) => Ok(found.is_some().into()),
            (Some(value), false) => Ok(value.clone()),
            (None, false) => Err(EvalError::NoSuchKey(name.to_owned())),
        }
    }

    /// One side that decides alone does so even if the other has no value.
    fn logic(&mut self, operator: Binary, a: &Node, b: &Node) -> Result<Value, EvalError> {
        let decides = operator == Binary::Or;
        let left = self.value(a);
        if let Ok(value) = &left
            && value.as_bool() == Some(decides)
        {
            return Ok(decides.into());
        }
        let right = self.value(b)?;
        match (left, right.as_bool()) {
            (_, Some(flag)) if flag == decides => Ok(decides.into()),
            (Err(error), _) => Err(error),
            (Ok(left), Some(_)) if left.as_bool().is_some() => Ok((!decides).into()),
            _ => Err(EvalError::NoOverload(format!("{operator:?}"))),
        }
    }

    fn each(
        &mut self,
        of: &Value,
        how: Each,
        variable: &str,
        filter: Option<&Node>,
        body: &Node,
    ) -> Result<Value, EvalError> {
        // A map is gone through by its keys.
        let items: Vec<Value> = match &of.kind {
            Kind::Array(items) => items.clone(),
            Kind::Object(map) => map.keys().map(|key| Value::from(key.as_str())).collect(),
            _ => return Err(EvalError::NoOverload(format!("{how:?}"))),
        };
        let mut made = Vec::new();
        let mut matching = 0;
        let mut failed = None;
        for item in items {
            self.names.push((variable.to_owned(), item.clone()));
            let wanted = match filter {
                Some(filter) => self.value(filter),
                None => Ok(true.into()),
            };
            let result = match &wanted {
                Ok(wanted) if wanted.as_bool() == Some(false) => {
                    self.names.pop();
                    continue;
                }
                Ok(_) => self.value(body),
                Err(_) => wanted,
            };
            self.names.pop();
            match (how, result) {
                (_, Err(EvalError::TooCostly)) => return Err(EvalError::TooCostly),
                (Each::All | Each::Exists, Err(error)) => failed = Some(error),
                (_, Err(error)) => return Err(error),
                (Each::All, Ok(value)) if value.as_bool() == Some(false) => return Ok(false.into()),
                (Each::Exists, Ok(value)) if value.as_bool() == Some(true) => return Ok(true.into()),
                (Each::ExistsOne, Ok(value)) => matching += usize::from(value.as_bool() == Some(true)),
                (Each::Map, Ok(value)) => made.push(value),
                (Each::Filter, Ok(value)) if value.as_bool() == Some(true) => made.push(item),
                _ => {}
            }
        }
        match (how, failed) {
            (_, Some(error)) => Err(error),
            (Each::All, None) => Ok(true.into()),
            (Each::Exists, None) => Ok(false.into()),
            (Each::ExistsOne, None) => Ok((matching == 1).into()),
            (Each::Map | Each::Filter, None) => Ok(made.into()),
        }
    }
}

fn unescaped(name: &str) -> String {
    if let Some(word) = name.strip_prefix("__").and_then(|name| name.strip_suffix("__"))
        && !word.contains("__")
        && !ESCAPES.iter().any(|(escape, _)| *escape == name)
    {
        return word.to_owned();
    }
    ESCAPES.iter().fold(name.to_owned(), |name, (escape, text)| name.replace(escape, text))
}

/// What going through a value costs.
fn size(value: &Value) -> usize {
    match &value.kind {
        Kind::String(text) => 1 + text.len() / 10,
        Kind::Array(items) => 1 + items.len(),
        Kind::Object(map) => 1 + map.len(),
        _ => 1,
    }
}

fn key_text(key: &Value) -> String {
    key.as_str().map_or_else(|| serde_json::to_string(key).unwrap_or_default(), str::to_owned)
}

fn binary(operator: Binary, a: &Value, b: &Value) -> Result<Value, EvalError> {
    use std::cmp::Ordering;
    let no_overload = || EvalError::NoOverload(format!("{} {operator:?} {}", a.type_name(), b.type_name()));
    match operator {
        Binary::Equal => return Ok((a == b).into()),
        Binary::NotEqual => return Ok((a != b).into()),
        Binary::In => {
            return match &b.kind {
                Kind::Array(items) => Ok(items.contains(a).into()),
                Kind::Object(map) => Ok(map.contains_key(&key_text(a)).into()),
                _ => Err(no_overload()),
            };
        }
        Binary::Less | Binary::LessEqual | Binary::Greater | Binary::GreaterEqual => {
            let order = match (&a.kind, &b.kind) {
                (Kind::Number(Number::Int(a)), Kind::Number(Number::Int(b))) => Some(a.cmp(b)),
                (Kind::Number(a), Kind::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
                (Kind::String(a), Kind::String(b)) => Some(a.cmp(b)),
                (Kind::Bool(a), Kind::Bool(b)) => Some(a.cmp(b)),
                _ => return Err(no_overload()),
            };
            let holds = match operator {
                Binary::Less => order == Some(Ordering::Less),
                Binary::LessEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                Binary::Greater => order == Some(Ordering::Greater),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            };
            return Ok(holds.into());
        }
        _ => {}
    }
    match (&a.kind, &b.kind) {
        (Kind::Number(Number::Int(a)), Kind::Number(Number::Int(b))) => integer(operator, *a, *b),
        (Kind::Number(a), Kind::Number(b)) => {
            let (a, b) = (a.as_f64(), b.as_f64());
            Ok(match operator {
                Binary::Add => a + b,
                Binary::Subtract => a - b,
                Binary::Multiply => a * b,
                Binary::Divide => a / b,
                _ => return Err(no_overload()),
            }
            .into())
        }
        (Kind::String(a), Kind::String(b)) if operator == Binary::Add => Ok(format!("{a}{b}").into()),
        (Kind::Array(a), Kind::Array(b)) if operator == Binary::Add => {
            Ok(a.iter().chain(b).cloned().collect::<Vec<_>>().into())
        }
        _ => Err(no_overload()),
    }
}

fn integer(operator: Binary, a: i64, b: i64) -> Result<Value, EvalError> {
    let result = match operator {
        Binary::Divide if b == 0 => return Err(EvalError::Arithmetic("division by zero")),
        Binary::Remainder if b == 0 => return Err(EvalError::Arithmetic("modulus by zero")),
        Binary::Add => a.checked_add(b),
        Binary::Subtract => a.checked_sub(b),
        Binary::Multiply => a.checked_mul(b),
        Binary::Divide => a.checked_div(b),
        Binary::Remainder => a.checked_rem(b),
        _ => return Err(EvalError::NoOverload(format!("{operator:?}"))),
    };
    result.map(Value::from).ok_or(EvalError::Arithmetic("integer overflow"))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn run(text: &str) -> Result<String, String> {
        let own: Value = serde_json::from_str(
            r#"{"size":3,"count":50,"name":"web-1","tags":["a","b"],"ports":[{"n":"x","p":80},{"n":"y","p":81}],"map":{"k":"v"},"a-b":1,"namespace":"ns"}"#,
        )
        .unwrap();
        let expression = parse(text).map_err(|error| error.to_string())?;
        let value = evaluate(&expression, &[("self", &own)]).map_err(|error| error.to_string())?;
        Ok(serde_json::to_string(&value).unwrap())
    }

    #[test]
    fn expressions() {
        for (text, expected) in [
            ("self.count <= self.size * 10", "false"),
            ("1 + 2 * 3 - 4", "3"),
            ("self.size > 2 ? 'big' : \"small\"", "\"big\""),
            ("has(self.size) && !has(self.nope)", "true"),
            ("self.tags.all(t, t.size() == 1)", "true"),
            ("self.ports.exists(p, p.p == 81)", "true"),
            ("self.ports.exists_one(p, p.n == 'x')", "true"),
            ("self.ports.map(p, p.p)", "[80,81]"),
            ("self.ports.filter(p, p.p > 80).map(p, p.n)", "[\"y\"]"),
            ("'a' in self.tags && 'k' in self.map", "true"),
            ("self.name.startsWith('web') && self.name.matches('^[a-z]+-[0-9]$')", "true"),
            ("self.nope == 1 || self.size == 3", "true"),
            ("self.a__dash__b == 1 && self.__namespace__ == 'ns'", "true"),
            ("self.map.all(k, self.map[k] == 'v')", "true"),
            ("[1, 2] + [3] == [1, 2, 3]", "true"),
            ("size({'a': 1}) == 1 // one", "true"),
            ("int('7') + 1", "8"),
            ("-self.size", "-3"),
        ] {
            assert_eq!(run(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_says_why() {
        for (text, expected) in [
            ("self.nope", "no such key: nope"),
            ("1 / 0", "division by zero"),
            ("self.tags[5]", "index out of bounds: 5"),
            ("nothing", "undeclared reference to 'nothing'"),
            ("self.size +", "at character 12: expected a value, found End"),
            ("quantity('1')", "at character 14: the function quantity() is not supported"),
        ] {
            assert_eq!(run(text), Err(expected.to_owned()), "{text}");
        }
        assert!(run("self.tags.all(").is_err() && run("'abc").is_err());
        let deep = "(".repeat(500);
        assert!(run(&deep).is_err());
        let costly = "self.tags.all(a, self.tags.all(b, ".to_owned()
            + &"self.tags.all(c, ".repeat(18)
            + "true"
            + &")".repeat(20);
        assert!(run(&costly).unwrap_err().contains("cost limit"));
    }
}
