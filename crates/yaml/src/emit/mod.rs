//! YAML out, as go-yaml v2 writes what it read from JSON: keys in natural order, two spaces, lists not indented.
//!
//! Invariant: the same tree gives the same bytes as `sigs.k8s.io/yaml` does in `kubectl` and `kustomize`.

mod float;
mod natural;
mod scalar;

use std::borrow::Cow;

use crate::node::{Data, Node};
use crate::resolve::Resolved;
use scalar::Analysis;

/// What a node of a tree looks like to the emitter.
pub enum View<'a, T> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(Cow<'a, str>),
    Seq(&'a [T]),
    /// In any order: the emitter sorts.
    Map(Vec<(&'a str, &'a T)>),
}

/// A tree that can be written as YAML.
pub trait Tree: Sized {
    fn view(&self) -> View<'_, Self>;
}

/// One document, ending in a line break and without `---`.
pub fn emit<T: Tree>(tree: &T) -> String {
    let mut out = String::new();
    emit_to(&mut out, tree);
    out
}

/// [`emit`] at the end of `out`, which must be empty or end in a line break.
pub fn emit_to<T: Tree>(out: &mut String, tree: &T) {
    let mut emitter = Emitter { out, column: 0, whitespace: true, indention: true };
    emitter.node(&tree.view(), -1, Context::Root);
    if emitter.column > 0 {
        emitter.line_break();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Context {
    Root,
    Sequence,
    Mapping,
}

const INDENT: isize = 2;
/// Folding happens at the first space after this column.
const WIDTH: usize = 80;
/// A longer key is written with `? `.
const MAX_SIMPLE_KEY_BYTES: usize = 128;

/// The state libyaml calls by the same names: `whitespace` = the last byte separates, `indention` = only
/// indentation so far on this line.
struct Emitter<'a> {
    out: &'a mut String,
    column: usize,
    whitespace: bool,
    indention: bool,
}

impl Emitter<'_> {
    fn node<T: Tree>(&mut self, view: &View<'_, T>, indent: isize, context: Context) {
        match view {
            View::Null => self.word("null"),
            View::Bool(true) => self.word("true"),
            View::Bool(false) => self.word("false"),
            View::Int(i) => self.word(&i.to_string()),
            View::Uint(u) => self.word(&u.to_string()),
            View::Float(x) => self.word(&float::to_yaml(*x)),
            View::Str(text) => self.string(text, indent.max(0) + INDENT, false),
            View::Seq([]) => {
                self.indicator("[", true, false, false);
                self.indicator("]", false, false, false);
            }
            View::Map(entries) if entries.is_empty() => {
                self.indicator("{", true, false, false);
                self.indicator("}", false, false, false);
            }
            View::Seq(items) => self.sequence(items, indent, context),
            View::Map(entries) => self.mapping(entries, indent),
        }
    }

    fn sequence<T: Tree>(&mut self, items: &[T], indent: isize, context: Context) {
        let indentless = context == Context::Mapping && !self.indention;
        let indent = if indentless { indent } else { deeper(indent) };
        for item in items {
            self.new_line(indent);
            self.indicator("-", true, false, true);
            self.node(&item.view(), indent, Context::Sequence);
        }
    }

    fn mapping<T: Tree>(&mut self, entries: &[(&str, &T)], indent: isize) {
        let indent = deeper(indent);
        let ordered = natural::sorted(entries);
        for (key, value) in ordered {
            self.new_line(indent);
            let simple = key.len() <= MAX_SIMPLE_KEY_BYTES && !scalar::has_break(key);
            if simple {
                self.string(key, deeper(indent), true);
                self.indicator(":", false, false, false);
            } else {
                self.indicator("?", true, false, true);
                self.string(key, deeper(indent), false);
                self.new_line(indent);
                self.indicator(":", true, false, true);
            }
            self.node(&value.view(), indent, Context::Mapping);
        }
    }

    /// A plain scalar known to need no analysis.
    fn word(&mut self, word: &str) {
        if !self.whitespace {
            self.put(' ');
        }
        self.out.push_str(word);
        self.column += word.len();
        self.whitespace = false;
        self.indention = false;
    }

    fn string(&mut self, text: &str, indent: isize, simple_key: bool) {
        let analysis = Analysis::of(text);
        let wants_quotes = crate::resolve::needs_quotes(text);
        if text.contains('\n') {
            if analysis.block_allowed && !simple_key {
                return self.literal(text, indent);
            }
            return self.double_quoted(text, indent, !simple_key);
        }
        if wants_quotes || (simple_key && analysis.multiline) {
            return self.double_quoted(text, indent, !simple_key);
        }
        let empty_key = text.is_empty() && simple_key;
        if analysis.plain_allowed && !empty_key {
            self.plain(text, indent, !simple_key);
        } else if analysis.single_quoted_allowed {
            self.single_quoted(text, indent, !simple_key);
        } else {
            self.double_quoted(text, indent, !simple_key);
        }
    }

    // === the line ===

    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn line_break(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    /// Starts a line at `indent`, unless this one has nothing but indentation up to there.
    fn new_line(&mut self, indent: isize) {
        let indent = indent.max(0) as usize;
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.line_break();
        }
        while self.column < indent {
            self.put(' ');
        }
        self.whitespace = true;
        self.indention = true;
    }

    fn indicator(&mut self, text: &str, needs_whitespace: bool, is_whitespace: bool, is_indention: bool) {
        if needs_whitespace && !self.whitespace {
            self.put(' ');
        }
        self.out.push_str(text);
        self.column += text.len();
        self.whitespace = is_whitespace;
        self.indention = self.indention && is_indention;
    }
}

fn deeper(indent: isize) -> isize {
    if indent < 0 { 0 } else { indent + INDENT }
}

impl Tree for Node {
    fn view(&self) -> View<'_, Node> {
        match &self.data {
            Data::Sequence(items) => View::Seq(items),
            Data::Mapping(entries) => View::Map(
                entries.iter().map(|(key, value)| (key.text().unwrap_or_default(), value)).collect(),
            ),
            Data::Scalar(scalar) => match scalar.resolve() {
                Resolved::Null => View::Null,
                Resolved::Bool(b) => View::Bool(b),
                Resolved::Int(i) => View::Int(i),
                Resolved::Uint(u) => View::Uint(u),
                Resolved::Float(x) => View::Float(x),
                Resolved::Str(text) if text == scalar.text => View::Str(Cow::Borrowed(&scalar.text)),
                Resolved::Str(text) => View::Str(Cow::Owned(text.to_string())),
            },
        }
    }
}
