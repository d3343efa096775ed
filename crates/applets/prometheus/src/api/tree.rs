//! The syntax tree of an expression as JSON, as `parse_query` answers it.

use gantry_prom_model::{Matcher, format_float_plain};
use gantry_promql::ast::{
    At, Cardinality, DurationExpr, Expr, ExprKind, UnaryOp, VectorMatching, VectorSelector,
};
use serde_json::{Value, json};

/// The tree.
pub(super) fn tree(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": aggregate.op.as_str(),
            "expr": tree(&aggregate.expr),
            "param": aggregate.param.as_ref().map(tree),
            "grouping": aggregate.grouping,
            "without": aggregate.without,
        }),
        ExprKind::Binary(binary) => json!({
            "type": "binaryExpr",
            "op": binary.op.as_str(),
            "lhs": tree(&binary.lhs),
            "rhs": tree(&binary.rhs),
            "matching": binary.matching.as_ref().map(matching),
            "bool": binary.return_bool,
        }),
        ExprKind::Call(call) => json!({
            "type": "call",
            "func": {
                "name": call.function.name,
                "argTypes": call.function.args.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
                "variadic": call.function.variadic,
                "returnType": call.function.returns.as_str(),
            },
            "args": call.args.iter().map(tree).collect::<Vec<_>>(),
        }),
        ExprKind::Matrix(matrix) => {
            let mut node = selector("matrixSelector", &matrix.selector);
            insert(&mut node, "range", json!(milliseconds(&matrix.window)));
            node
        }
        ExprKind::Subquery(subquery) => {
            let (timestamp, start_or_end) = at(subquery.at);
            json!({
                "type": "subquery",
                "expr": tree(&subquery.expr),
                "range": milliseconds(&subquery.window),
                "offset": subquery.offset.as_ref().map_or(0, milliseconds),
                "step": subquery.step.as_ref().map_or(0, milliseconds),
                "timestamp": timestamp,
                "startOrEnd": start_or_end,
            })
        }
        ExprKind::Number { value, .. } => json!({"type": "numberLiteral", "val": format_float_plain(*value)}),
        ExprKind::String(text) => json!({"type": "stringLiteral", "val": text}),
        ExprKind::Paren(inner) => json!({"type": "parenExpr", "expr": tree(inner)}),
        ExprKind::Unary { op, expr } => {
            let op = match op {
                UnaryOp::Plus => "+",
                UnaryOp::Minus => "-",
            };
            json!({"type": "unaryExpr", "op": op, "expr": tree(expr)})
        }
        ExprKind::Vector(vector) => selector("vectorSelector", vector),
    }
}

fn insert(node: &mut Value, name: &str, value: Value) {
    if let Some(fields) = node.as_object_mut() {
        fields.insert(name.into(), value);
    }
}

fn selector(kind: &str, selector: &VectorSelector) -> Value {
    let (timestamp, start_or_end) = at(selector.at);
    json!({
        "type": kind,
        "name": selector.name,
        "offset": selector.offset.as_ref().map_or(0, milliseconds),
        "matchers": selector.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "timestamp": timestamp,
        "startOrEnd": start_or_end,
    })
}

fn matcher(matcher: &Matcher) -> Value {
    json!({"name": &*matcher.name, "value": &*matcher.value, "type": matcher.op.as_str()})
}

fn matching(matching: &VectorMatching) -> Value {
    let cardinality = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": cardinality,
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        "fillValues": {"lhs": matching.fill_left, "rhs": matching.fill_right},
    })
}

fn at(at: Option<At>) -> (Option<i64>, Option<&'static str>) {
    match at {
        None => (None, None),
        Some(At::Timestamp(ms)) => (Some(ms), None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
    }
}

/// A duration's milliseconds; 0 where they depend on the query that the expression is part of.
fn milliseconds(duration: &DurationExpr) -> i64 {
    match duration {
        DurationExpr::Literal { seconds, .. } => (seconds * 1000.0).round() as i64,
        DurationExpr::Negative(inner) => milliseconds(inner).saturating_neg(),
        DurationExpr::Wrapped(inner) => milliseconds(inner),
        _ => 0,
    }
}
