//! From the text of an expression to its tree.

use super::functions::{is_function, is_method};
use super::pattern::Pattern;
use super::{Binary, Each, Expression, Node, Unary};
use crate::value::{Kind, Number, Value};

/// Expressions that nest deeper are refused.
const MAX_DEPTH: usize = 100;
/// So many operators and steps to fields an expression may have: chains of them make a tree that is as deep as they
/// are long, and it is walked by recursion.
const MAX_STEPS: usize = 1_000;
/// Counted in characters.
const MAX_LENGTH: usize = 100_000;

/// A text that is no expression, or one this server cannot evaluate.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[error("at character {at}: {why}")]
pub struct ParseError {
    /// Counted from 1.
    pub at: usize,
    pub why: String,
    /// The language has it, or may have it, and this server has not.
    pub unsupported: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Literal(Value),
    Name(String),
    Sign(&'static str),
    End,
}

/// Longer signs stand before those they begin with.
const SIGNS: [&str; 25] = [
    "&&", "||", "==", "!=", "<=", ">=", "(", ")", "[", "]", "{", "}", ".", ",", "?", ":", "<", ">", "+", "-",
    "*", "/", "%", "!", "=",
];

pub fn parse(text: &str) -> Result<Expression, ParseError> {
    if text.chars().nth(MAX_LENGTH).is_some() {
        let why = "the expression is too long".into();
        return Err(ParseError { at: MAX_LENGTH + 1, why, unsupported: false });
    }
    let tokens = Lexer { text: text.chars().collect(), at: 0 }.all()?;
    let mut parser = Parser { tokens, at: 0, depth: 0, steps: 0 };
    let node = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(Expression(node)),
        other => Err(parser.error(&format!("expected the end, found {other:?}"))),
    }
}

struct Lexer {
    text: Vec<char>,
    at: usize,
}

impl Lexer {
    fn error(&self, why: &str) -> ParseError {
        ParseError { at: self.at + 1, why: why.to_owned(), unsupported: false }
    }

    fn unsupported(&self, why: &str) -> ParseError {
        ParseError { unsupported: true, ..self.error(why) }
    }

    fn all(mut self) -> Result<Vec<(usize, Token)>, ParseError> {
        let mut tokens = Vec::new();
        loop {
            while self.peek().is_some_and(char::is_whitespace) {
                self.at += 1;
            }
            if self.starts_with("//") {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
                continue;
            }
            let start = self.at;
            let token = self.token()?;
            let is_end = token == Token::End;
            tokens.push((start, token));
            if is_end {
                return Ok(tokens);
            }
        }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn starts_with(&self, sign: &str) -> bool {
        sign.chars().enumerate().all(|(offset, c)| self.text.get(self.at + offset) == Some(&c))
    }

    fn token(&mut self) -> Result<Token, ParseError> {
        let Some(c) = self.peek() else { return Ok(Token::End) };
        let next = self.text.get(self.at + 1).copied();
        match c {
            '"' | '\'' => self.string(false),
            'r' | 'R' if matches!(next, Some('"' | '\'')) => {
                self.at += 1;
                self.string(true)
            }
            'b' | 'B' if matches!(next, Some('"' | '\'')) => Err(self.unsupported("bytes are not supported")),
            '`' => Err(self.unsupported("quoted names are not supported")),
            '.' if next.is_some_and(|next| next.is_ascii_digit()) => {
                Err(self.unsupported("numbers that begin with a point are not supported"))
            }
            _ if c.is_ascii_digit() => self.number(),
            _ if c.is_alphabetic() || c == '_' => {
                let start = self.at;
                while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    self.at += 1;
                }
                let name: String = self.text[start..self.at].iter().collect();
                Ok(match name.as_str() {
                    "true" => Token::Literal(true.into()),
                    "false" => Token::Literal(false.into()),
                    "null" => Token::Literal(Value::NULL),
                    _ => Token::Name(name),
                })
            }
            _ => match SIGNS.iter().find(|sign| self.starts_with(sign)) {
                Some(sign) => {
                    self.at += sign.len();
                    Ok(Token::Sign(sign))
                }
                None => Err(self.error(&format!("{c:?} is not expected"))),
            },
        }
    }

    fn number(&mut self) -> Result<Token, ParseError> {
        let start = self.at;
        if self.starts_with("0x") {
            self.at += 2;
            let digits = self.at;
            while self.peek().is_some_and(|c| c.is_ascii_hexdigit()) {
                self.at += 1;
            }
            let text: String = self.text[digits..self.at].iter().collect();
            let number = i64::from_str_radix(&text, 16).map_err(|_| self.unsupported("no number"))?;
            if matches!(self.peek(), Some('u' | 'U')) {
                self.at += 1;
            }
            return Ok(Token::Literal(number.into()));
        }
        let mut is_float = false;
        while let Some(c) = self.peek() {
            let next = self.text.get(self.at + 1).copied();
            match c {
                '0'..='9' => {}
                '.' if next.is_some_and(|next| next.is_ascii_digit()) => is_float = true,
                'e' | 'E' => is_float = true,
                '+' | '-' if matches!(self.text.get(self.at.wrapping_sub(1)), Some('e' | 'E')) => {}
                _ => break,
            }
            self.at += 1;
        }
        let text: String = self.text[start..self.at].iter().collect();
        let is_unsigned = matches!(self.peek(), Some('u' | 'U'));
        if is_unsigned {
            self.at += 1;
        }
        let number = match is_float {
            true => text.parse().map(Number::Float).ok(),
            false if is_unsigned && text.parse::<u64>().is_ok_and(|number| number > i64::MAX as u64) => {
                return Err(self.unsupported(&format!("{text}u is not supported")));
            }
            false => text.parse().map(Number::Int).ok(),
        };
        let number = number.ok_or_else(|| self.error(&format!("{text} is no number")))?;
        Ok(Token::Literal(Kind::Number(number).into()))
    }

    fn string(&mut self, raw: bool) -> Result<Token, ParseError> {
        let quote = self.peek().unwrap_or('"');
        let triple: String = std::iter::repeat_n(quote, 3).collect();
        let end = if self.starts_with(&triple) { triple } else { quote.to_string() };
        self.at += end.len();
        let mut out = String::new();
        loop {
            if self.starts_with(&end) {
                self.at += end.len();
                return Ok(Token::Literal(out.into()));
            }
            let c = self.peek().ok_or_else(|| self.error("the text has no end"))?;
            self.at += 1;
            if c != '\\' || raw {
                out.push(c);
                continue;
            }
            let escaped = self.peek().ok_or_else(|| self.error("the text has no end"))?;
            self.at += 1;
            out.push(match escaped {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'v' => '\u{b}',
                '\\' | '"' | '\'' | '`' | '?' => escaped,
                'x' | 'X' => self.code(2, 16)?,
                'u' => self.code(4, 16)?,
                'U' => self.code(8, 16)?,
                '0'..='3' => {
                    self.at -= 1;
                    self.code(3, 8)?
                }
                _ => return Err(self.error(&format!("\\{escaped} is no escape"))),
            });
        }
    }

    fn code(&mut self, length: usize, radix: u32) -> Result<char, ParseError> {
        let digits: String = self.text.iter().skip(self.at).take(length).collect();
        self.at += length;
        let code = u32::from_str_radix(&digits, radix).ok().filter(|_| digits.len() == length);
        code.and_then(char::from_u32).ok_or_else(|| self.error("the escape is no character"))
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
    steps: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, token)| token)
    }

    fn error(&self, why: &str) -> ParseError {
        let at = self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |(at, _)| *at);
        ParseError { at: at + 1, why: why.to_owned(), unsupported: false }
    }

    fn unsupported(&self, why: &str) -> ParseError {
        ParseError { unsupported: true, ..self.error(why) }
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(known) if *known == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), ParseError> {
        match self.take(sign) {
            true => Ok(()),
            false => Err(self.error(&format!("expected {sign:?}, found {:?}", self.peek()))),
        }
    }

    fn step(&mut self) -> Result<(), ParseError> {
        self.steps += 1;
        match self.steps > MAX_STEPS {
            true => Err(self.unsupported("the expression is too long")),
            false => Ok(()),
        }
    }

    fn expression(&mut self) -> Result<Node, ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.unsupported("the expression nests too deeply"));
        }
        let condition = self.binary(0)?;
        let node = if self.take("?") {
            let then = self.binary(0)?;
            self.expect(":")?;
            let otherwise = self.expression()?;
            Node::Condition(Box::new(condition), Box::new(then), Box::new(otherwise))
        } else {
            condition
        };
        self.depth -= 1;
        Ok(node)
    }

    fn operator(&self) -> Option<(Binary, u8)> {
        Some(match self.peek() {
            Token::Sign("||") => (Binary::Or, 1),
            Token::Sign("&&") => (Binary::And, 2),
            Token::Sign("==") => (Binary::Equal, 3),
            Token::Sign("!=") => (Binary::NotEqual, 3),
            Token::Sign("<") => (Binary::Less, 3),
            Token::Sign("<=") => (Binary::LessEqual, 3),
            Token::Sign(">") => (Binary::Greater, 3),
            Token::Sign(">=") => (Binary::GreaterEqual, 3),
            Token::Name(name) if name == "in" => (Binary::In, 3),
            Token::Sign("+") => (Binary::Add, 4),
            Token::Sign("-") => (Binary::Subtract, 4),
            Token::Sign("*") => (Binary::Multiply, 5),
            Token::Sign("/") => (Binary::Divide, 5),
            Token::Sign("%") => (Binary::Remainder, 5),
            _ => return None,
        })
    }

    fn binary(&mut self, least: u8) -> Result<Node, ParseError> {
        let mut left = self.unary()?;
        while let Some((operator, strength)) = self.operator().filter(|(_, strength)| *strength > least) {
            self.step()?;
            self.at += 1;
            let right = self.binary(strength)?;
            left = Node::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Node, ParseError> {
        let operator = match self.peek() {
            Token::Sign("!") => Unary::Not,
            Token::Sign("-") => Unary::Minus,
            _ => return self.postfix(),
        };
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.unsupported("the expression nests too deeply"));
        }
        let of = self.unary()?;
        self.depth -= 1;
        Ok(Node::Unary(operator, Box::new(of)))
    }

    fn postfix(&mut self) -> Result<Node, ParseError> {
        let mut node = self.primary()?;
        loop {
            if matches!(self.peek(), Token::Sign("." | "[")) {
                self.step()?;
            }
            if self.take(".") {
                if matches!(self.peek(), Token::Sign("?")) {
                    return Err(self.unsupported("optional fields are not supported"));
                }
                let Token::Name(name) = self.peek().clone() else {
                    return Err(self.error("expected a name"));
                };
                self.at += 1;
                node = match self.take("(") {
                    true => self.method(node, name)?,
                    false => Node::Field { of: Box::new(node), name, presence: false },
                };
            } else if self.take("[") {
                if matches!(self.peek(), Token::Sign("?")) {
                    return Err(self.unsupported("optional fields are not supported"));
                }
                let index = self.expression()?;
                self.expect("]")?;
                node = Node::Index(Box::new(node), Box::new(index));
            } else if matches!(
                (&node, self.peek()),
                (Node::Name(_) | Node::Field { presence: false, .. }, Token::Sign("{"))
            ) {
                return Err(self.unsupported("messages are not supported"));
            } else {
                return Ok(node);
            }
        }
    }

    fn list(&mut self, end: &str) -> Result<Vec<Node>, ParseError> {
        let mut items = Vec::new();
        while !self.take(end) {
            items.push(self.expression()?);
            if !self.take(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }

    fn method(&mut self, of: Node, function: String) -> Result<Node, ParseError> {
        let how = match function.as_str() {
            "all" => Some(Each::All),
            "exists" => Some(Each::Exists),
            "exists_one" | "existsOne" => Some(Each::ExistsOne),
            "map" => Some(Each::Map),
            "filter" => Some(Each::Filter),
            _ => None,
        };
        let arguments = self.list(")")?;
        let of = Box::new(of);
        let Some(how) = how else {
            if !is_method(&function) {
                return Err(self.unsupported(&format!("the function {function}() is not supported")));
            }
            if let ("matches", [Node::Literal(literal)]) = (function.as_str(), &arguments[..])
                && let Some(text) = literal.as_str()
            {
                let pattern = Pattern::of_rule(text);
                let pattern =
                    pattern.ok_or_else(|| self.error(&format!("{text:?} is no regular expression")))?;
                return Ok(Node::Matches { of, pattern });
            }
            return Ok(Node::Method { of, function, arguments });
        };
        let mut arguments = arguments.into_iter();
        let Some(Node::Name(variable)) = arguments.next() else {
            return Err(self.error(&format!("{function}() begins with the name of a variable")));
        };
        let (filter, body) = match (arguments.next(), arguments.next(), arguments.next()) {
            (Some(body), None, None) => (None, body),
            (Some(filter), Some(body), None) if how == Each::Map => (Some(Box::new(filter)), body),
            (Some(_), Some(_), None) if matches!(how, Each::All | Each::Exists | Each::ExistsOne) => {
                return Err(self.unsupported(&format!("{function}() of two variables is not supported")));
            }
            _ => return Err(self.error(&format!("{function}() has a variable and an expression"))),
        };
        Ok(Node::Each { of, how, variable, filter, body: Box::new(body) })
    }

    fn primary(&mut self) -> Result<Node, ParseError> {
        let token = self.peek().clone();
        self.at += 1;
        match token {
            Token::Literal(value) => Ok(Node::Literal(value)),
            Token::Sign("(") => {
                let node = self.expression()?;
                self.expect(")")?;
                Ok(node)
            }
            Token::Sign("[") => Ok(Node::List(self.list("]")?)),
            Token::Sign("{") => {
                let mut entries = Vec::new();
                while !self.take("}") {
                    let key = self.expression()?;
                    self.expect(":")?;
                    entries.push((key, self.expression()?));
                    if !self.take(",") {
                        self.expect("}")?;
                        break;
                    }
                }
                Ok(Node::Map(entries))
            }
            Token::Name(name) if self.take("(") => {
                let mut arguments = self.list(")")?;
                if name == "has" {
                    return match (arguments.pop(), arguments.is_empty()) {
                        (Some(Node::Field { of, name, .. }), true) => {
                            Ok(Node::Field { of, name, presence: true })
                        }
                        _ => Err(self.error("has() takes a field")),
                    };
                }
                if !is_function(&name) {
                    return Err(self.unsupported(&format!("the function {name}() is not supported")));
                }
                Ok(Node::Call { function: name, arguments })
            }
            Token::Name(name) => Ok(Node::Name(name)),
            Token::Sign(sign @ ("." | "?")) => {
                self.at -= 1;
                Err(self.unsupported(&format!("a value that begins with {sign:?} is not supported")))
            }
            other => {
                self.at -= 1;
                Err(self.error(&format!("expected a value, found {other:?}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{OBJECT_BUDGET, evaluate};
    use super::*;

    #[test]
    fn chains_have_an_end() {
        for length in [2_000, 40_000, 100_000] {
            for chain in [
                format!("self{}", ".a".repeat(length)),
                format!("self{}", "[0]".repeat(length)),
                format!("{}1", "1+".repeat(length)),
                format!("{}true", "true&&".repeat(length)),
            ] {
                assert_eq!(parse(&chain).unwrap_err().why, "the expression is too long");
            }
        }
        assert_eq!(parse(&"-".repeat(2_000)).unwrap_err().why, "the expression nests too deeply");
    }

    #[test]
    fn what_is_wrong_is_told_from_what_is_missing() {
        for text in [
            "self.size +",
            "self.size = 1",
            "(self",
            "'abc",
            "self.tags.all(",
            "self.tags.all(t)",
            "a b",
            "has(1)",
            "self.matches('(')",
            "1.2.3",
            "",
        ] {
            assert!(!parse(text).unwrap_err().unsupported, "{text}");
        }
        for text in [
            "quantity('1') == self",
            "self.isQuantity()",
            "self.?a.orValue(1) == 1",
            "self[?0].hasValue()",
            "b'x' == self",
            "self.`a-b`",
            "Message{a: 1} == self",
            "self.tags.all(i, t, i == t)",
            "18446744073709551615u > 0u",
            ".5 < self",
        ] {
            assert!(parse(text).unwrap_err().unsupported, "{text}");
        }
    }

    #[test]
    fn what_is_accepted_fits_the_stack_of_a_thread() {
        let lists = format!("{}1{}.size() >= 0", "[".repeat(90), "]".repeat(90));
        for chain in [
            format!("{}1", "1+".repeat(MAX_STEPS)),
            format!("{}true", "true&&".repeat(MAX_STEPS)),
            format!("self{}", ".a".repeat(MAX_STEPS)),
            format!("self{}", ".trim()".repeat(MAX_STEPS)),
            format!("self{}", "[0]".repeat(MAX_STEPS)),
            format!("self{}", ".map(x, x)".repeat(MAX_STEPS)),
            lists,
        ] {
            let expression = parse(&chain).unwrap();
            assert!(!expression.mentions("oldSelf"));
            let _ = evaluate(&expression, &[("self", &Value::NULL)], &mut OBJECT_BUDGET.clone());
        }
    }
}
