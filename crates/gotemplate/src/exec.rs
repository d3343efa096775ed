//! Walks a tree with a value as dot and writes text.

use std::fmt::Display;
use std::sync::Arc;

use crate::builtins;
use crate::error::Error;
use crate::format;
use crate::node::{Branch, Command, Node, Pipe, Position, Term, TermKind, Tree};
use crate::value::{Function, Member, Value};
use crate::{MissingKey, Template};

pub(crate) fn execute(template: &Template, name: &str, data: &Value) -> Result<String, Error> {
    let Some(tree) = template.trees.get(name) else { return Err(Error::NotDefined(name.into())) };
    let dot = match data {
        Value::Nil => Value::Missing,
        data => data.clone(),
    };
    let mut run = Run {
        template,
        tree,
        at: (Position { line: 1, column: 0 }, &""),
        variables: vec![("$".into(), dot.clone())],
        steps: 0,
        depth: 0,
        out: String::new(),
    };
    run.list(&dot, &tree.root)?;
    Ok(run.out)
}

#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'a> {
    template: &'a Template,
    tree: &'a Tree,
    /// What is being evaluated, for errors.
    at: (Position, &'a dyn Display),
    variables: Vec<(Arc<str>, Value)>,
    steps: u64,
    depth: usize,
    out: String,
}

impl<'a> Run<'a> {
    fn fail<T>(&self, message: impl Into<String>) -> Result<T, Error> {
        let (Position { line, column }, context) = &self.at;
        Err(Error::Execute {
            file: self.tree.file.clone(),
            line: *line,
            column: *column,
            template: self.tree.name.clone(),
            context: context.to_string(),
            message: message.into(),
        })
    }

    fn step(&mut self) -> Result<(), Error> {
        self.steps += 1;
        let most = self.template.limits.steps;
        if self.steps > most {
            return self.fail(format!("more than {most} steps"));
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        self.fits(self.out.len().saturating_add(text.len()))?;
        self.out.push_str(text);
        Ok(())
    }

    fn fits(&self, bytes: usize) -> Result<(), Error> {
        let most = self.template.limits.output_bytes;
        if bytes > most {
            return self.fail(format!("more than {most} bytes of text"));
        }
        Ok(())
    }

    // === statements ===

    fn list(&mut self, dot: &Value, nodes: &'a [Node]) -> Result<Flow, Error> {
        let most = self.template.limits.depth;
        if self.depth >= most {
            return self.fail(format!("exceeded maximum template depth ({most})"));
        }
        self.depth += 1;
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(dot, node)?;
            if flow != Flow::On {
                break;
            }
        }
        self.depth -= 1;
        Ok(flow)
    }

    fn node(&mut self, dot: &Value, node: &'a Node) -> Result<Flow, Error> {
        self.step()?;
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Action(at, pipe) => {
                self.at = (*at, node);
                let value = self.pipeline(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.at = (*at, node);
                    self.print(&value, node)?;
                }
            }
            Node::If(branch) => return self.branch(dot, branch, node, false),
            Node::With(branch) => return self.branch(dot, branch, node, true),
            Node::Range(branch) => return self.range(dot, branch, node),
            Node::Template { at, name, pipe } => {
                self.at = (*at, node);
                self.call_template(dot, name, pipe.as_ref())?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn print(&mut self, value: &Value, node: &Node) -> Result<(), Error> {
        match value {
            Value::Missing | Value::Nil => self.write("<no value>"),
            Value::String(text) => self.write(text),
            Value::Function(_) => self.fail(format!("can't print {node} of type {}", value.type_name())),
            value => self.write(&format::print(std::slice::from_ref(value))),
        }
    }

    fn branch(
        &mut self,
        dot: &Value,
        branch: &'a Branch,
        node: &'a Node,
        is_with: bool,
    ) -> Result<Flow, Error> {
        let scope = self.variables.len();
        self.at = (branch.at, node);
        let value = self.pipeline(dot, &branch.pipe)?;
        let flow = if value.is_true() {
            self.list(if is_with { &value } else { dot }, &branch.list)?
        } else if branch.otherwise.is_empty() {
            Flow::On
        } else {
            self.list(dot, &branch.otherwise)?
        };
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn range(&mut self, dot: &Value, branch: &'a Branch, node: &'a Node) -> Result<Flow, Error> {
        let scope = self.variables.len();
        self.at = (branch.at, node);
        let value = self.pipeline(dot, &branch.pipe)?;
        let mut went = false;
        let mut end = Flow::On;
        if let Some(items) = value.items() {
            for (index, item) in items.iter().enumerate() {
                went = true;
                let index = Value::Int(i64::try_from(index).unwrap_or(i64::MAX));
                if self.iteration(branch, index, item)? == Flow::Break {
                    break;
                }
            }
        } else {
            match &value {
                Value::Map(map) => {
                    for (key, item) in &map.entries {
                        went = true;
                        if self.iteration(branch, Value::String(key.clone()), item)? == Flow::Break {
                            break;
                        }
                    }
                }
                Value::Int(count) => {
                    if branch.pipe.variables.len() > 1 {
                        let message = format!("can't use {count} to iterate over more than one variable");
                        return self.fail(message);
                    }
                    for number in 0..*count {
                        went = true;
                        let number = Value::Int(number);
                        if self.iteration(branch, number.clone(), &number)? == Flow::Break {
                            break;
                        }
                    }
                }
                Value::Missing | Value::Nil => {}
                other => {
                    let shown = format::print(std::slice::from_ref(other));
                    return self.fail(format!("range can't iterate over {shown}"));
                }
            }
        }
        if !went && !branch.otherwise.is_empty() {
            end = self.list(dot, &branch.otherwise)?;
        }
        self.variables.truncate(scope);
        Ok(end)
    }

    fn iteration(&mut self, branch: &'a Branch, index: Value, item: &Value) -> Result<Flow, Error> {
        self.step()?;
        let mark = self.variables.len();
        let variables = &branch.pipe.variables;
        if branch.pipe.assigns {
            match variables.as_slice() {
                [only] => self.assign(only, item.clone())?,
                [first, second] => {
                    self.assign(first, index)?;
                    self.assign(second, item.clone())?;
                }
                _ => {}
            }
        } else {
            // Declared by the pipeline, in order, as the newest.
            match variables.len() {
                1 => self.variables[mark - 1].1 = item.clone(),
                2 => {
                    self.variables[mark - 1].1 = item.clone();
                    self.variables[mark - 2].1 = index;
                }
                _ => {}
            }
        }
        let flow = self.list(item, &branch.list)?;
        self.variables.truncate(mark);
        Ok(flow)
    }

    fn call_template(&mut self, dot: &Value, name: &str, pipe: Option<&'a Pipe>) -> Result<(), Error> {
        let template = self.template;
        let Some(tree) = template.trees.get(name) else {
            return self.fail(format!("template {name:?} not defined"));
        };
        let argument = match pipe {
            Some(pipe) => self.pipeline(dot, pipe)?,
            None => Value::Missing,
        };
        let outer = (self.tree, std::mem::replace(&mut self.variables, vec![("$".into(), argument.clone())]));
        self.tree = tree;
        self.list(&argument, &tree.root)?;
        (self.tree, self.variables) = outer;
        Ok(())
    }

    fn assign(&mut self, name: &str, value: Value) -> Result<(), Error> {
        match self.variables.iter_mut().rev().find(|(known, _)| **known == *name) {
            Some(variable) => variable.1 = value,
            None => return self.fail(format!("undefined variable: {name}")),
        }
        Ok(())
    }

    // === pipelines ===

    fn pipeline(&mut self, dot: &Value, pipe: &'a Pipe) -> Result<Value, Error> {
        self.at = (pipe.at, pipe);
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.unwrap_or_default();
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(name, value.clone())?;
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    /// `last` is the value of the command before, which becomes the last argument.
    fn command(&mut self, dot: &Value, command: &'a Command, last: Option<Value>) -> Result<Value, Error> {
        self.step()?;
        let first = &command.args[0];
        let rest = &command.args[1..];
        match &first.kind {
            TermKind::Field(names) => {
                self.at = (first.at, first);
                self.fields(dot, dot.clone(), first, names, rest, last)
            }
            TermKind::Chain(term, names) => {
                self.at = (first.at, first);
                let receiver = self.chain_receiver(dot, first, term)?;
                self.fields(dot, receiver, first, names, rest, last)
            }
            TermKind::Function(name) => {
                self.at = (first.at, first);
                self.call_named(dot, name, (command.at, command), rest, last)
            }
            TermKind::Variable(names) => {
                self.at = (first.at, first);
                let receiver = self.variable(&names[0])?;
                if names.len() == 1 {
                    self.no_arguments(first, rest, &last)?;
                    return Ok(receiver);
                }
                self.fields(dot, receiver, first, &names[1..], rest, last)
            }
            TermKind::Pipe(pipe) => {
                self.no_arguments(first, rest, &last)?;
                self.scoped(dot, pipe)
            }
            TermKind::Dot => {
                self.at = (first.at, first);
                self.no_arguments(first, rest, &last)?;
                Ok(dot.clone())
            }
            TermKind::Literal(value, _) => {
                self.at = (first.at, first);
                self.no_arguments(first, rest, &last)?;
                Ok(value.clone())
            }
            TermKind::Nil => {
                self.at = (first.at, first);
                self.no_arguments(first, rest, &last)?;
                self.fail("nil is not a command")
            }
        }
    }

    /// A pipeline in parentheses; variables it declares stay, as in Go.
    fn scoped(&mut self, dot: &Value, pipe: &'a Pipe) -> Result<Value, Error> {
        let most = self.template.limits.depth;
        if self.depth >= most {
            return self.fail(format!("exceeded maximum template depth ({most})"));
        }
        self.depth += 1;
        let value = self.pipeline(dot, pipe);
        self.depth -= 1;
        value
    }

    fn no_arguments(&self, term: &Term, rest: &[Term], last: &Option<Value>) -> Result<(), Error> {
        if rest.is_empty() && last.is_none() {
            return Ok(());
        }
        self.fail(format!("can't give argument to non-function {term}"))
    }

    fn variable(&self, name: &str) -> Result<Value, Error> {
        match self.variables.iter().rev().find(|(known, _)| **known == *name) {
            Some((_, value)) => Ok(value.clone()),
            None => self.fail(format!("undefined variable: {name}")),
        }
    }

    fn chain_receiver(&mut self, dot: &Value, chain: &'a Term, term: &'a Term) -> Result<Value, Error> {
        if matches!(term.kind, TermKind::Nil) {
            return self.fail(format!("indirection through explicit nil in {chain}"));
        }
        self.argument(dot, term)
    }

    fn argument(&mut self, dot: &Value, term: &'a Term) -> Result<Value, Error> {
        self.step()?;
        self.at = (term.at, term);
        match &term.kind {
            TermKind::Dot => Ok(dot.clone()),
            TermKind::Nil => Ok(Value::Nil),
            TermKind::Literal(value, _) => Ok(value.clone()),
            TermKind::Field(names) => self.fields(dot, dot.clone(), term, names, &[], None),
            TermKind::Variable(names) => {
                let receiver = self.variable(&names[0])?;
                self.fields(dot, receiver, term, &names[1..], &[], None)
            }
            TermKind::Chain(inner, names) => {
                let receiver = self.chain_receiver(dot, term, inner)?;
                self.fields(dot, receiver, term, names, &[], None)
            }
            TermKind::Function(name) => self.call_named(dot, name, (term.at, term), &[], None),
            TermKind::Pipe(pipe) => self.scoped(dot, pipe),
        }
    }

    /// Follows the names from `receiver`; only the last may take arguments.
    fn fields(
        &mut self,
        dot: &Value,
        receiver: Value,
        term: &'a Term,
        names: &'a [Arc<str>],
        args: &'a [Term],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        let Some((final_name, path)) = names.split_last() else { return Ok(receiver) };
        let mut value = receiver;
        for name in path {
            value = self.field(dot, value, term, name, &[], None)?;
        }
        self.field(dot, value, term, final_name, args, last)
    }

    fn field(
        &mut self,
        dot: &Value,
        receiver: Value,
        term: &'a Term,
        name: &str,
        args: &'a [Term],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        // Evaluating arguments moved it.
        self.at = (term.at, term);
        let has_arguments = !args.is_empty() || last.is_some();
        match &receiver {
            Value::Missing if self.template.missing_key == MissingKey::Error => {
                self.fail(format!("nil data; no entry for key {name:?}"))
            }
            Value::Missing => Ok(Value::Missing),
            Value::Nil => self.fail(format!("nil pointer evaluating interface {{}}.{name}")),
            Value::Object(object) => match object.member(name) {
                Some(Member::Method(method)) => self.call(dot, &method, name, (term.at, term), args, last),
                Some(Member::Field(_)) if has_arguments => {
                    self.fail(format!("{name} has arguments but cannot be invoked as function"))
                }
                Some(Member::Field(value)) => Ok(value),
                None => self.fail(format!("can't evaluate field {name} in type {}", object.type_name())),
            },
            Value::Map(_) if has_arguments => self.fail(format!("{name} is not a method but has arguments")),
            Value::Map(map) => match (map.entries.get(name), self.template.missing_key) {
                (Some(value), _) => Ok(value.clone()),
                (None, MissingKey::Default) => Ok(Value::Missing),
                (None, MissingKey::Zero) => Ok(map.zero.clone()),
                (None, MissingKey::Error) => self.fail(format!("map has no entry for key {name:?}")),
            },
            other => self.fail(format!("can't evaluate field {name} in type {}", other.type_name())),
        }
    }

    // === calls ===

    fn call_named(
        &mut self,
        dot: &Value,
        name: &str,
        at: (Position, &'a dyn Display),
        args: &'a [Term],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        let template = self.template;
        if let Some(function) = template.functions.get(name) {
            return self.call(dot, function, name, at, args, last);
        }
        let Some((least, most)) = builtins::arity(name) else {
            return self.fail(format!("{name:?} is not a defined function"));
        };
        let given = args.len() + usize::from(last.is_some());
        if let Err(message) = Function::check_count(name, least, most, given) {
            return self.fail(message);
        }
        if matches!(name, "and" | "or") {
            // Later operands are not evaluated once the result is known.
            let mut value = Value::Missing;
            for arg in args {
                value = self.argument(dot, arg)?;
                if value.is_true() == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let values = self.arguments(dot, args, last)?;
        self.at = at;
        let bound = self.template.limits.output_bytes;
        let result = builtins::call(name, &values, bound);
        self.result(name, result)
    }

    fn call(
        &mut self,
        dot: &Value,
        function: &Function,
        name: &str,
        at: (Position, &'a dyn Display),
        args: &'a [Term],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        let given = args.len() + usize::from(last.is_some());
        if let Err(message) = Function::check_count(name, function.least, function.most, given) {
            return self.fail(message);
        }
        let values = self.arguments(dot, args, last)?;
        self.at = at;
        let result = (function.call)(&values);
        self.result(name, result)
    }

    fn arguments(&mut self, dot: &Value, args: &'a [Term], last: Option<Value>) -> Result<Vec<Value>, Error> {
        let mut values = Vec::with_capacity(args.len() + 1);
        for arg in args {
            values.push(self.argument(dot, arg)?);
        }
        values.extend(last);
        Ok(values)
    }

    fn result(&self, name: &str, result: Result<Value, String>) -> Result<Value, Error> {
        match result {
            // What functions make is as bounded as what is written.
            Ok(Value::String(text)) => self.fits(text.len()).map(|()| Value::String(text)),
            Ok(value) => Ok(value),
            Err(message) => self.fail(format!("error calling {name}: {message}")),
        }
    }
}
