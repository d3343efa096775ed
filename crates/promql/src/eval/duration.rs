//! Lengths of time of a query, in milliseconds.

use super::{Evaluator, execution};
use crate::ast::{BinaryOp, DurationExpr};
use crate::engine::QueryError;

/// Durations beyond this are refused, so that times stay in range.
const MAX_MS: f64 = 9.2e12;

impl Evaluator<'_> {
    fn seconds(&self, duration: &DurationExpr) -> Result<f64, QueryError> {
        Ok(match duration {
            DurationExpr::Literal { seconds, .. } => *seconds,
            DurationExpr::Step if self.is_instant => 0.0,
            DurationExpr::Step => self.query_steps.step_ms as f64 / 1000.0,
            DurationExpr::Range => (self.query_steps.end_ms - self.query_steps.start_ms) as f64 / 1000.0,
            DurationExpr::MinOf(a, b) => self.seconds(a)?.min(self.seconds(b)?),
            DurationExpr::MaxOf(a, b) => self.seconds(a)?.max(self.seconds(b)?),
            DurationExpr::Negative(inner) => -self.seconds(inner)?,
            DurationExpr::Wrapped(inner) => self.seconds(inner)?,
            DurationExpr::Binary { op, lhs, rhs } => {
                let (left, right) = (self.seconds(lhs)?, self.seconds(rhs)?);
                match op {
                    BinaryOp::Add => left + right,
                    BinaryOp::Sub => left - right,
                    BinaryOp::Mul => left * right,
                    BinaryOp::Div if right == 0.0 => return Err(execution("division by zero")),
                    BinaryOp::Div => left / right,
                    BinaryOp::Mod if right == 0.0 => return Err(execution("modulo by zero")),
                    BinaryOp::Mod => left % right,
                    BinaryOp::Pow => left.powf(right),
                    other => return Err(execution(format!("unexpected operator {other} in a duration"))),
                }
            }
        })
    }

    fn milliseconds(&self, duration: &DurationExpr) -> Result<i64, QueryError> {
        let ms = (self.seconds(duration)? * 1000.0).round();
        if !ms.is_finite() || ms.abs() > MAX_MS {
            return Err(execution("duration is out of range"));
        }
        Ok(ms as i64)
    }

    /// A duration that may be negative; none is zero.
    pub(super) fn offset_ms(&self, offset: Option<&DurationExpr>) -> Result<i64, QueryError> {
        offset.map_or(Ok(0), |offset| self.milliseconds(offset))
    }

    /// A duration that must be above zero.
    pub(super) fn window_ms(&self, window: &DurationExpr) -> Result<i64, QueryError> {
        let ms = self.milliseconds(window)?;
        if ms <= 0 { Err(execution("duration must be greater than 0")) } else { Ok(ms) }
    }
}
