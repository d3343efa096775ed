//! Binary operators on single values, and between a vector and a scalar.

use super::over_time::counter_reset_collision;
use super::rate::reconciled_bounds;
use super::series::{ABSENT, Cell, Series, is_absent};
use super::trim::trim;
use super::{Evaluator, Sink};
use crate::annotations::Annotations;
use crate::ast::{Binary, BinaryOp, PosRange, ValueType};
use crate::engine::QueryError;
use gantry_prom_model::{CounterResetHint, FloatHistogram};
use std::sync::Arc;

pub(super) fn negate(series: &mut Series) {
    for value in series.values.iter_mut().filter(|value| !is_absent(**value)) {
        *value = -*value;
    }
    for histogram in series.histograms.iter_mut().flatten().flatten() {
        let mut negative = (**histogram).clone();
        negative.scale(-1.0);
        *histogram = Arc::new(negative);
    }
}

fn arithmetic(op: BinaryOp, left: f64, right: f64) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => go_pow(left, right),
        BinaryOp::Atan2 => left.atan2(right),
        _ => return None,
    })
}

/// `powf` differs from Go's `Pow` in nothing but NaN bases and exponents, where both follow IEEE 754.
fn go_pow(base: f64, exponent: f64) -> f64 {
    base.powf(exponent)
}

fn compares(op: BinaryOp, left: f64, right: f64) -> bool {
    match op {
        BinaryOp::Eql => left == right,
        BinaryOp::Neq => left != right,
        BinaryOp::Lss => left < right,
        BinaryOp::Lte => left <= right,
        BinaryOp::Gtr => left > right,
        BinaryOp::Gte => left >= right,
        _ => false,
    }
}

pub(super) fn scalar_op(op: BinaryOp, left: f64, right: f64) -> f64 {
    arithmetic(op, left, right).unwrap_or_else(|| if compares(op, left, right) { 1.0 } else { 0.0 })
}

/// Whether the result is another quantity than the operands.
pub(super) fn changes_quantity(op: BinaryOp) -> bool {
    matches!(
        op,
        BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::Div
            | BinaryOp::Mod
            | BinaryOp::Pow
            | BinaryOp::Atan2
    )
}

/// What an operator makes of two values.
pub(super) enum Outcome {
    /// The kinds do not go together; nothing comes of it, not even a 0 of `bool`.
    Nothing,
    /// The value, and whether a comparison held.
    Value { cell: Cell, holds: bool },
}

fn kept(cell: Cell) -> Outcome {
    Outcome::Value { cell, holds: true }
}

fn changed(histogram: &FloatHistogram, change: impl FnOnce(&mut FloatHistogram)) -> Outcome {
    let mut copy = histogram.clone();
    change(&mut copy);
    kept(Cell::Histogram(Arc::new(copy)))
}

/// One operation; `range` is the operator's place for annotations.
pub(super) fn element_op(
    op: BinaryOp,
    left: &Cell,
    right: &Cell,
    range: PosRange,
    annotations: &mut Annotations,
) -> Outcome {
    let mut incompatible = |left: &str, right: &str| {
        let message = format!(
            "incompatible sample types encountered for binary operator {:?}: {left} {op} {right}",
            op.as_str()
        );
        annotations.info(range, &message);
        Outcome::Nothing
    };
    match (left, right) {
        (Cell::Absent, _) | (_, Cell::Absent) => Outcome::Nothing,
        (Cell::Float(l), Cell::Float(r)) => match arithmetic(op, *l, *r) {
            Some(value) => kept(Cell::Float(value)),
            None if op.is_comparison() => {
                Outcome::Value { cell: Cell::Float(*l), holds: compares(op, *l, *r) }
            }
            None => incompatible("float", "float"),
        },
        (Cell::Float(l), Cell::Histogram(r)) => match op {
            BinaryOp::Mul => changed(r, |histogram| {
                histogram.scale(*l);
                histogram.compact();
            }),
            _ => incompatible("float", "histogram"),
        },
        (Cell::Histogram(l), Cell::Float(r)) => match op {
            BinaryOp::Mul => changed(l, |histogram| {
                histogram.scale(*r);
                histogram.compact();
            }),
            BinaryOp::Div => changed(l, |histogram| {
                histogram.divide(*r);
                histogram.compact();
            }),
            BinaryOp::TrimUpper => changed(l, |histogram| trim(histogram, *r, true)),
            BinaryOp::TrimLower => changed(l, |histogram| trim(histogram, *r, false)),
            _ => incompatible("histogram", "float"),
        },
        (Cell::Histogram(l), Cell::Histogram(r)) => match op {
            BinaryOp::Add | BinaryOp::Sub => histogram_sum(op, l, r, range, annotations),
            BinaryOp::Eql => Outcome::Value { cell: left.clone(), holds: l.same_as(r) },
            BinaryOp::Neq => Outcome::Value { cell: left.clone(), holds: !l.same_as(r) },
            _ => incompatible("histogram", "histogram"),
        },
    }
}

fn histogram_sum(
    op: BinaryOp,
    left: &FloatHistogram,
    right: &FloatHistogram,
    range: PosRange,
    annotations: &mut Annotations,
) -> Outcome {
    let mut result = left.clone();
    let (combined, operation) = if op == BinaryOp::Add {
        (result.add(right), "addition")
    } else {
        (result.subtract(right), "subtraction")
    };
    let Ok(reconciled) = combined else {
        annotations.warn(range, &format!("incompatible bucket layout encountered for binary operator {op}"));
        return Outcome::Nothing;
    };
    if op == BinaryOp::Sub {
        result.counter_reset_hint = CounterResetHint::Gauge;
    }
    if reconciled.counter_reset_collision {
        counter_reset_collision(annotations, operation, range);
    }
    if reconciled.custom_bounds {
        reconciled_bounds(annotations, operation, range);
    }
    result.compact();
    kept(Cell::Histogram(Arc::new(result)))
}

impl<'a> Evaluator<'a> {
    /// A vector and a scalar, in either order.
    pub(super) fn stream_vector_scalar(
        &mut self,
        binary: &Binary,
        range: PosRange,
        sink: Sink<'_, 'a>,
    ) -> Result<(), QueryError> {
        let scalar_is_left = binary.lhs.value_type() == ValueType::Scalar;
        let (scalar, vector) =
            if scalar_is_left { (&binary.lhs, &binary.rhs) } else { (&binary.rhs, &binary.lhs) };
        let column = self.scalar(scalar)?;
        let op = binary.op;
        let drops_name = changes_quantity(op) || binary.return_bool;
        self.stream(vector, &mut |evaluator, mut series| {
            if series.histograms.is_none() && !op.is_trim() {
                float_column(&mut series.values, &column, op, scalar_is_left, binary.return_bool);
            } else {
                for (step, scalar) in column.iter().enumerate() {
                    let own = series.cell(step);
                    if own.is_absent() {
                        continue;
                    }
                    let scalar = Cell::Float(*scalar);
                    let (left, right) = if scalar_is_left { (&scalar, &own) } else { (&own, &scalar) };
                    let cell = match element_op(op, left, right, range, &mut evaluator.annotations) {
                        Outcome::Nothing => Cell::Absent,
                        Outcome::Value { holds, .. } if binary.return_bool => {
                            Cell::Float(if holds { 1.0 } else { 0.0 })
                        }
                        Outcome::Value { holds: false, .. } => Cell::Absent,
                        // A comparison keeps the vector's value, on whichever side it stands.
                        Outcome::Value { .. } if op.is_comparison() => own,
                        Outcome::Value { cell, .. } => cell,
                    };
                    series.set(step, cell);
                }
            }
            if drops_name {
                evaluator.drop_name(&mut series);
            }
            sink(evaluator, series)
        })
    }
}

/// The common case: floats only.
fn float_column(values: &mut [f64], scalars: &[f64], op: BinaryOp, scalar_is_left: bool, return_bool: bool) {
    for (value, scalar) in values.iter_mut().zip(scalars) {
        if is_absent(*value) {
            continue;
        }
        let (left, right) = if scalar_is_left { (*scalar, *value) } else { (*value, *scalar) };
        *value = match arithmetic(op, left, right) {
            Some(result) => result,
            None if return_bool => f64::from(u8::from(compares(op, left, right))),
            None if compares(op, left, right) => *value,
            None => ABSENT,
        };
    }
}
