//! Selectors and what can follow them.

use super::ParseError;
use super::grammar::Parser;
use super::lexer::Token;
use crate::ast::{
    At, DurationExpr, Expr, ExprKind, Extension, MatrixSelector, PosRange, Subquery, VectorSelector,
};
use gantry_prom_model::{METRIC_NAME, MatchOp, Matcher};

/// Where the parts of a selector that can carry `offset` and `@` are.
struct TimeModifiers<'e> {
    offset: &'e mut Option<DurationExpr>,
    at: &'e mut Option<At>,
}

fn time_modifiers(kind: &mut ExprKind) -> Option<TimeModifiers<'_>> {
    match kind {
        ExprKind::Vector(selector) => {
            Some(TimeModifiers { offset: &mut selector.offset, at: &mut selector.at })
        }
        ExprKind::Matrix(matrix) => {
            Some(TimeModifiers { offset: &mut matrix.selector.offset, at: &mut matrix.selector.at })
        }
        ExprKind::Subquery(subquery) => {
            Some(TimeModifiers { offset: &mut subquery.offset, at: &mut subquery.at })
        }
        _ => None,
    }
}

impl Parser<'_> {
    /// The selector after its name has been read (the name is empty when it begins with the braces).
    pub(super) fn vector_selector(&mut self, name: String) -> Result<Expr, ParseError> {
        let start = if name.is_empty() { self.peek_range().start } else { self.last_end - name.len() };
        let mut selector =
            VectorSelector { name, matchers: Vec::new(), offset: None, at: None, extension: Extension::None };
        if self.is_symbol("{") {
            self.matchers(&mut selector)?;
        }
        let range = PosRange::new(start, self.last_end);
        if !selector.name.is_empty() {
            if let Some(other) = selector.matchers.iter().find(|matcher| *matcher.name == *METRIC_NAME) {
                let message =
                    format!("metric name must not be set twice: {:?} or {:?}", selector.name, &*other.value);
                return Err(self.error_at(range, message));
            }
            // The name comes last, as the printer and other tools expect.
            selector.matchers.push(Matcher::equal(METRIC_NAME, &selector.name));
        }
        Ok(Expr::new(ExprKind::Vector(selector), range))
    }

    fn matchers(&mut self, selector: &mut VectorSelector) -> Result<(), ParseError> {
        self.expect_symbol("{", "label matching")?;
        while !self.eat_symbol("}") {
            let start = self.peek_range();
            let (label, was_quoted) = match self.peek() {
                Token::Word(word) => (word.clone(), false),
                Token::Text(text) => (text.clone(), true),
                _ => return Err(self.unexpected("label matching", "identifier or \"}\"")),
            };
            self.advance();
            let op = match self.peek() {
                Token::Symbol("=") => Some(MatchOp::Equal),
                Token::Symbol("!=") => Some(MatchOp::NotEqual),
                Token::Symbol("=~") => Some(MatchOp::Regex),
                Token::Symbol("!~") => Some(MatchOp::NotRegex),
                _ => None,
            };
            match op {
                Some(op) => {
                    self.advance();
                    let Token::Text(value) = self.peek().clone() else {
                        return Err(self.unexpected("label matching", "string"));
                    };
                    self.advance();
                    let matcher = Matcher::new(op, &label, &value)
                        .map_err(|error| self.error_at(start, error.to_string()))?;
                    selector.matchers.push(matcher);
                }
                // A quoted text alone is the metric name.
                None if was_quoted => {
                    let is_second = selector.matchers.iter().any(|matcher| *matcher.name == *METRIC_NAME);
                    if !selector.name.is_empty() || is_second {
                        let message =
                            format!("metric name must not be set twice: {:?} or {label:?}", selector.name);
                        return Err(self.error_at(start, message));
                    }
                    selector.matchers.push(Matcher::equal(METRIC_NAME, &label));
                }
                None => return Err(self.unexpected("label matching", "label matching operator")),
            }
            if !self.is_symbol("}") && !self.eat_symbol(",") {
                return Err(self.unexpected("label matching", "\",\" or \"}\""));
            }
        }
        Ok(())
    }

    pub(super) fn range_or_subquery(&mut self, expr: Expr) -> Result<Expr, ParseError> {
        let bracket = self.advance();
        let window = self.positive_duration("subquery or range selector")?;
        if self.eat_symbol(":") {
            let step =
                if self.is_symbol("]") { None } else { Some(self.positive_duration("subquery selector")?) };
            let end = self.expect_symbol("]", "subquery selector")?;
            let range = expr.range.to(end);
            let subquery = Subquery { expr, window, step, offset: None, at: None };
            return Ok(Expr::new(ExprKind::Subquery(Box::new(subquery)), range));
        }
        let end = self.expect_symbol("]", "subquery or range")?;
        let selector_range = expr.range;
        let message = match expr.kind {
            ExprKind::Vector(selector) => {
                if selector.offset.is_some() {
                    "no offset modifiers allowed before range"
                } else if selector.at.is_some() {
                    "no @ modifiers allowed before range"
                } else if selector.extension != Extension::None {
                    "no anchored or smoothed modifiers allowed before range"
                } else {
                    let matrix = MatrixSelector { selector, selector_range, window };
                    return Ok(Expr::new(ExprKind::Matrix(matrix), selector_range.to(end)));
                }
            }
            _ => "ranges only allowed for vector selectors",
        };
        Err(self.error_at(bracket.to(end), message))
    }

    pub(super) fn offset(&mut self, mut expr: Expr) -> Result<Expr, ParseError> {
        let keyword = self.advance();
        let offset = self.offset_duration()?;
        let end = PosRange::new(self.last_end, self.last_end);
        let range = expr.range.to(end);
        let Some(modifiers) = time_modifiers(&mut expr.kind) else {
            let message = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(self.error_at(keyword, message));
        };
        if modifiers.offset.replace(offset).is_some() {
            return Err(self.error_at(keyword, "offset may not be set multiple times"));
        }
        Ok(Expr::new(expr.kind, range))
    }

    pub(super) fn at(&mut self, mut expr: Expr) -> Result<Expr, ParseError> {
        let symbol = self.advance();
        let at = self.at_time()?;
        let end = PosRange::new(self.last_end, self.last_end);
        let range = expr.range.to(end);
        let Some(modifiers) = time_modifiers(&mut expr.kind) else {
            let message = "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(self.error_at(symbol, message));
        };
        if modifiers.at.replace(at).is_some() {
            return Err(self.error_at(symbol, "@ <timestamp> may not be set multiple times"));
        }
        Ok(Expr::new(expr.kind, range))
    }

    fn at_time(&mut self) -> Result<At, ParseError> {
        for (keyword, at) in [("start", At::Start), ("end", At::End)] {
            if self.eat_keyword(keyword) {
                self.expect_symbol("(", "@")?;
                self.expect_symbol(")", "@")?;
                return Ok(at);
            }
        }
        let start = self.peek_range();
        let is_negative = self.is_symbol("-");
        if is_negative || self.is_symbol("+") {
            self.advance();
        }
        let (Token::Number(magnitude) | Token::Duration(magnitude)) = *self.peek() else {
            return Err(self.unexpected("@", "timestamp"));
        };
        self.advance();
        let milliseconds = (if is_negative { -magnitude } else { magnitude }) * 1000.0;
        if !milliseconds.is_finite() || milliseconds.abs() >= i64::MAX as f64 {
            return Err(self.error_at(start, "timestamp out of bounds for @ modifier"));
        }
        Ok(At::Timestamp(milliseconds.round() as i64))
    }

    pub(super) fn extension(&mut self, mut expr: Expr) -> Result<Expr, ParseError> {
        let (extension, name) = if self.is_keyword("anchored") {
            (Extension::Anchored, "anchored")
        } else {
            (Extension::Smoothed, "smoothed")
        };
        let keyword = self.advance();
        let selector = match &mut expr.kind {
            ExprKind::Vector(selector) => selector,
            ExprKind::Matrix(matrix) => &mut matrix.selector,
            ExprKind::Subquery(_) => {
                return Err(
                    self.error_at(keyword, format!("{name} modifier is not supported for subqueries"))
                );
            }
            _ => return Err(self.error_at(keyword, format!("{name} modifier not implemented"))),
        };
        if selector.extension != Extension::None {
            return Err(self.error_at(keyword, "anchored and smoothed modifiers cannot be used together"));
        }
        selector.extension = extension;
        let range = expr.range.to(keyword);
        Ok(Expr::new(expr.kind, range))
    }
}
