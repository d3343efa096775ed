//! Whether the types of an expression fit together.

use super::ParseError;
use crate::ast::{AggregateOp, Binary, Call, Expr, ExprKind, Extension, ValueType, VectorSelector};
use gantry_prom_model::Matcher;

/// # Errors
/// At the first node whose operands have the wrong type.
pub(super) fn check_types(query: &str, expr: &Expr) -> Result<(), ParseError> {
    // Deep chains are checked without recursion: they may be as long as the depth bound allows.
    let mut pending = vec![expr];
    while let Some(node) = pending.pop() {
        check_node(query, node)?;
        match &node.kind {
            // The second argument of `info` only names labels; it may match anything.
            ExprKind::Call(call) if call.function.name == "info" => pending.extend(call.args.first()),
            kind => kind.visit_children(&mut |child| pending.push(child)),
        }
    }
    Ok(())
}

fn error(query: &str, expr: &Expr, message: String) -> ParseError {
    ParseError::new(query, expr.range, message)
}

fn expect(query: &str, expr: &Expr, wanted: ValueType, context: &str) -> Result<(), ParseError> {
    let found = expr.value_type();
    if found == wanted {
        return Ok(());
    }
    let message = format!("expected type {} in {context}, got {}", wanted.documented(), found.documented());
    Err(error(query, expr, message))
}

const EVERYTHING: &str = "vector selector must contain at least one non-empty matcher";

/// Whether a selector would take every series there is.
fn selects_everything(selector: &VectorSelector) -> bool {
    selector.matchers.iter().all(Matcher::matches_empty)
}

fn check_node(query: &str, expr: &Expr) -> Result<(), ParseError> {
    match &expr.kind {
        ExprKind::Aggregate(aggregate) => {
            expect(query, &aggregate.expr, ValueType::Vector, "aggregation expression")?;
            match (&aggregate.param, aggregate.op) {
                (Some(param), AggregateOp::CountValues) => {
                    expect(query, param, ValueType::String, "aggregation parameter")
                }
                (Some(param), _) => expect(query, param, ValueType::Scalar, "aggregation parameter"),
                (None, _) => Ok(()),
            }
        }
        ExprKind::Binary(binary) => check_binary(query, expr, binary),
        ExprKind::Call(call) => check_call(query, expr, call),
        ExprKind::Subquery(subquery) => match subquery.expr.value_type() {
            ValueType::Vector => Ok(()),
            // A scalar is taken as a vector of one series without labels.
            ValueType::Scalar => {
                let message = "subquery is only allowed on instant vector, got scalar instead";
                Err(error(query, expr, message.to_owned()))
            }
            other => {
                let message =
                    format!("subquery is only allowed on instant vector, got {} instead", other.as_str());
                Err(error(query, expr, message))
            }
        },
        ExprKind::Unary { expr: inner, .. } => match inner.value_type() {
            ValueType::Scalar | ValueType::Vector => Ok(()),
            other => {
                let message = format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                    other.documented()
                );
                Err(error(query, expr, message))
            }
        },
        ExprKind::Vector(selector) if selects_everything(selector) => {
            Err(error(query, expr, EVERYTHING.to_owned()))
        }
        ExprKind::Matrix(matrix) if selects_everything(&matrix.selector) => {
            Err(error(query, expr, EVERYTHING.to_owned()))
        }
        ExprKind::Vector(selector) if selector.extension == Extension::Anchored => Err(error(
            query,
            expr,
            "anchored modifier can only be used with range vector selectors".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn check_binary(query: &str, expr: &Expr, binary: &Binary) -> Result<(), ParseError> {
    let (left, right) = (binary.lhs.value_type(), binary.rhs.value_type());
    let is_operand = |found: ValueType| matches!(found, ValueType::Scalar | ValueType::Vector);
    for (side, found) in [(&binary.lhs, left), (&binary.rhs, right)] {
        if !is_operand(found) {
            let message = "binary expression must contain only scalar and instant vector types".to_owned();
            return Err(error(query, side, message));
        }
    }
    let is_scalar_pair = left == ValueType::Scalar && right == ValueType::Scalar;
    if binary.op.is_comparison() && is_scalar_pair && !binary.return_bool {
        return Err(error(query, expr, "comparisons between scalars must use BOOL modifier".to_owned()));
    }
    if binary.op.is_set() && (left == ValueType::Scalar || right == ValueType::Scalar) {
        let message =
            format!("set operator {:?} not allowed in binary scalar expression", binary.op.as_str());
        return Err(error(query, expr, message));
    }
    Ok(())
}

fn check_call(query: &str, expr: &Expr, call: &Call) -> Result<(), ParseError> {
    let function = call.function;
    let (declared, given) = (function.args.len(), call.args.len());
    let repeats = function.variadic < 0 || function.name == "histogram_quantiles";
    let at_least = match function.variadic {
        0 => declared,
        _ => declared - 1,
    };
    let at_most = match function.variadic {
        0 => Some(declared),
        variadic if variadic < 0 => None,
        variadic if repeats => Some(declared - 1 + variadic.unsigned_abs() as usize),
        _ => Some(declared),
    };
    let name = function.name;
    if function.variadic == 0 && given != declared {
        let message = format!("expected {declared} argument(s) in call to {name:?}, got {given}");
        return Err(error(query, expr, message));
    }
    if given < at_least {
        let message = format!("expected at least {at_least} argument(s) in call to {name:?}, got {given}");
        return Err(error(query, expr, message));
    }
    if let Some(most) = at_most.filter(|most| given > *most) {
        let message = format!("expected at most {most} argument(s) in call to {name:?}, got {given}");
        return Err(error(query, expr, message));
    }
    for (index, arg) in call.args.iter().enumerate() {
        let wanted = function.args.get(index).or(function.args.last());
        if let Some(wanted) = wanted {
            expect(query, arg, *wanted, &format!("call to function {name:?}"))?;
        }
    }
    if name == "info" && given > 1 {
        let selector = call.args.get(1).map(|arg| &arg.kind);
        if !matches!(selector, Some(ExprKind::Vector(_))) {
            return Err(error(query, expr, "expected label selectors only".to_owned()));
        }
    }
    Ok(())
}
