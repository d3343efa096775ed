//! Expressions, aggregations, calls and operators.

use super::lexer::{Lexeme, Token, tokenize};
use super::{MAX_NESTING, ParseError};
use crate::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Expr, ExprKind, PosRange, UnaryOp,
    ValueType, VectorMatching,
};
use crate::functions::find_function;

/// Words that operators and modifiers are made of and that cannot name a metric.
const RESERVED: [&str; 6] = ["atan2", "bool", "group_left", "group_right", "ignoring", "on"];

pub(super) struct Parser<'a> {
    pub(super) query: &'a str,
    lexemes: Vec<Lexeme>,
    next: usize,
    nesting: usize,
    /// End of the token consumed last.
    pub(super) last_end: usize,
}

// === impl Parser ===

impl<'a> Parser<'a> {
    pub(super) fn new(query: &'a str) -> Result<Self, ParseError> {
        Ok(Parser { query, lexemes: tokenize(query)?, next: 0, nesting: 0, last_end: 0 })
    }

    pub(super) fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> &Token {
        self.lexemes.get(self.next + ahead).map_or(&Token::End, |lexeme| &lexeme.token)
    }

    pub(super) fn peek_range(&self) -> PosRange {
        let end = PosRange::new(self.query.len(), self.query.len());
        self.lexemes.get(self.next).map_or(end, |lexeme| lexeme.range)
    }

    pub(super) fn advance(&mut self) -> PosRange {
        let range = self.peek_range();
        self.next += 1;
        self.last_end = range.end;
        range
    }

    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if *found == symbol)
    }

    /// Whether the next token is this keyword; keywords have no case.
    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    pub(super) fn is_symbol_at(&self, ahead: usize, symbol: &str) -> bool {
        matches!(self.peek_at(ahead), Token::Symbol(found) if *found == symbol)
    }

    pub(super) fn eat_symbol(&mut self, symbol: &str) -> bool {
        let is_next = self.is_symbol(symbol);
        if is_next {
            self.advance();
        }
        is_next
    }

    pub(super) fn eat_keyword(&mut self, keyword: &str) -> bool {
        let is_next = self.is_keyword(keyword);
        if is_next {
            self.advance();
        }
        is_next
    }

    pub(super) fn error_at(&self, range: PosRange, message: impl Into<String>) -> ParseError {
        ParseError::new(self.query, range, message.into())
    }

    /// "unexpected X in context, expected Y"
    pub(super) fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let found = match self.peek() {
            Token::End => "end of input".to_owned(),
            Token::Word(word) => format!("identifier {word:?}"),
            Token::Number(_) | Token::Duration(_) => {
                let range = self.peek_range();
                format!("number {:?}", self.query.get(range.start..range.end).unwrap_or(""))
            }
            Token::Text(text) => format!("string {text:?}"),
            Token::Symbol(symbol) => format!("{symbol:?}"),
        };
        let place = if context.is_empty() { String::new() } else { format!(" in {context}") };
        let wanted = if expected.is_empty() { String::new() } else { format!(", expected {expected}") };
        self.error_at(self.peek_range(), format!("unexpected {found}{place}{wanted}"))
    }

    pub(super) fn expect_symbol(&mut self, symbol: &str, context: &str) -> Result<PosRange, ParseError> {
        if self.is_symbol(symbol) {
            Ok(self.advance())
        } else {
            Err(self.unexpected(context, &format!("{symbol:?}")))
        }
    }

    pub(super) fn whole_expression(&mut self) -> Result<Expr, ParseError> {
        if *self.peek() == Token::End {
            return Err(self.error_at(self.peek_range(), "no expression found in input"));
        }
        let expr = self.expression(0)?;
        match self.peek() {
            Token::End => Ok(expr),
            _ => Err(self.unexpected("", "")),
        }
    }

    pub(super) fn enter(&mut self) -> Result<(), ParseError> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            let message = format!("more than {MAX_NESTING} expressions inside one another");
            return Err(self.error_at(self.peek_range(), message));
        }
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.nesting -= 1;
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        Some(match self.peek() {
            Token::Symbol("+") => BinaryOp::Add,
            Token::Symbol("-") => BinaryOp::Sub,
            Token::Symbol("*") => BinaryOp::Mul,
            Token::Symbol("/") => BinaryOp::Div,
            Token::Symbol("%") => BinaryOp::Mod,
            Token::Symbol("^") => BinaryOp::Pow,
            Token::Symbol("==") => BinaryOp::Eql,
            Token::Symbol("!=") => BinaryOp::Neq,
            Token::Symbol("<") => BinaryOp::Lss,
            Token::Symbol("<=") => BinaryOp::Lte,
            Token::Symbol(">") => BinaryOp::Gtr,
            Token::Symbol(">=") => BinaryOp::Gte,
            Token::Symbol("</") => BinaryOp::TrimUpper,
            Token::Symbol(">/") => BinaryOp::TrimLower,
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "and" => BinaryOp::And,
                "or" => BinaryOp::Or,
                "unless" => BinaryOp::Unless,
                "atan2" => BinaryOp::Atan2,
                _ => return None,
            },
            _ => return None,
        })
    }

    /// An expression whose operators bind at least as tightly as `min_precedence`.
    pub(super) fn expression(&mut self, min_precedence: u8) -> Result<Expr, ParseError> {
        self.enter()?;
        let mut lhs = self.unary()?;
        while let Some(op) = self.binary_op().filter(|op| op.precedence() >= min_precedence) {
            self.advance();
            let (return_bool, matching) = self.binary_modifiers(op)?;
            // `^` binds to the right: its right side may hold another one.
            let right_precedence = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
            let rhs = self.expression(right_precedence)?;
            lhs = self.binary(op, return_bool, matching, lhs, rhs)?;
        }
        self.leave();
        Ok(lhs)
    }

    fn binary(
        &self,
        op: BinaryOp,
        return_bool: bool,
        matching: VectorMatching,
        lhs: Expr,
        rhs: Expr,
    ) -> Result<Expr, ParseError> {
        let range = lhs.range.to(rhs.range);
        let is_vector = |expr: &Expr| expr.value_type() == ValueType::Vector;
        let has_labels = !matching.labels.is_empty();
        let matching = if is_vector(&lhs) && is_vector(&rhs) {
            Some(matching)
        } else {
            if has_labels {
                return Err(self.error_at(range, "vector matching only allowed between instant vectors"));
            }
            if matching.fill_left.is_some() || matching.fill_right.is_some() {
                return Err(
                    self.error_at(range, "filling in missing series only allowed between instant vectors")
                );
            }
            None
        };
        Ok(Expr::new(ExprKind::Binary(Box::new(Binary { op, lhs, rhs, return_bool, matching })), range))
    }

    fn binary_modifiers(&mut self, op: BinaryOp) -> Result<(bool, VectorMatching), ParseError> {
        let start = self.peek_range();
        let return_bool = self.eat_keyword("bool");
        if return_bool && !op.is_comparison() {
            return Err(self.error_at(start, "bool modifier can only be used on comparison operators"));
        }
        let mut matching = VectorMatching::default();
        if op.is_set() {
            matching.cardinality = Cardinality::ManyToMany;
        }
        let has_matching = self.is_keyword("on") || self.is_keyword("ignoring");
        if has_matching {
            matching.on = self.is_keyword("on");
            self.advance();
            matching.labels = self.label_list("grouping opts")?;
            self.group_modifier(op, &mut matching)?;
        }
        self.fill_modifiers(op, &mut matching)?;
        Ok((return_bool, matching))
    }

    fn group_modifier(&mut self, op: BinaryOp, matching: &mut VectorMatching) -> Result<(), ParseError> {
        let range = self.peek_range();
        let is_left = self.is_keyword("group_left");
        if !is_left && !self.is_keyword("group_right") {
            return Ok(());
        }
        if op.is_set() {
            return Err(self.error_at(range, format!("no grouping allowed for {:?} operation", op.as_str())));
        }
        self.advance();
        matching.cardinality = if is_left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
        if self.is_symbol("(") {
            matching.include = self.label_list("grouping opts")?;
        }
        if matching.on
            && let Some(label) = matching.labels.iter().find(|label| matching.include.contains(label))
        {
            let message = format!("label {label:?} must not occur in ON and GROUP clause at once");
            return Err(self.error_at(range, message));
        }
        Ok(())
    }

    fn fill_modifiers(&mut self, op: BinaryOp, matching: &mut VectorMatching) -> Result<(), ParseError> {
        loop {
            let keyword = match self.peek() {
                Token::Word(word) if self.is_symbol_at(1, "(") => word.to_ascii_lowercase(),
                _ => return Ok(()),
            };
            if !matches!(keyword.as_str(), "fill" | "fill_left" | "fill_right") {
                return Ok(());
            }
            let range = self.advance();
            if op.is_set() {
                let message =
                    format!("filling in missing series not allowed for set operators, found {op:?}");
                return Err(self.error_at(range, message));
            }
            self.expect_symbol("(", "fill modifier")?;
            let is_negative = self.is_symbol("-");
            if is_negative || self.is_symbol("+") {
                self.advance();
            }
            let (Token::Number(magnitude) | Token::Duration(magnitude)) = *self.peek() else {
                return Err(self.unexpected("fill modifier", "number"));
            };
            self.advance();
            self.expect_symbol(")", "fill modifier")?;
            let value = Some(if is_negative { -magnitude } else { magnitude });
            if keyword != "fill_right" {
                matching.fill_left = value;
            }
            if keyword != "fill_left" {
                matching.fill_right = value;
            }
        }
    }

    /// `(a, b, "c.d")`
    pub(super) fn label_list(&mut self, context: &str) -> Result<Vec<String>, ParseError> {
        self.expect_symbol("(", context)?;
        let mut labels = Vec::new();
        while !self.eat_symbol(")") {
            let label = match self.peek() {
                Token::Word(word) if !word.contains(':') => word.clone(),
                Token::Text(text) if !text.is_empty() => text.clone(),
                // `inf` and `nan` are numbers elsewhere, but labels here.
                Token::Number(_) => {
                    let range = self.peek_range();
                    let word = self.query.get(range.start..range.end).unwrap_or("");
                    if !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
                        return Err(self.unexpected(context, "label"));
                    }
                    word.to_owned()
                }
                _ => return Err(self.unexpected(context, "label")),
            };
            self.advance();
            labels.push(label);
            if !self.is_symbol(")") && !self.eat_symbol(",") {
                return Err(self.unexpected(context, "\",\" or \")\""));
            }
        }
        Ok(labels)
    }

    fn unary(&mut self) -> Result<Expr, ParseError> {
        let op = if self.is_symbol("-") {
            UnaryOp::Minus
        } else if self.is_symbol("+") {
            UnaryOp::Plus
        } else {
            return self.postfix();
        };
        let start = self.advance();
        // `+Inf` is how infinity is printed, so its sign belongs to the number.
        let is_infinity = matches!(self.peek(), Token::Number(value) if value.is_infinite());
        if op == UnaryOp::Plus && is_infinity {
            return self.postfix();
        }
        // Binds like `*`: `-a ^ b` is `-(a ^ b)`, `-a * b` is `(-a) * b`.
        let inner = self.expression(BinaryOp::Mul.precedence() + 1)?;
        let range = start.to(inner.range);
        if let ExprKind::Number { value, is_duration } = inner.kind {
            let signed = if op == UnaryOp::Minus { -value } else { value };
            return Ok(Expr::new(ExprKind::Number { value: signed, is_duration }, range));
        }
        Ok(Expr::new(ExprKind::Unary { op, expr: Box::new(inner) }, range))
    }

    fn primary(&mut self) -> Result<Expr, ParseError> {
        let range = self.peek_range();
        match self.peek().clone() {
            Token::Number(value) => {
                self.advance();
                Ok(Expr::new(ExprKind::Number { value, is_duration: false }, range))
            }
            Token::Duration(value) => {
                self.advance();
                Ok(Expr::new(ExprKind::Number { value, is_duration: true }, range))
            }
            Token::Text(text) => {
                self.advance();
                Ok(Expr::new(ExprKind::String(text), range))
            }
            Token::Symbol("(") => {
                self.advance();
                let inner = self.expression(0)?;
                let end = self.expect_symbol(")", "paren expression")?;
                Ok(Expr::new(ExprKind::Paren(Box::new(inner)), range.to(end)))
            }
            Token::Symbol("{") => self.vector_selector(String::new()),
            Token::Word(word) => self.word(word),
            Token::Symbol(_) | Token::End => Err(self.unexpected("", "")),
        }
    }

    fn word(&mut self, word: String) -> Result<Expr, ParseError> {
        let lower = word.to_ascii_lowercase();
        let aggregate = AggregateOp::ALL.into_iter().find(|op| op.as_str() == lower);
        if let Some(op) = aggregate {
            let has_modifier = matches!(self.peek_at(1), Token::Word(next)
                if next.eq_ignore_ascii_case("by") || next.eq_ignore_ascii_case("without"));
            if self.is_symbol_at(1, "(") || has_modifier {
                return self.aggregate(op);
            }
        }
        if self.is_symbol_at(1, "(") {
            return self.call(&word, &lower);
        }
        if RESERVED.contains(&lower.as_str()) {
            return Err(self.unexpected("", ""));
        }
        self.advance();
        self.vector_selector(word)
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, ParseError> {
        self.expect_symbol("(", "function call")?;
        let mut args = Vec::new();
        if self.eat_symbol(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expression(0)?);
            if self.eat_symbol(")") {
                return Ok(args);
            }
            let comma = self.peek_range();
            if !self.eat_symbol(",") {
                return Err(self.unexpected("function call", "\",\" or \")\""));
            }
            if self.is_symbol(")") {
                return Err(self.error_at(comma, "trailing commas not allowed in function call args"));
            }
        }
    }

    fn call(&mut self, word: &str, lower: &str) -> Result<Expr, ParseError> {
        let start = self.advance();
        // The words of the grammar have no case, the names of functions do.
        let name = if matches!(lower, "start" | "end" | "step" | "range") { lower } else { word };
        let Some(function) = find_function(name) else {
            return Err(self.error_at(start, format!("unknown function with name {word:?}")));
        };
        let args = self.arguments()?;
        let range = PosRange::new(start.start, self.last_end);
        Ok(Expr::new(ExprKind::Call(Call { function, args }), range))
    }

    fn aggregate_modifier(&mut self) -> Result<Option<(bool, Vec<String>)>, ParseError> {
        let without = self.is_keyword("without");
        if !without && !self.is_keyword("by") {
            return Ok(None);
        }
        self.advance();
        Ok(Some((without, self.label_list("grouping opts")?)))
    }

    fn aggregate(&mut self, op: AggregateOp) -> Result<Expr, ParseError> {
        let start = self.advance();
        let before = self.aggregate_modifier()?;
        if !self.is_symbol("(") {
            return Err(self.unexpected("aggregation", "\"(\""));
        }
        let mut args = self.arguments()?;
        let modifier = match before {
            Some(modifier) => Some(modifier),
            None => self.aggregate_modifier()?,
        };
        let (without, grouping) = modifier.unwrap_or_default();
        let range = PosRange::new(start.start, self.last_end);
        let wanted = if op.takes_parameter() { 2 } else { 1 };
        if args.len() != wanted {
            let message = if args.is_empty() {
                "no arguments for aggregate expression provided".to_owned()
            } else {
                format!(
                    "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                    args.len()
                )
            };
            return Err(self.error_at(range, message));
        }
        let Some(expr) = args.pop() else { return Err(self.unexpected("aggregation", "")) };
        let param = args.pop();
        let aggregate = Aggregate { op, expr, param, grouping, without };
        Ok(Expr::new(ExprKind::Aggregate(Box::new(aggregate)), range))
    }

    /// A primary expression and what follows it: `[5m]`, `offset`, `@`, `anchored`, `smoothed`.
    fn postfix(&mut self) -> Result<Expr, ParseError> {
        let mut expr = self.primary()?;
        loop {
            expr = if self.is_symbol("[") {
                self.range_or_subquery(expr)?
            } else if self.is_keyword("offset") {
                self.offset(expr)?
            } else if self.is_symbol("@") {
                self.at(expr)?
            } else if self.is_keyword("anchored") || self.is_keyword("smoothed") {
                self.extension(expr)?
            } else {
                return Ok(expr);
            };
            if expr.depth() > super::MAX_DEPTH {
                return Err(self.error_at(expr.range, "too many subqueries inside one another"));
            }
        }
    }
}
