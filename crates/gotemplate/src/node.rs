//! The parsed template, and its text in error messages.

use std::fmt::{self, Display};
use std::sync::Arc;

use crate::value::Value;

/// Line from 1, column in bytes from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// One named template.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) name: Arc<str>,
    /// The name that the text was parsed under.
    pub(crate) file: Arc<str>,
    pub(crate) root: Vec<Node>,
}

#[derive(Debug)]
pub(crate) enum Node {
    Text(String),
    Action(Position, Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template { at: Position, name: Arc<str>, pipe: Option<Pipe> },
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) at: Position,
    pub(crate) pipe: Pipe,
    pub(crate) list: Vec<Node>,
    pub(crate) otherwise: Vec<Node>,
}

#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) at: Position,
    /// `=` instead of `:=`.
    pub(crate) assigns: bool,
    pub(crate) variables: Vec<Arc<str>>,
    pub(crate) commands: Vec<Command>,
}

/// An operand and its arguments; never empty.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) at: Position,
    pub(crate) args: Vec<Term>,
}

#[derive(Debug)]
pub(crate) struct Term {
    pub(crate) at: Position,
    pub(crate) kind: TermKind,
}

#[derive(Debug)]
pub(crate) enum TermKind {
    Dot,
    Nil,
    /// A literal and how it was written.
    Literal(Value, String),
    /// `.A.B` on dot.
    Field(Vec<Arc<str>>),
    /// `$x.A.B`; the first is the variable with its `$`.
    Variable(Vec<Arc<str>>),
    /// `(…).A.B`, or a function's result.
    Chain(Box<Term>, Vec<Arc<str>>),
    Function(Arc<str>),
    Pipe(Pipe),
}

impl Tree {
    /// Nothing but white space.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Text(text) => f.write_str(text),
            Node::Action(_, pipe) => write!(f, "{{{{{pipe}}}}}"),
            Node::If(branch) => write!(f, "{{{{if {}}}}}…", branch.pipe),
            Node::With(branch) => write!(f, "{{{{with {}}}}}…", branch.pipe),
            Node::Range(branch) => write!(f, "{{{{range {}}}}}…", branch.pipe),
            Node::Template { name, pipe: None, .. } => write!(f, "{{{{template {name:?}}}}}"),
            Node::Template { name, pipe: Some(pipe), .. } => write!(f, "{{{{template {name:?} {pipe}}}}}"),
            Node::Break => f.write_str("{{break}}"),
            Node::Continue => f.write_str("{{continue}}"),
        }
    }
}

impl Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            f.write_str(&self.variables.join(", "))?;
            f.write_str(if self.assigns { " = " } else { " := " })?;
        }
        for (index, command) in self.commands.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            command.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, arg) in self.args.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            arg.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |f: &mut fmt::Formatter<'_>, names: &[Arc<str>]| {
            names.iter().try_for_each(|name| write!(f, ".{name}"))
        };
        match &self.kind {
            TermKind::Dot => f.write_str("."),
            TermKind::Nil => f.write_str("nil"),
            TermKind::Literal(_, text) => f.write_str(text),
            TermKind::Field(names) => fields(f, names),
            TermKind::Variable(names) => f.write_str(&names.join(".")),
            TermKind::Chain(term, names) => {
                term.fmt(f)?;
                fields(f, names)
            }
            TermKind::Function(name) => f.write_str(name),
            TermKind::Pipe(pipe) => write!(f, "({pipe})"),
        }
    }
}
