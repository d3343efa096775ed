//! The exact printer: what it prints parses to the same tree, and is what Prometheus prints.

use crate::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Cardinality, DurationExpr, Expr, ExprKind, Extension,
    MatrixSelector, Subquery, UnaryOp, VectorMatching, VectorSelector,
};
use gantry_clock::format_prometheus_duration;
use gantry_prom_model::{METRIC_NAME, MatchOp, format_float, format_float_plain};
use std::fmt::{self, Display};

/// A text in double quotes with Go's escapes.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::parser::lexer::quote(self.0))
    }
}

fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// `5m`, `-1h`
fn write_duration(f: &mut impl fmt::Write, seconds: f64) -> fmt::Result {
    f.write_str(&format_prometheus_duration(milliseconds(seconds)))
}

fn is_plain_label(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

fn write_labels(f: &mut fmt::Formatter<'_>, labels: &[String]) -> fmt::Result {
    for (index, label) in labels.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        if is_plain_label(label) { f.write_str(label)? } else { Quoted(label).fmt(f)? }
    }
    Ok(())
}

impl Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Aggregate(aggregate) => aggregate.fmt(f),
            ExprKind::Binary(binary) => binary.fmt(f),
            ExprKind::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                for (index, arg) in call.args.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    arg.fmt(f)?;
                }
                f.write_str(")")
            }
            ExprKind::Matrix(matrix) => matrix.fmt(f),
            ExprKind::Subquery(subquery) => subquery.fmt(f),
            ExprKind::Number { value, is_duration: true } => write_duration(f, *value),
            ExprKind::Number { value, is_duration: false } => f.write_str(&format_float_plain(*value)),
            ExprKind::String(text) => Quoted(text).fmt(f),
            ExprKind::Paren(inner) => write!(f, "({inner})"),
            ExprKind::Unary { op: UnaryOp::Minus, expr } => write!(f, "-{expr}"),
            ExprKind::Unary { op: UnaryOp::Plus, expr } => write!(f, "+{expr}"),
            ExprKind::Vector(selector) => selector.fmt(f),
        }
    }
}

impl Aggregate {
    /// `sum by (job) `, without the arguments.
    pub(crate) fn write_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        if self.without || !self.grouping.is_empty() {
            f.write_str(if self.without { " without (" } else { " by (" })?;
            write_labels(f, &self.grouping)?;
            f.write_str(") ")?;
        }
        Ok(())
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_head(f)?;
        match &self.param {
            Some(param) => write!(f, "({param}, {})", self.expr),
            None => write!(f, "({})", self.expr),
        }
    }
}

impl Display for AggregateOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Display for BinaryOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Binary {
    /// The operator with all its modifiers.
    pub(crate) fn write_operator(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        if self.return_bool {
            f.write_str(" bool")?;
        }
        self.matching.as_ref().map_or(Ok(()), |matching| matching.fmt(f))
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.lhs)?;
        self.write_operator(f)?;
        write!(f, " {}", self.rhs)
    }
}

impl Display for VectorMatching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = match self.cardinality {
            Cardinality::ManyToOne => Some("group_left"),
            Cardinality::OneToMany => Some("group_right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if !self.labels.is_empty() || self.on || group.is_some() {
            f.write_str(if self.on { " on (" } else { " ignoring (" })?;
            write_labels(f, &self.labels)?;
            f.write_str(")")?;
        }
        if let Some(group) = group {
            write!(f, " {group} (")?;
            write_labels(f, &self.include)?;
            f.write_str(")")?;
        }
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        match (self.fill_left, self.fill_right) {
            (Some(left), Some(right)) if same(left, right) => write!(f, " fill ({})", format_float(left)),
            (left, right) => {
                if let Some(left) = left {
                    write!(f, " fill_left ({})", format_float(left))?;
                }
                right.map_or(Ok(()), |right| write!(f, " fill_right ({})", format_float(right)))
            }
        }
    }
}

fn write_at(f: &mut fmt::Formatter<'_>, at: Option<At>) -> fmt::Result {
    match at {
        None => Ok(()),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
        Some(At::Timestamp(ms)) => {
            let sign = if ms < 0 { "-" } else { "" };
            let magnitude = ms.unsigned_abs();
            write!(f, " @ {sign}{}.{:03}", magnitude / 1000, magnitude % 1000)
        }
    }
}

fn write_offset(f: &mut fmt::Formatter<'_>, offset: Option<&DurationExpr>) -> fmt::Result {
    match offset {
        None => Ok(()),
        Some(DurationExpr::Literal { seconds, .. }) if milliseconds(*seconds) == 0 => Ok(()),
        Some(offset) => {
            f.write_str(" offset ")?;
            write_whole_duration(f, offset)
        }
    }
}

/// A literal that stands alone is always printed as a duration.
fn write_whole_duration(f: &mut fmt::Formatter<'_>, duration: &DurationExpr) -> fmt::Result {
    match duration {
        DurationExpr::Literal { seconds, .. } => write_duration(f, *seconds),
        other => other.fmt(f),
    }
}

fn write_extension(f: &mut fmt::Formatter<'_>, extension: Extension) -> fmt::Result {
    f.write_str(match extension {
        Extension::None => "",
        Extension::Anchored => " anchored",
        Extension::Smoothed => " smoothed",
    })
}

impl VectorSelector {
    /// Name and matchers alone.
    fn write_series(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut matchers: Vec<String> = self
            .matchers
            .iter()
            .filter(|matcher| {
                let is_name = *matcher.name == *METRIC_NAME
                    && matcher.op == MatchOp::Equal
                    && *matcher.value == *self.name
                    && !self.name.is_empty();
                !is_name
            })
            .map(ToString::to_string)
            .collect();
        matchers.sort_unstable();
        f.write_str(&self.name)?;
        if !matchers.is_empty() {
            write!(f, "{{{}}}", matchers.join(","))?;
        }
        Ok(())
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_series(f)?;
        write_at(f, self.at)?;
        write_extension(f, self.extension)?;
        write_offset(f, self.offset.as_ref())
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.selector.write_series(f)?;
        f.write_str("[")?;
        write_whole_duration(f, &self.window)?;
        f.write_str("]")?;
        write_extension(f, self.selector.extension)?;
        write_at(f, self.selector.at)?;
        write_offset(f, self.selector.offset.as_ref())
    }
}

impl Subquery {
    /// `[1h:5m] @ 10.000 offset 1m`
    pub(crate) fn write_suffix(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        write_whole_duration(f, &self.window)?;
        f.write_str(":")?;
        if let Some(step) = &self.step {
            write_whole_duration(f, step)?;
        }
        f.write_str("]")?;
        write_at(f, self.at)?;
        write_offset(f, self.offset.as_ref())
    }
}

impl Display for Subquery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)?;
        self.write_suffix(f)
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DurationExpr::Literal { seconds, is_duration: true } => write_duration(f, *seconds),
            DurationExpr::Literal { seconds, is_duration: false } => {
                f.write_str(&format_float_plain(*seconds))
            }
            DurationExpr::Step => f.write_str("step()"),
            DurationExpr::Range => f.write_str("range()"),
            DurationExpr::MinOf(a, b) => write!(f, "min_of({a}, {b})"),
            DurationExpr::MaxOf(a, b) => write!(f, "max_of({a}, {b})"),
            DurationExpr::Negative(inner) => write!(f, "-{inner}"),
            DurationExpr::Binary { op, lhs, rhs } => write!(f, "{lhs} {op} {rhs}"),
            DurationExpr::Wrapped(inner) => write!(f, "({inner})"),
        }
    }
}
