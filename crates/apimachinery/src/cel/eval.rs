//! The value of an expression.
//!
//! Invariant: values are looked at where they are, and a copy is paid for by all that is copied.

use std::borrow::Cow;

use super::functions::{call, method};
use super::pattern::Pattern;
use super::{Binary, Each, Expression, Node, Unary, cost};
use crate::value::{Kind, Map, Number, Value};

/// What one evaluation may cost; a rule that costs more fails.
const BUDGET: u64 = 1_000_000;
/// What the evaluations of all rules for one object may cost together.
pub const OBJECT_BUDGET: u64 = 10_000_000;
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

/// The value of the expression with the given names. What it cost is taken from `budget`.
pub fn evaluate(
    expression: &Expression,
    names: &[(&str, &Value)],
    budget: &mut u64,
) -> Result<Value, EvalError> {
    let allowance = BUDGET.min(*budget);
    let mut evaluation = Evaluation { left: allowance, pattern: None };
    let value = evaluation.value(&expression.0, Scope { names, outer: None });
    let value = value.and_then(|value| evaluation.owned(value));
    *budget -= allowance - evaluation.left;
    value
}

/// The names that an expression may use: its own, then those around it.
#[derive(Clone, Copy)]
struct Scope<'e> {
    names: &'e [(&'e str, &'e Value)],
    outer: Option<&'e Scope<'e>>,
}

impl<'e> Scope<'e> {
    fn get(self, name: &str) -> Option<&'e Value> {
        let mut scope = self;
        loop {
            if let Some((_, value)) = scope.names.iter().find(|(known, _)| *known == name) {
                return Some(value);
            }
            scope = *scope.outer?;
        }
    }
}

struct Evaluation {
    left: u64,
    /// The last pattern that was no literal: mostly the same is asked about every element of a list.
    pattern: Option<Pattern>,
}

impl Evaluation {
    /// Once it failed it fails for whatever costs anything, so that nothing goes on with the error caught.
    fn spend(&mut self, cost: usize) -> Result<(), EvalError> {
        match self.left.checked_sub(cost as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(EvalError::TooCostly)
            }
        }
    }

    fn owned(&mut self, value: Cow<'_, Value>) -> Result<Value, EvalError> {
        if let Cow::Borrowed(value) = value {
            self.spend(cost::weight(value))?;
        }
        Ok(value.into_owned())
    }

    /// A part of a value: where it is, or copied out of what goes away.
    fn part<'e>(
        &mut self,
        whole: Cow<'e, Value>,
        find: impl Fn(&Value) -> Option<&Value>,
    ) -> Result<Option<Cow<'e, Value>>, EvalError> {
        match whole {
            Cow::Borrowed(whole) => Ok(find(whole).map(Cow::Borrowed)),
            Cow::Owned(whole) => match find(&whole) {
                Some(part) => Ok(Some(Cow::Owned(self.owned(Cow::Borrowed(part))?))),
                None => Ok(None),
            },
        }
    }

    fn values<'e>(&mut self, nodes: &'e [Node], scope: Scope<'e>) -> Result<Vec<Cow<'e, Value>>, EvalError> {
        nodes.iter().map(|node| self.value(node, scope)).collect()
    }

    fn value<'e>(&mut self, node: &'e Node, scope: Scope<'e>) -> Result<Cow<'e, Value>, EvalError> {
        self.spend(1)?;
        match node {
            Node::Literal(value) => Ok(Cow::Borrowed(value)),
            Node::Name(name) => {
                scope.get(name).map(Cow::Borrowed).ok_or_else(|| EvalError::NoSuchName(name.clone()))
            }
            Node::List(items) => {
                let mut made = Vec::with_capacity(items.len());
                for item in items {
                    let item = self.value(item, scope)?;
                    made.push(self.owned(item)?);
                }
                Ok(Cow::Owned(made.into()))
            }
            Node::Map(entries) => self.map(entries, scope),
            Node::Field { of, name, presence } => {
                let of = self.value(of, scope)?;
                self.field(of, name, *presence)
            }
            Node::Index(of, index) => {
                let (of, index) = (self.value(of, scope)?, self.value(index, scope)?);
                self.index(of, &index)
            }
            Node::Unary(operator, of) => {
                let of = self.value(of, scope)?;
                unary(*operator, &of).map(Cow::Owned)
            }
            Node::Binary(operator @ (Binary::And | Binary::Or), a, b) => {
                self.logic(*operator, a, b, scope).map(Cow::Owned)
            }
            Node::Binary(operator, a, b) => {
                let (a, b) = (self.value(a, scope)?, self.value(b, scope)?);
                self.spend(cost::binary(*operator, &a, &b))?;
                binary(*operator, &a, &b).map(Cow::Owned)
            }
            Node::Condition(condition, then, otherwise) => match self.value(condition, scope)?.as_bool() {
                Some(true) => self.value(then, scope),
                Some(false) => self.value(otherwise, scope),
                None => Err(EvalError::NoOverload("_?_:_".into())),
            },
            Node::Call { function, arguments } => self.call(function, arguments, scope),
            Node::Method { of, function, arguments } => {
                let of = self.value(of, scope)?;
                let arguments = self.values(arguments, scope)?;
                self.method(function, &of, &arguments).map(Cow::Owned)
            }
            Node::Matches { of, pattern } => {
                let of = self.value(of, scope)?;
                self.spend(cost::size(&of))?;
                let text = of.as_str().ok_or_else(|| EvalError::NoOverload("matches()".into()))?;
                Ok(Cow::Owned(pattern.is_match(text).into()))
            }
            Node::Each { of, how, variable, filter, body } => {
                let of = self.value(of, scope)?;
                self.each(&of, (*how, variable, filter.as_deref(), body), scope).map(Cow::Owned)
            }
        }
    }

    fn map<'e>(
        &mut self,
        entries: &'e [(Node, Node)],
        scope: Scope<'e>,
    ) -> Result<Cow<'e, Value>, EvalError> {
        let mut map = Map::new();
        for (key, value) in entries {
            let key = self.value(key, scope)?;
            let value = self.value(value, scope)?;
            self.spend(map.len() / 8 + cost::weight(&key))?;
            map.insert(key_text(&key), self.owned(value)?);
        }
        Ok(Cow::Owned(map.into()))
    }

    fn field<'e>(
        &mut self,
        of: Cow<'e, Value>,
        name: &str,
        presence: bool,
    ) -> Result<Cow<'e, Value>, EvalError> {
        if of.as_object().is_none() {
            return Err(EvalError::NoOverload(format!("field {name}")));
        }
        self.spend(cost::lookup(&of))?;
        let known = if of.get(name).is_some() { Cow::Borrowed(name) } else { Cow::Owned(unescaped(name)) };
        if presence {
            return Ok(Cow::Owned(of.get(&known).is_some().into()));
        }
        let found = self.part(of, |of| of.get(&known))?;
        found.ok_or_else(|| EvalError::NoSuchKey(name.to_owned()))
    }

    fn index<'e>(&mut self, of: Cow<'e, Value>, index: &Value) -> Result<Cow<'e, Value>, EvalError> {
        match (&of.kind, &index.kind) {
            (Kind::Array(_), Kind::Number(Number::Int(at))) => {
                let out_of_bounds = EvalError::OutOfBounds(*at);
                let Ok(at) = usize::try_from(*at) else { return Err(out_of_bounds) };
                self.part(of, |of| of.as_array()?.get(at))?.ok_or(out_of_bounds)
            }
            (Kind::Object(_), _) => {
                self.spend(cost::lookup(&of) + cost::weight(index))?;
                let key = key_text(index);
                self.part(of, |of| of.get(&key))?.ok_or(EvalError::NoSuchKey(key))
            }
            _ => Err(EvalError::NoOverload("_[_]".into())),
        }
    }

    fn call<'e>(
        &mut self,
        function: &str,
        arguments: &'e [Node],
        scope: Scope<'e>,
    ) -> Result<Cow<'e, Value>, EvalError> {
        let [argument] = arguments else { return Err(EvalError::NoOverload(format!("{function}()"))) };
        let argument = self.value(argument, scope)?;
        if function == "dyn" {
            return Ok(argument);
        }
        // The characters of a text are counted, the elements of a list are known.
        if function != "size" || argument.as_str().is_some() {
            self.spend(cost::size(&argument))?;
        }
        call(function, &argument).map(Cow::Owned)
    }

    fn method(
        &mut self,
        function: &str,
        of: &Value,
        arguments: &[Cow<'_, Value>],
    ) -> Result<Value, EvalError> {
        let arguments: Vec<&Value> = arguments.iter().map(|argument| &**argument).collect();
        self.spend(cost::method(function, of, &arguments))?;
        if let ("matches", [pattern]) = (function, &arguments[..]) {
            let (Some(text), Some(pattern)) = (of.as_str(), pattern.as_str()) else {
                return Err(EvalError::NoOverload("matches()".into()));
            };
            return Ok(self.matches(text, pattern)?.into());
        }
        method(function, of, &arguments)
    }

    fn matches(&mut self, text: &str, pattern: &str) -> Result<bool, EvalError> {
        if self.pattern.as_ref().is_none_or(|known| known.text() != pattern) {
            self.spend(cost::PATTERN)?;
            let read = Pattern::of_object(pattern);
            self.pattern =
                Some(read.ok_or(EvalError::Arithmetic("no regular expression, or too large a one"))?);
        }
        Ok(self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(text)))
    }

    /// One side that decides alone does so even if the other has no value.
    fn logic<'e>(
        &mut self,
        operator: Binary,
        a: &'e Node,
        b: &'e Node,
        scope: Scope<'e>,
    ) -> Result<Value, EvalError> {
        let decides = operator == Binary::Or;
        let left = self.value(a, scope).map(|left| left.as_bool());
        if left == Ok(Some(decides)) {
            return Ok(decides.into());
        }
        let right = self.value(b, scope)?.as_bool();
        match (left, right) {
            (_, Some(flag)) if flag == decides => Ok(decides.into()),
            (Err(error), _) => Err(error),
            (Ok(Some(_)), Some(_)) => Ok((!decides).into()),
            _ => Err(EvalError::NoOverload(format!("{operator:?}"))),
        }
    }

    fn each<'e>(
        &mut self,
        of: &Value,
        (how, variable, filter, body): (Each, &str, Option<&'e Node>, &'e Node),
        scope: Scope<'e>,
    ) -> Result<Value, EvalError> {
        let keys: Vec<Value>;
        // A map is gone through by its keys.
        let items = match &of.kind {
            Kind::Array(items) => items,
            Kind::Object(map) => {
                self.spend(map.len())?;
                keys = map.keys().map(|key| Kind::String(key.clone()).into()).collect();
                &keys
            }
            _ => return Err(EvalError::NoOverload(format!("{how:?}"))),
        };
        let mut made = Vec::new();
        let mut matching = 0;
        let mut failed = None;
        for item in items {
            let own = [(variable, item)];
            let inner = Scope { names: &own, outer: Some(&scope) };
            if let Some(filter) = filter
                && self.value(filter, inner)?.as_bool() == Some(false)
            {
                continue;
            }
            match (how, self.value(body, inner)) {
                (_, Err(EvalError::TooCostly)) => return Err(EvalError::TooCostly),
                (Each::All | Each::Exists, Err(error)) => failed = Some(error),
                (_, Err(error)) => return Err(error),
                (Each::All, Ok(value)) if value.as_bool() == Some(false) => return Ok(false.into()),
                (Each::Exists, Ok(value)) if value.as_bool() == Some(true) => return Ok(true.into()),
                (Each::ExistsOne, Ok(value)) => matching += usize::from(value.as_bool() == Some(true)),
                (Each::Map, Ok(value)) => made.push(self.owned(value)?),
                (Each::Filter, Ok(value)) if value.as_bool() == Some(true) => {
                    made.push(self.owned(Cow::Borrowed(item))?);
                }
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

fn key_text(key: &Value) -> String {
    key.as_str().map_or_else(|| serde_json::to_string(key).unwrap_or_default(), str::to_owned)
}

fn unary(operator: Unary, of: &Value) -> Result<Value, EvalError> {
    match (operator, &of.kind) {
        (Unary::Not, Kind::Bool(flag)) => Ok((!flag).into()),
        (Unary::Minus, Kind::Number(Number::Int(number))) => {
            number.checked_neg().map(Value::from).ok_or(EvalError::Arithmetic("integer overflow"))
        }
        (Unary::Minus, Kind::Number(number)) => Ok((-number.as_f64()).into()),
        (operator, _) => Err(EvalError::NoOverload(format!("{operator:?}"))),
    }
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
        let value = evaluate(&expression, &[("self", &own)], &mut OBJECT_BUDGET.clone())
            .map_err(|error| error.to_string())?;
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
            ("'a,b,c'.split(',', 2)", r#"["a","b,c"]"#),
            ("'a,b'.split(',', 0) == [] && 'a,b'.split(',', -1) == ['a', 'b']", "true"),
            ("'aaa'.replace('a', 'b', 2) + 'aa'.replace('a', 'b', -1)", "\"bbabb\""),
            ("'äbäb'.indexOf('b', 2)", "3"),
            ("'äbäb'.indexOf('b', 9)", "-1"),
            ("'äbäb'.lastIndexOf('b', 2)", "1"),
            ("'ab€'.lastIndexOf('a', 1)", "0"),
            ("[1, 2, 1].lastIndexOf(1)", "2"),
            ("int(2.9) + int(-2.9)", "0"),
            ("uint('18446744073709551615')", "18446744073709551615"),
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
            ("int(1e30)", "integer overflow"),
            ("uint(-1)", "unsigned integer overflow"),
            ("uint('-1')", "the text is no unsigned integer"),
            ("'a'.indexOf('a', -1)", "index out of bounds: -1"),
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

    #[test]
    fn a_cost_bounds_memory_and_time() {
        let text = "x".repeat(1000);
        let items: Vec<Value> = (0..1000_i64).map(Value::from).collect();
        let own: Value = [
            (crate::value::Key::from("text"), Value::from(text)),
            ("items".into(), items.into()),
            ("max".into(), 5000_i64.into()),
        ]
        .into_iter()
        .collect::<Map>()
        .into();
        let cost = |text: &str| {
            let mut left = OBJECT_BUDGET;
            let expression = parse(text).unwrap();
            evaluate(&expression, &[("self", &own)], &mut left).map(|_| OBJECT_BUDGET - left)
        };
        // What is only looked at is not copied.
        assert!(cost("self.items.all(i, i <= self.max)").unwrap() < 10_000);
        assert!(cost("self.items.all(i, self.items.size() > i)").unwrap() < 10_000);
        let doubling = |inner: &str, rounds: usize| {
            (0..rounds).fold(inner.to_owned(), |text, _| format!("[{text}].map(x, [x, x])"))
        };
        assert!(cost(&doubling("1", 4)).is_ok());
        let growing = |step: &str| format!("[self.text]{}", format!(".map(x, {step})").repeat(12));
        for costly in [
            doubling("1", 40),
            growing("x.replace('', self.text)"),
            growing("x.split('').join(self.text)"),
            format!("[self.text]{}", ".map(x, x + x)".repeat(40)),
            format!("[self.items]{}", ".map(x, x + x)".repeat(40)),
            format!("[self]{}", format!(".map(x, {}x{})", "[".repeat(80), "]".repeat(80)).repeat(100)),
            "self.items.all(i, self.items == self.items)".into(),
            "self.items.all(i, {'a': 1}[self] == 1 || true)".into(),
            "self.items.all(i, self.items in [self.items])".into(),
            "self.items.all(i, 'x'.matches(string(i)) || true)".into(),
        ] {
            assert_eq!(cost(&costly), Err(EvalError::TooCostly), "{costly}");
        }
    }

    #[test]
    fn all_evaluations_of_an_object_share_a_budget() {
        let expression = parse("[1, 2, 3].all(i, i > 0)").unwrap();
        let mut left = 20;
        assert!(evaluate(&expression, &[], &mut left).is_ok());
        assert!(left < 20);
        assert_eq!(evaluate(&expression, &[], &mut left), Err(EvalError::TooCostly));
        assert_eq!(left, 0);
    }
}
