//! The syntax tree of PromQL, with the place in the text on every node.

use gantry_prom_model::Matcher;
use std::fmt;

/// Bytes of the query text that a node covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct PosRange {
    pub start: usize,
    pub end: usize,
}

impl PosRange {
    pub fn new(start: usize, end: usize) -> Self {
        PosRange { start, end }
    }

    /// From the start of this range to the end of the other.
    pub fn to(self, other: PosRange) -> Self {
        PosRange { start: self.start, end: other.end }
    }

    /// Line and column, both from 1, of the start in the query text.
    pub fn line_column(self, query: &str) -> (usize, usize) {
        let before = query.as_bytes().get(..self.start).unwrap_or(query.as_bytes());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        (line, before.len() - line_start + 1)
    }
}

/// The four types of PromQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    Scalar,
    Vector,
    Matrix,
    String,
}

impl ValueType {
    /// The words of error messages.
    pub fn documented(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }

    /// The word of the HTTP API.
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
            ValueType::String => "string",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An expression and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub range: PosRange,
    depth: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    Aggregate(Box<Aggregate>),
    Binary(Box<Binary>),
    Call(Call),
    /// `metric[5m]`
    Matrix(MatrixSelector),
    /// `expr[1h:5m]`
    Subquery(Box<Subquery>),
    /// A number; one written as a duration (`5m`) prints as one.
    Number {
        value: f64,
        is_duration: bool,
    },
    String(String),
    Paren(Box<Expr>),
    Unary {
        op: UnaryOp,
        expr: Box<Expr>,
    },
    Vector(VectorSelector),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryOp {
    Plus,
    Minus,
}

/// `sum by (job) (expr)` and its kin.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub expr: Expr,
    /// Of `topk`, `bottomk`, `quantile`, `count_values`, `limitk`, `limit_ratio`.
    pub param: Option<Expr>,
    pub grouping: Vec<String>,
    pub without: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    Avg,
    Bottomk,
    Count,
    CountValues,
    Group,
    LimitRatio,
    Limitk,
    Max,
    Min,
    Quantile,
    Stddev,
    Stdvar,
    Sum,
    Topk,
}

impl AggregateOp {
    pub const ALL: [AggregateOp; 14] = [
        AggregateOp::Avg,
        AggregateOp::Bottomk,
        AggregateOp::Count,
        AggregateOp::CountValues,
        AggregateOp::Group,
        AggregateOp::LimitRatio,
        AggregateOp::Limitk,
        AggregateOp::Max,
        AggregateOp::Min,
        AggregateOp::Quantile,
        AggregateOp::Stddev,
        AggregateOp::Stdvar,
        AggregateOp::Sum,
        AggregateOp::Topk,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Avg => "avg",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::Count => "count",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Group => "group",
            AggregateOp::LimitRatio => "limit_ratio",
            AggregateOp::Limitk => "limitk",
            AggregateOp::Max => "max",
            AggregateOp::Min => "min",
            AggregateOp::Quantile => "quantile",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Sum => "sum",
            AggregateOp::Topk => "topk",
        }
    }

    pub fn takes_parameter(self) -> bool {
        matches!(
            self,
            AggregateOp::Bottomk
                | AggregateOp::CountValues
                | AggregateOp::LimitRatio
                | AggregateOp::Limitk
                | AggregateOp::Quantile
                | AggregateOp::Topk
        )
    }
}

/// Two operands and what stands between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub lhs: Expr,
    pub rhs: Expr,
    /// `bool`: a comparison gives 0 or 1 instead of filtering.
    pub return_bool: bool,
    /// Between two vectors; `None` when a side is a scalar.
    pub matching: Option<VectorMatching>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eql,
    Neq,
    Lss,
    Lte,
    Gtr,
    Gte,
    And,
    Or,
    Unless,
    /// `</`: keeps the observations below a bound
    TrimUpper,
    /// `>/`: keeps the observations above a bound
    TrimLower,
}

impl BinaryOp {
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Eql => "==",
            BinaryOp::Neq => "!=",
            BinaryOp::Lss => "<",
            BinaryOp::Lte => "<=",
            BinaryOp::Gtr => ">",
            BinaryOp::Gte => ">=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
        }
    }

    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            BinaryOp::Eql | BinaryOp::Neq | BinaryOp::Lss | BinaryOp::Lte | BinaryOp::Gtr | BinaryOp::Gte
        )
    }

    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }

    pub fn is_trim(self) -> bool {
        matches!(self, BinaryOp::TrimUpper | BinaryOp::TrimLower)
    }

    /// How tightly it binds; `^` alone binds to the right.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            BinaryOp::Or => 1,
            BinaryOp::And | BinaryOp::Unless => 2,
            BinaryOp::Eql
            | BinaryOp::Neq
            | BinaryOp::Lss
            | BinaryOp::Lte
            | BinaryOp::Gtr
            | BinaryOp::Gte
            | BinaryOp::TrimUpper
            | BinaryOp::TrimLower => 3,
            BinaryOp::Add | BinaryOp::Sub => 4,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
            BinaryOp::Pow => 6,
        }
    }
}

/// Which series of two vectors belong together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VectorMatching {
    pub cardinality: Cardinality,
    /// `on` (only `labels` count) or, when false, `ignoring` (all others count).
    pub on: bool,
    pub labels: Vec<String>,
    /// Labels that `group_left` or `group_right` copies from the one side.
    pub include: Vec<String>,
    /// Value for a series that is missing on the left.
    pub fill_left: Option<f64>,
    /// Value for a series that is missing on the right.
    pub fill_right: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cardinality {
    #[default]
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators
    ManyToMany,
}

/// A function call; the function is known to exist and its arguments to fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub function: &'static crate::Function,
    pub args: Vec<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The name in front of the braces; empty when there is none. It is among the matchers as well.
    pub name: String,
    pub matchers: Vec<Matcher>,
    pub offset: Option<DurationExpr>,
    pub at: Option<At>,
    pub extension: Extension,
}

/// How a range selector treats the samples next to its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extension {
    #[default]
    None,
    /// The last sample before the range stands for its start.
    Anchored,
    /// Values at both ends of the range are interpolated.
    Smoothed,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    pub selector: VectorSelector,
    /// Where the selector without the range stands.
    pub selector_range: PosRange,
    pub window: DurationExpr,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    pub expr: Expr,
    pub window: DurationExpr,
    /// `None` takes the engine's default.
    pub step: Option<DurationExpr>,
    pub offset: Option<DurationExpr>,
    pub at: Option<At>,
}

/// `@`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Milliseconds
    Timestamp(i64),
    /// `start()`
    Start,
    /// `end()`
    End,
}

/// A length of time that may depend on the query's step and range.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    Literal {
        seconds: f64,
        is_duration: bool,
    },
    /// `step()`
    Step,
    /// `range()`
    Range,
    MinOf(Box<DurationExpr>, Box<DurationExpr>),
    MaxOf(Box<DurationExpr>, Box<DurationExpr>),
    Negative(Box<DurationExpr>),
    Binary {
        op: BinaryOp,
        lhs: Box<DurationExpr>,
        rhs: Box<DurationExpr>,
    },
    Wrapped(Box<DurationExpr>),
}

// === impl Expr ===

impl Expr {
    pub fn new(kind: ExprKind, range: PosRange) -> Expr {
        let mut depth = 0;
        kind.visit_children(&mut |child| depth = depth.max(child.depth));
        Expr { kind, range, depth: depth + 1 }
    }

    /// Nodes on the longest way down; what recursion over the tree has to be prepared for.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// The expression without the parentheses around it.
    pub fn unwrap_parens(&self) -> &Expr {
        let mut expr = self;
        while let ExprKind::Paren(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }

    pub fn value_type(&self) -> ValueType {
        let mut expr = self;
        loop {
            return match &expr.kind {
                ExprKind::Aggregate(_) | ExprKind::Vector(_) => ValueType::Vector,
                ExprKind::Matrix(_) | ExprKind::Subquery(_) => ValueType::Matrix,
                ExprKind::Number { .. } => ValueType::Scalar,
                ExprKind::String(_) => ValueType::String,
                ExprKind::Call(call) => call.function.returns,
                ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => {
                    expr = inner;
                    continue;
                }
                ExprKind::Binary(binary) => binary.value_type(),
            };
        }
    }

    /// Calls `visit` for this node and all below it, outer ones first.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        visit(self);
        self.kind.visit_children(&mut |child| child.walk(visit));
    }

    /// Calls `visit` for each selector below, those of range selectors included.
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let mut found = Vec::new();
        self.walk(&mut |expr| match &expr.kind {
            ExprKind::Vector(selector) => found.push(selector),
            ExprKind::Matrix(matrix) => found.push(&matrix.selector),
            _ => {}
        });
        found
    }
}

impl ExprKind {
    /// Calls `visit` for each direct child.
    pub fn visit_children<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        match self {
            ExprKind::Aggregate(aggregate) => {
                if let Some(param) = &aggregate.param {
                    visit(param);
                }
                visit(&aggregate.expr);
            }
            ExprKind::Binary(binary) => {
                visit(&binary.lhs);
                visit(&binary.rhs);
            }
            ExprKind::Call(call) => call.args.iter().for_each(visit),
            ExprKind::Subquery(subquery) => visit(&subquery.expr),
            ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => visit(inner),
            ExprKind::Matrix(_) | ExprKind::Number { .. } | ExprKind::String(_) | ExprKind::Vector(_) => {}
        }
    }

    /// As [`visit_children`](Self::visit_children), to change them.
    pub fn visit_children_mut(&mut self, visit: &mut dyn FnMut(&mut Expr)) {
        match self {
            ExprKind::Aggregate(aggregate) => {
                if let Some(param) = &mut aggregate.param {
                    visit(param);
                }
                visit(&mut aggregate.expr);
            }
            ExprKind::Binary(binary) => {
                visit(&mut binary.lhs);
                visit(&mut binary.rhs);
            }
            ExprKind::Call(call) => call.args.iter_mut().for_each(visit),
            ExprKind::Subquery(subquery) => visit(&mut subquery.expr),
            ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => visit(inner),
            ExprKind::Matrix(_) | ExprKind::Number { .. } | ExprKind::String(_) | ExprKind::Vector(_) => {}
        }
    }
}

impl Binary {
    fn value_type(&self) -> ValueType {
        let is_scalar = |expr: &Expr| expr.value_type() == ValueType::Scalar;
        if is_scalar(&self.lhs) && is_scalar(&self.rhs) { ValueType::Scalar } else { ValueType::Vector }
    }
}
