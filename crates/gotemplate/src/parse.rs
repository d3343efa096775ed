//! Tokens into trees, with Go's rules for what may stand where and its words for what may not.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Error;
use crate::lex::{Keyword, Kind, Token, lex};
use crate::node::{Branch, Command, Node, Pipe, Position, Term, TermKind, Tree};
use crate::number;
use crate::value::Value;

/// Blocks and parentheses inside one another; more would be no one's template.
const MOST_DEPTH: usize = 200;

/// The trees of a text: the one called `name` first, then those it defines.
pub(crate) fn parse(
    name: &Arc<str>,
    text: &str,
    left: &str,
    right: &str,
    is_function: &dyn Fn(&str) -> bool,
) -> Result<Vec<Tree>, Error> {
    let loop_words = [!is_function("break"), !is_function("continue")];
    let tokens = lex(text, left, right, loop_words);
    let mut parser = Parser {
        file: name,
        tokens,
        next: 0,
        variables: vec!["$".into()],
        range_depth: 0,
        depth: 0,
        action_line: 0,
        is_function,
        defined: BTreeMap::new(),
    };
    let mut root = Vec::new();
    while parser.peek().kind != Kind::Eof {
        match parser.text_or_action(true)? {
            Item::Node(node) => root.push(node),
            Item::Definition => {}
            Item::End => return parser.fail("unexpected {{end}}"),
            Item::Else => return parser.fail("unexpected {{else}}"),
        }
    }
    let mut trees = vec![Tree { name: name.clone(), file: name.clone(), root }];
    for (defined, root) in parser.defined {
        let tree = Tree { name: defined, file: name.clone(), root };
        // A text that defines a template of its own name.
        match trees.iter_mut().find(|known| known.name == tree.name) {
            Some(known) if known.is_empty() => *known = tree,
            Some(_) if tree.is_empty() => {}
            Some(_) => {
                return Err(Error::Parse {
                    file: name.clone(),
                    line: 1,
                    column: 0,
                    message: format!("template: multiple definition of template {:?}", tree.name),
                });
            }
            None => trees.push(tree),
        }
    }
    Ok(trees)
}

enum Item {
    Node(Node),
    Definition,
    End,
    Else,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Control {
    If,
    With,
    Range,
}

struct Parser<'a> {
    file: &'a Arc<str>,
    tokens: Vec<Token>,
    next: usize,
    variables: Vec<Arc<str>>,
    range_depth: usize,
    depth: usize,
    /// Where the action that is being parsed began.
    action_line: u32,
    is_function: &'a dyn Fn(&str) -> bool,
    defined: BTreeMap<Arc<str>, Vec<Node>>,
}

impl Parser<'_> {
    // === tokens ===

    fn peek(&self) -> &Token {
        // The last token is the end or an error, and is never passed.
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next = (self.next + 1).min(self.tokens.len());
        token
    }

    fn peek_word(&mut self) -> &Token {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
        self.peek()
    }

    fn take_word(&mut self) -> Token {
        self.peek_word();
        self.take()
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, Error> {
        let last = self.next.saturating_sub(1).min(self.tokens.len() - 1);
        self.fail_at(self.tokens[last].at, message)
    }

    fn fail_at<T>(&self, at: Position, message: impl Into<String>) -> Result<T, Error> {
        let message = message.into();
        Err(Error::Parse { file: self.file.clone(), line: at.line, column: at.column, message })
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Result<T, Error> {
        if token.kind == Kind::Error {
            let mut message = token.text.clone();
            if self.action_line != 0 && self.action_line != token.at.line {
                // "unclosed action" already says what it is.
                let word = if message.ends_with(" action") { "" } else { " in action" };
                message.push_str(&format!("{word} started at {}:{}", self.file, self.action_line));
            }
            return self.fail_at(token.at, message);
        }
        self.fail_at(token.at, format!("unexpected {} in {context}", shown(token)))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<Token, Error> {
        let token = self.take_word();
        if token.kind == kind { Ok(token) } else { self.unexpected(&token, context) }
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth == MOST_DEPTH {
            return self.fail(format!("nested more than {MOST_DEPTH} levels deep"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    // === statements ===

    fn text_or_action(&mut self, top: bool) -> Result<Item, Error> {
        let token = self.take();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.text))),
            Kind::LeftDelimiter => {
                self.action_line = token.at.line;
                let item = self.action(top);
                self.action_line = 0;
                item
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self, top: bool) -> Result<Item, Error> {
        let at = self.peek_word().at;
        let Kind::Keyword(keyword) = self.peek().kind else {
            return Ok(Item::Node(Node::Action(at, self.pipeline("command", Kind::RightDelimiter)?)));
        };
        let token = self.take();
        let node = match keyword {
            Keyword::If => Node::If(self.control(at, Control::If)?),
            Keyword::With => Node::With(self.control(at, Control::With)?),
            Keyword::Range => Node::Range(self.control(at, Control::Range)?),
            Keyword::Template => self.template_call(at)?,
            Keyword::Block => self.block(at)?,
            Keyword::Break => self.loop_word(Node::Break)?,
            Keyword::Continue => self.loop_word(Node::Continue)?,
            Keyword::Define if top => {
                self.definition()?;
                return Ok(Item::Definition);
            }
            Keyword::Define => return self.unexpected(&token, "input"),
            Keyword::End => {
                self.expect(Kind::RightDelimiter, "end")?;
                return Ok(Item::End);
            }
            Keyword::Else => {
                // What follows `else if` and `else with` is parsed as a statement of its own.
                if !matches!(self.peek_word().kind, Kind::Keyword(Keyword::If | Keyword::With)) {
                    self.expect(Kind::RightDelimiter, "else")?;
                }
                return Ok(Item::Else);
            }
        };
        Ok(Item::Node(node))
    }

    /// The nodes up to an `end` or `else`, and which it was.
    fn list(&mut self) -> Result<(Vec<Node>, Item), Error> {
        self.deeper(|parser| {
            let mut nodes = Vec::new();
            while parser.peek_word().kind != Kind::Eof {
                match parser.text_or_action(false)? {
                    Item::Node(node) => nodes.push(node),
                    end => return Ok((nodes, end)),
                }
            }
            parser.fail_at(parser.peek().at, "unexpected EOF")
        })
    }

    fn control(&mut self, at: Position, control: Control) -> Result<Branch, Error> {
        let context = match control {
            Control::If => "if",
            Control::With => "with",
            Control::Range => "range",
        };
        let scope = self.variables.len();
        let pipe = self.pipeline(context, Kind::RightDelimiter)?;
        self.range_depth += usize::from(control == Control::Range);
        let (list, end) = self.list()?;
        self.range_depth -= usize::from(control == Control::Range);
        let mut otherwise = Vec::new();
        if matches!(end, Item::Else) {
            let at = self.peek().at;
            let chained = matches!(
                (control, self.peek().kind),
                (Control::If, Kind::Keyword(Keyword::If)) | (Control::With, Kind::Keyword(Keyword::With))
            );
            if chained {
                // Its `end` ends this one as well.
                self.take();
                let inner = self.deeper(|parser| parser.control(at, control))?;
                otherwise.push(if control == Control::If { Node::If(inner) } else { Node::With(inner) });
            } else {
                let (nodes, end) = self.list()?;
                if !matches!(end, Item::End) {
                    return self.fail("expected end; found {{else}}");
                }
                otherwise = nodes;
            }
        }
        self.variables.truncate(scope);
        Ok(Branch { at, pipe, list, otherwise })
    }

    fn loop_word(&mut self, node: Node) -> Result<Node, Error> {
        let word = node.to_string();
        self.expect(Kind::RightDelimiter, &word)?;
        if self.range_depth == 0 {
            return self.fail(format!("{word} outside {{{{range}}}}"));
        }
        Ok(node)
    }

    fn template_name(&mut self, context: &str) -> Result<Arc<str>, Error> {
        let token = self.take_word();
        match token.kind {
            Kind::String | Kind::RawString => match number::string(&token.text) {
                Ok(name) => Ok(name.into()),
                Err(error) => self.fail(error),
            },
            _ => self.unexpected(&token, context),
        }
    }

    fn template_call(&mut self, at: Position) -> Result<Node, Error> {
        let name = self.template_name("template clause")?;
        if self.peek_word().kind == Kind::RightDelimiter {
            self.take();
            return Ok(Node::Template { at, name, pipe: None });
        }
        let pipe = self.pipeline("template clause", Kind::RightDelimiter)?;
        Ok(Node::Template { at, name, pipe: Some(pipe) })
    }

    fn block(&mut self, at: Position) -> Result<Node, Error> {
        let name = self.template_name("block clause")?;
        let pipe = self.pipeline("block clause", Kind::RightDelimiter)?;
        self.body(&name, "block clause")?;
        Ok(Node::Template { at, name, pipe: Some(pipe) })
    }

    fn definition(&mut self) -> Result<(), Error> {
        let name = self.template_name("define clause")?;
        self.expect(Kind::RightDelimiter, "define clause")?;
        self.body(&name, "define clause")
    }

    /// The body of a template within this text, which sees none of the variables around it.
    fn body(&mut self, name: &Arc<str>, context: &str) -> Result<(), Error> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let loops = std::mem::take(&mut self.range_depth);
        let (root, end) = self.list()?;
        if !matches!(end, Item::End) {
            return self.fail(format!("unexpected {{{{else}}}} in {context}"));
        }
        (self.variables, self.range_depth) = (outer, loops);
        let is_empty =
            |nodes: &[Node]| nodes.iter().all(|n| matches!(n, Node::Text(text) if text.trim().is_empty()));
        match self.defined.get(name) {
            Some(known) if !is_empty(known) && !is_empty(&root) => {
                self.fail(format!("template: multiple definition of template {name:?}"))
            }
            Some(known) if !is_empty(known) => Ok(()),
            _ => {
                self.defined.insert(name.clone(), root);
                Ok(())
            }
        }
    }

    // === pipelines ===

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe, Error> {
        let at = self.peek_word().at;
        let mut pipe = Pipe { at, assigns: false, variables: Vec::new(), commands: Vec::new() };
        while self.peek_word().kind == Kind::Variable {
            let before = self.next;
            let variable = self.take();
            let following = self.peek_word().clone();
            match following.kind {
                Kind::Assign | Kind::Declare => {
                    self.take();
                    pipe.assigns = following.kind == Kind::Assign;
                    self.declare(&mut pipe, variable);
                    break;
                }
                Kind::Char if following.text == "," => {
                    self.take();
                    self.declare(&mut pipe, variable);
                    if context != "range" || pipe.variables.len() >= 2 {
                        return self.fail(format!("too many declarations in {context}"));
                    }
                    let next = self.peek_word().kind;
                    if !matches!(next, Kind::Variable | Kind::RightDelimiter | Kind::RightParen) {
                        return self.fail("range can only initialize variables");
                    }
                }
                _ => {
                    // The variable is an operand after all.
                    self.next = before;
                    break;
                }
            }
        }
        loop {
            let token = self.take_word();
            match token.kind {
                kind if kind == end => {
                    self.check(&pipe, context)?;
                    return Ok(pipe);
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.next -= 1;
                    pipe.commands.push(self.command()?);
                }
                _ => return self.unexpected(&token, context),
            }
        }
    }

    fn declare(&mut self, pipe: &mut Pipe, variable: Token) {
        let name: Arc<str> = variable.text.into();
        self.variables.push(name.clone());
        pipe.variables.push(name);
    }

    fn check(&self, pipe: &Pipe, context: &str) -> Result<(), Error> {
        if pipe.commands.is_empty() {
            return self.fail(format!("missing value for {context}"));
        }
        for (index, command) in pipe.commands.iter().enumerate().skip(1) {
            if matches!(command.args[0].kind, TermKind::Dot | TermKind::Nil | TermKind::Literal(..)) {
                return self.fail(format!("non executable command in pipeline stage {}", index + 1));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command, Error> {
        let at = self.peek_word().at;
        let mut args = Vec::new();
        loop {
            self.peek_word();
            args.extend(self.operand()?);
            let token = self.take();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelimiter | Kind::RightParen => self.next -= 1,
                Kind::Pipe => {}
                _ => return self.unexpected(&token, "operand"),
            }
            break;
        }
        if args.is_empty() {
            return self.fail("empty command");
        }
        Ok(Command { at, args })
    }

    fn operand(&mut self) -> Result<Option<Term>, Error> {
        let Some(mut term) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(term));
        }
        let at = self.peek().at;
        let mut names: Vec<Arc<str>> = Vec::new();
        while self.peek().kind == Kind::Field {
            names.push(self.take().text[1..].into());
        }
        match &mut term.kind {
            TermKind::Field(known) | TermKind::Variable(known) => {
                known.append(&mut names);
                term.at = at;
                Ok(Some(term))
            }
            TermKind::Dot | TermKind::Nil | TermKind::Literal(..) => {
                self.fail(format!("unexpected . after term {:?}", term.to_string()))
            }
            _ => Ok(Some(Term { at, kind: TermKind::Chain(Box::new(term), names) })),
        }
    }

    fn term(&mut self) -> Result<Option<Term>, Error> {
        let token = self.take_word();
        let literal = |parsed: Result<Value, String>| parsed.map(|value| (value, token.text.clone()));
        let literal = match token.kind {
            Kind::Identifier => {
                if !(self.is_function)(&token.text) {
                    return self.fail(format!("function {:?} not defined", token.text));
                }
                return Ok(Some(Term { at: token.at, kind: TermKind::Function(token.text.into()) }));
            }
            Kind::Dot => return Ok(Some(Term { at: token.at, kind: TermKind::Dot })),
            Kind::Nil => return Ok(Some(Term { at: token.at, kind: TermKind::Nil })),
            Kind::Variable => {
                if !self.variables.iter().any(|known| **known == *token.text) {
                    return self.fail(format!("undefined variable {:?}", token.text));
                }
                return Ok(Some(Term { at: token.at, kind: TermKind::Variable(vec![token.text.into()]) }));
            }
            Kind::Field => {
                let kind = TermKind::Field(vec![token.text[1..].into()]);
                return Ok(Some(Term { at: token.at, kind }));
            }
            Kind::LeftParen => {
                let pipe =
                    self.deeper(|parser| parser.pipeline("parenthesized pipeline", Kind::RightParen))?;
                return Ok(Some(Term { at: token.at, kind: TermKind::Pipe(pipe) }));
            }
            Kind::Bool => literal(Ok(Value::Bool(token.text == "true"))),
            Kind::Number => literal(number::number(&token.text)),
            Kind::CharConstant => literal(number::character(&token.text)),
            Kind::String | Kind::RawString => literal(number::string(&token.text).map(Value::from)),
            _ => {
                self.next -= 1;
                return Ok(None);
            }
        };
        match literal {
            Ok((value, text)) => Ok(Some(Term { at: token.at, kind: TermKind::Literal(value, text) })),
            Err(error) => self.fail(error),
        }
    }
}

/// A token in an error message.
fn shown(token: &Token) -> String {
    match token.kind {
        Kind::Eof => "EOF".into(),
        Kind::Error => token.text.clone(),
        Kind::Keyword(_) | Kind::Dot | Kind::Nil => format!("<{}>", token.text),
        _ if token.text.len() > 10 => {
            let short: String = token.text.chars().take(10).collect();
            format!("{}...", crate::escape::quote(&short, false))
        }
        _ => crate::escape::quote(&token.text, false),
    }
}
