//! Expressions: literals, f-strings, variables, and the functions of chance that are known.

use std::collections::HashMap;

use gantry_load::locust::native::Value;
use ruff_python_ast::{ConversionFlag, Expr, ExprCall, InterpolatedStringElement, Number, Operator, UnaryOp};
use ruff_text_size::Ranged;

use super::{File, Found};

const MOST_DEPTH: usize = 50;

/// The names of a method. Variables of all methods of a class share one list.
#[derive(Default)]
pub(super) struct Scope {
    own: String,
    names: HashMap<String, usize>,
    count: usize,
    depth: usize,
}

// === impl Scope ===

impl Scope {
    pub(super) fn begin_method(&mut self, own: &str) {
        self.own = own.to_owned();
        self.names.clear();
    }

    pub(super) fn variable(&mut self, name: &str) -> usize {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        self.names.insert(name.to_owned(), self.count);
        self.count += 1;
        self.count - 1
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.names.remove(name);
    }

    pub(super) fn variables(&self) -> usize {
        self.count
    }

    pub(super) fn is_self(&self, expression: &Expr) -> bool {
        matches!(expression, Expr::Name(name) if name.id.as_str() == self.own)
    }
}

pub(super) fn value(file: &File, scope: &mut Scope, expression: &Expr) -> Found<Value> {
    if scope.depth >= MOST_DEPTH {
        return Err((expression.range(), "an expression nested too deep".to_owned()));
    }
    scope.depth += 1;
    let result = lift(file, scope, expression);
    scope.depth -= 1;
    result
}

fn lift(file: &File, scope: &mut Scope, expression: &Expr) -> Found<Value> {
    let all = |scope: &mut Scope, items: &[Expr]| items.iter().map(|item| value(file, scope, item)).collect::<Found<Vec<_>>>();
    match expression {
        Expr::NoneLiteral(_) => Ok(Value::None),
        Expr::BooleanLiteral(literal) => Ok(Value::Bool(literal.value)),
        Expr::StringLiteral(literal) => Ok(Value::Text(literal.value.to_str().to_owned())),
        Expr::NumberLiteral(literal) => match &literal.value {
            Number::Int(number) => {
                number.as_i64().map(Value::Int).ok_or_else(|| (literal.range, "a number of more than 64 bits".to_owned()))
            }
            Number::Float(number) if number.is_finite() => Ok(Value::Float(*number)),
            _ => Err((literal.range, "a number that is not real".to_owned())),
        },
        Expr::UnaryOp(unary) if unary.op == UnaryOp::USub => match value(file, scope, &unary.operand)? {
            Value::Int(number) => Ok(Value::Int(number.saturating_neg())),
            Value::Float(number) => Ok(Value::Float(-number)),
            _ => Err((unary.range, "minus before something that is no number".to_owned())),
        },
        Expr::FString(text) => {
            let mut parts = Vec::new();
            for element in text.value.elements() {
                match element {
                    InterpolatedStringElement::Literal(literal) => parts.push(Value::Text(literal.value.to_string())),
                    InterpolatedStringElement::Interpolation(part) => {
                        let plain = part.format_spec.is_none()
                            && part.debug_text.is_none()
                            && matches!(part.conversion, ConversionFlag::None | ConversionFlag::Str);
                        if !plain {
                            return Err((part.range, "a format in an f-string".to_owned()));
                        }
                        parts.push(printable(value(file, scope, &part.expression)?, &part.expression)?);
                    }
                }
            }
            // Literal pieces between quotes that follow one another are pieces of one text.
            let has_literals = text.value.f_strings().count() < text.value.iter().count();
            if has_literals {
                return Err((text.range, "an f-string joined with another text".to_owned()));
            }
            Ok(Value::Join(parts))
        }
        Expr::List(list) => Ok(Value::List(all(scope, &list.elts)?)),
        Expr::Tuple(tuple) => Ok(Value::List(all(scope, &tuple.elts)?)),
        Expr::Dict(dict) => {
            let mut items = Vec::with_capacity(dict.items.len());
            for item in &dict.items {
                let key = item.key.as_ref().ok_or_else(|| (item.value.range(), "** in a dict".to_owned()))?;
                items.push((value(file, scope, key)?, value(file, scope, &item.value)?));
            }
            Ok(Value::Dict(items))
        }
        Expr::BinOp(sum) if sum.op == Operator::Add => {
            let (left, right) = (value(file, scope, &sum.left)?, value(file, scope, &sum.right)?);
            // One side that is surely a text makes both texts, or Python would raise.
            match (is_text(&left), is_text(&right)) {
                (true, true) => Ok(Value::Join(vec![left, right])),
                _ => Err((sum.range, "a sum that is not of texts".to_owned())),
            }
        }
        Expr::Name(name) => {
            let name_text = name.id.as_str();
            if let Some(index) = scope.names.get(name_text) {
                return Ok(Value::Variable(*index));
            }
            file.constants
                .get(name_text)
                .cloned()
                .ok_or_else(|| (name.range, format!("{name_text}, which is not known here")))
        }
        Expr::Call(call) => self::call(file, scope, call),
        other => Err((other.range(), format!("{}, whose value the native engine does not know", words(other)))),
    }
}

/// Lists and dicts print differently than they are sent.
fn printable(value: Value, expression: &Expr) -> Found<Value> {
    match value {
        Value::List(_) | Value::Dict(_) => Err((expression.range(), "a list or dict printed as text".to_owned())),
        other => Ok(other),
    }
}

fn is_text(value: &Value) -> bool {
    match value {
        Value::Text(_) | Value::Join(_) | Value::Uuid => true,
        Value::Choice(items) => items.iter().all(is_text),
        _ => false,
    }
}

fn call(file: &File, scope: &mut Scope, call: &ExprCall) -> Found<Value> {
    let unknown = || (call.range(), format!("a call of {}", words(&call.func)));
    if !call.arguments.keywords.is_empty() {
        return Err(unknown());
    }
    let arguments = &*call.arguments.args;
    if let (Expr::Name(name), [only]) = (&*call.func, arguments)
        && name.id.as_str() == "str"
        && !scope.names.contains_key("str")
    {
        let inner = printable(value(file, scope, only)?, only)?;
        return Ok(Value::Join(vec![inner]));
    }
    match (file.dotted(&call.func).as_deref(), arguments) {
        (Some("random.randint"), [least, most]) => {
            let (Value::Int(least), Value::Int(most)) = (file.constant(least)?, file.constant(most)?) else {
                return Err((call.range(), "random.randint: expected whole numbers".to_owned()));
            };
            if least > most {
                return Err((call.range(), "random.randint of an empty range".to_owned()));
            }
            Ok(Value::RandInt(least, most))
        }
        (Some("random.uniform"), [least, most]) => {
            Ok(Value::Uniform(file.constant_number(least)?, file.constant_number(most)?))
        }
        (Some("random.random"), []) => Ok(Value::Uniform(0.0, 1.0)),
        (Some("random.choice"), [list]) => match value(file, scope, list)? {
            Value::List(items) if !items.is_empty() => Ok(Value::Choice(items)),
            _ => Err((list.range(), "random.choice: expected a list that is written in the file".to_owned())),
        },
        (Some("uuid.uuid4"), []) => Ok(Value::Uuid),
        _ => Err(unknown()),
    }
}

/// The name of what is called or read, as far as it has one.
pub(super) fn words(expression: &Expr) -> String {
    match expression {
        Expr::Name(name) => name.id.to_string(),
        Expr::Attribute(attribute) => format!("{}.{}", words(&attribute.value), attribute.attr),
        Expr::Call(call) => format!("{}(…)", words(&call.func)),
        Expr::Subscript(subscript) => format!("{}[…]", words(&subscript.value)),
        _ => "an expression".to_owned(),
    }
}
