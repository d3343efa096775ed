//! Go's `text/template` (the language of Go 1.24): what alert texts, console pages and metric adapters' rules are written in.
//!
//! Invariant: parsing and executing are pure and bounded ([`Limits`]); no template, however written, makes a panic, and
//! every error names the template, line and column in the shape of Go's own message.
#![forbid(unsafe_code)]

mod builtins;
mod error;
mod escape;
mod exec;
mod float;
mod format;
mod lex;
mod node;
mod number;
mod parse;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use error::Error;
pub use escape::{html, javascript, query as url_query};
pub use format::{print, printf, println};
pub use value::{Function, Map, Member, Object, Value};

/// The functions that a template may call by name, beside the built-in ones.
pub type Functions = BTreeMap<String, Function>;

/// What a map gives for a key that it does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingKey {
    /// `<no value>`; also called `invalid`.
    #[default]
    Default,
    /// The zero value of the map's elements.
    Zero,
    /// An error.
    Error,
}

/// What one execution may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub output_bytes: usize,
    /// Nodes walked and commands evaluated.
    pub steps: u64,
    /// Blocks and template calls inside one another.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { output_bytes: 8 << 20, steps: 2_000_000, depth: 400 }
    }
}

/// A template and those it defines, sharing delimiters, functions and options.
#[derive(Clone)]
pub struct Template {
    name: Arc<str>,
    left: String,
    right: String,
    functions: Functions,
    missing_key: MissingKey,
    limits: Limits,
    trees: BTreeMap<Arc<str>, Arc<node::Tree>>,
}

impl Template {
    /// An empty template; `name` is the file in error messages.
    pub fn new(name: &str) -> Template {
        Template {
            name: name.into(),
            left: "{{".into(),
            right: "}}".into(),
            functions: Functions::new(),
            missing_key: MissingKey::Default,
            limits: Limits::default(),
            trees: BTreeMap::new(),
        }
    }

    /// Sets the action delimiters of what is parsed from now on; an empty one stands for the default.
    pub fn delimiters(mut self, left: &str, right: &str) -> Template {
        self.left = if left.is_empty() { "{{" } else { left }.into();
        self.right = if right.is_empty() { "}}" } else { right }.into();
        self
    }

    /// Adds functions. They must be there when a template that calls them is parsed.
    pub fn functions(mut self, functions: Functions) -> Template {
        self.functions.extend(functions);
        self
    }

    pub fn missing_key(mut self, missing_key: MissingKey) -> Template {
        self.missing_key = missing_key;
        self
    }

    /// Sets an option as Go writes it: `missingkey=default`, `invalid`, `zero` or `error`.
    pub fn option(self, option: &str) -> Result<Template, Error> {
        let missing_key = match option {
            "missingkey=default" | "missingkey=invalid" => MissingKey::Default,
            "missingkey=zero" => MissingKey::Zero,
            "missingkey=error" => MissingKey::Error,
            _ => return Err(Error::Option(option.into())),
        };
        Ok(self.missing_key(missing_key))
    }

    pub fn limits(mut self, limits: Limits) -> Template {
        self.limits = limits;
        self
    }

    /// Parses `text` as the body of this template, and what it defines as templates of their own. A later parse
    /// replaces what an earlier one defined.
    pub fn parse(mut self, text: &str) -> Result<Template, Error> {
        let name = self.name.clone();
        self.add(&name, text)?;
        Ok(self)
    }

    /// Like [`parse`](Template::parse), for another template of the same set.
    pub fn parse_as(mut self, name: &str, text: &str) -> Result<Template, Error> {
        self.add(&name.into(), text)?;
        Ok(self)
    }

    fn add(&mut self, name: &Arc<str>, text: &str) -> Result<(), Error> {
        let is_function = |name: &str| self.functions.contains_key(name) || builtins::arity(name).is_some();
        for tree in parse::parse(name, text, &self.left, &self.right, &is_function)? {
            // An empty body does not replace one that says something.
            if !tree.is_empty() || !self.trees.contains_key(&tree.name) {
                self.trees.insert(tree.name.clone(), Arc::new(tree));
            }
        }
        Ok(())
    }

    /// The names of everything defined, sorted.
    pub fn defined(&self) -> impl Iterator<Item = &str> {
        self.trees.keys().map(|name| &**name)
    }

    /// The text that this template makes of `data`.
    pub fn execute(&self, data: &Value) -> Result<String, Error> {
        self.execute_template(&self.name, data)
    }

    /// The text that the template `name` of the set makes of `data`.
    pub fn execute_template(&self, name: &str, data: &Value) -> Result<String, Error> {
        exec::execute(self, name, data)
    }
}
