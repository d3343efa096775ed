//! The Common Expression Language, as far as the rules of custom resources use it: values are JSON, types are dynamic.
//!
//! Left out, and said so when a rule is read: protobuf messages, time, and Kubernetes' libraries for URLs, addresses,
//! quantities and formats.

mod cost;
mod eval;
mod functions;
mod parse;
mod pattern;

pub use eval::{EvalError, OBJECT_BUDGET, evaluate};
pub use parse::{ParseError, parse};

use crate::value::Value;

/// An expression that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression(Node);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Literal(Value),
    Name(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    /// `of.field`, or its presence where `has()` asks.
    Field {
        of: Box<Node>,
        name: String,
        presence: bool,
    },
    Index(Box<Node>, Box<Node>),
    Unary(Unary, Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    Condition(Box<Node>, Box<Node>, Box<Node>),
    Call {
        function: String,
        arguments: Vec<Node>,
    },
    Method {
        of: Box<Node>,
        function: String,
        arguments: Vec<Node>,
    },
    /// `of.matches("literal")`.
    Matches {
        of: Box<Node>,
        pattern: pattern::Pattern,
    },
    /// `of.all(variable, body)`; `map` may have a filter before what it makes.
    Each {
        of: Box<Node>,
        how: Each,
        variable: String,
        filter: Option<Box<Node>>,
        body: Box<Node>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unary {
    Not,
    Minus,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Binary {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Each {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

impl Expression {
    /// True if the expression speaks of `name`.
    pub fn mentions(&self, name: &str) -> bool {
        self.0.mentions(name)
    }
}

impl Node {
    fn mentions(&self, name: &str) -> bool {
        let any = |nodes: &[Node]| nodes.iter().any(|node| node.mentions(name));
        match self {
            Node::Literal(_) => false,
            Node::Name(known) => known == name,
            Node::List(items) => any(items),
            Node::Map(entries) => {
                entries.iter().any(|(key, value)| key.mentions(name) || value.mentions(name))
            }
            Node::Field { of, .. } | Node::Matches { of, .. } | Node::Unary(_, of) => of.mentions(name),
            Node::Index(a, b) | Node::Binary(_, a, b) => a.mentions(name) || b.mentions(name),
            Node::Condition(a, b, c) => a.mentions(name) || b.mentions(name) || c.mentions(name),
            Node::Call { arguments, .. } => any(arguments),
            Node::Method { of, arguments, .. } => of.mentions(name) || any(arguments),
            Node::Each { of, filter, body, .. } => {
                of.mentions(name)
                    || body.mentions(name)
                    || filter.as_ref().is_some_and(|filter| filter.mentions(name))
            }
        }
    }
}
