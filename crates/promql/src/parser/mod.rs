//! The parser: a Pratt parser over the tokens, then a check of types.
//!
//! The grammar is that of Prometheus 3.14 with everything experimental in it.

mod check;
mod duration;
mod grammar;
pub(crate) mod lexer;
mod selector;

use crate::ast::{Expr, PosRange};
use gantry_prom_model::Matcher;

/// Deeper nesting is refused, so that no query takes the stack.
const MAX_DEPTH: u32 = 4_000;
/// Parentheses, braces and calls inside one another.
const MAX_NESTING: usize = 200;
/// Longer queries are refused.
const MAX_QUERY_BYTES: usize = 1 << 20;

/// A query that is not PromQL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: parse error: {message}")]
pub struct ParseError {
    pub range: PosRange,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    pub message: String,
}

impl ParseError {
    pub(crate) fn new(text: &str, range: PosRange, message: String) -> Self {
        let (line, column) = range.line_column(text);
        ParseError { range, line, column, message }
    }
}

/// Parses and checks an expression.
///
/// # Errors
/// At the first place that is not PromQL, or where the types do not fit.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    if query.len() > MAX_QUERY_BYTES {
        let message = format!("the query has {} bytes, {MAX_QUERY_BYTES} are allowed", query.len());
        return Err(ParseError { range: PosRange::default(), line: 1, column: 1, message });
    }
    let mut parser = grammar::Parser::new(query)?;
    let expr = parser.whole_expression()?;
    if expr.depth() > MAX_DEPTH {
        let message = format!("the expression is {} levels deep, {MAX_DEPTH} are allowed", expr.depth());
        return Err(ParseError::new(query, expr.range, message));
    }
    check::check_types(query, &expr)?;
    Ok(expr)
}

/// Parses a bare series selector such as `up{job="api"}`, as the series and label APIs take it.
///
/// # Errors
/// When the text is not a selector without modifiers.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let expr = parse(text)?;
    match expr.kind {
        crate::ast::ExprKind::Vector(selector) if selector.offset.is_none() && selector.at.is_none() => {
            Ok(selector.matchers)
        }
        _ => Err(ParseError::new(text, expr.range, "expected a series selector".to_owned())),
    }
}
