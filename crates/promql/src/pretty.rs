//! Long expressions over several lines, as the `format_query` endpoint and `promtool promql format` give them.

use crate::ast::{Aggregate, Binary, Expr, ExprKind, Subquery, UnaryOp};
use std::fmt;

/// What fits this width stays on one line.
const MAX_WIDTH: usize = 100;
const INDENT: &str = "  ";

/// Only the head of an aggregation.
struct Head<'a>(&'a Aggregate);

impl fmt::Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_head(f)
    }
}

/// Only the operator of a binary expression, with its modifiers.
struct Operator<'a>(&'a Binary);

impl fmt::Display for Operator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_operator(f)
    }
}

/// Only what follows the expression of a subquery.
struct Suffix<'a>(&'a Subquery);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_suffix(f)
    }
}

impl Expr {
    /// The expression broken over lines where it is longer than 100 characters. It parses to the same tree.
    pub fn pretty(&self) -> String {
        pretty(self, 0)
    }
}

fn pretty(expr: &Expr, level: usize) -> String {
    let indent = INDENT.repeat(level);
    let line = expr.to_string();
    if line.len() <= MAX_WIDTH {
        return format!("{indent}{line}");
    }
    match &expr.kind {
        ExprKind::Aggregate(aggregate) => {
            let param = match &aggregate.param {
                Some(param) => format!("{},\n", pretty(param, level + 1)),
                None => String::new(),
            };
            format!("{indent}{}(\n{param}{}\n{indent})", Head(aggregate), pretty(&aggregate.expr, level + 1))
        }
        ExprKind::Binary(binary) => {
            let (left, right) = (pretty(&binary.lhs, level + 1), pretty(&binary.rhs, level + 1));
            format!("{left}\n{indent}{}\n{right}", Operator(binary))
        }
        ExprKind::Call(call) => {
            let args: Vec<String> = call.args.iter().map(|arg| pretty(arg, level + 1)).collect();
            format!("{indent}{}(\n{}\n{indent})", call.function.name, args.join(",\n"))
        }
        ExprKind::Paren(inner) => format!("{indent}(\n{}\n{indent})", pretty(inner, level + 1)),
        ExprKind::Unary { op, expr: inner } => {
            let sign = if *op == UnaryOp::Minus { '-' } else { '+' };
            format!("{indent}{sign}{}", pretty(inner, level).trim_start())
        }
        ExprKind::Subquery(subquery) => format!("{}{}", pretty(&subquery.expr, level), Suffix(subquery)),
        ExprKind::Matrix(_) | ExprKind::Number { .. } | ExprKind::String(_) | ExprKind::Vector(_) => {
            format!("{indent}{line}")
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::parse;

    #[test]
    fn long_expressions_are_broken_and_parse_to_the_same() {
        let short = "sum by (job) (rate(x[5m]))";
        assert_eq!(parse(short).expect("valid").pretty(), short);
        let long = "sum by (job, instance) (rate(some_quite_long_metric_name_total{code=~\"5..\"}[5m])) / on (job) group_left (team) topk(3, max by (job) (other_metric))";
        let expr = parse(long).expect("valid");
        assert_eq!(
            expr.pretty(),
            "  sum by (job, instance) (rate(some_quite_long_metric_name_total{code=~\"5..\"}[5m]))\n\
             / on (job) group_left (team)\n  topk(3, max by (job) (other_metric))"
        );
        assert_eq!(parse(&expr.pretty()).expect("what is printed parses").to_string(), expr.to_string());
    }
}
