//! Durations in brackets and after `offset`, with their own arithmetic.

use super::ParseError;
use super::grammar::Parser;
use super::lexer::Token;
use crate::ast::{BinaryOp, DurationExpr, PosRange};

/// What 64 bits of nanoseconds hold.
const MAX_SECONDS: f64 = 9_223_372_036.854_775;

impl Parser<'_> {
    /// A duration in brackets; a literal must be above zero.
    pub(super) fn positive_duration(&mut self, context: &str) -> Result<DurationExpr, ParseError> {
        let start = self.peek_range();
        if self.is_symbol("]") || self.is_symbol(":") {
            return Err(self.unexpected(context, "number, duration, step(), or range()"));
        }
        let duration = self.duration_expr(0)?;
        match duration {
            DurationExpr::Literal { seconds, .. } if seconds <= 0.0 => {
                Err(self.error_at(start, "duration must be greater than 0"))
            }
            _ => Ok(duration),
        }
    }

    /// A duration after `offset`: arithmetic only in parentheses, so that `a offset 1m + b` stays an addition.
    pub(super) fn offset_duration(&mut self) -> Result<DurationExpr, ParseError> {
        let start = self.peek_range();
        let is_negative = self.is_symbol("-");
        if is_negative || self.is_symbol("+") {
            self.advance();
        }
        let operand = self.duration_primary("offset")?;
        if is_negative { self.negative(start, operand) } else { Ok(operand) }
    }

    fn negative(&self, start: PosRange, operand: DurationExpr) -> Result<DurationExpr, ParseError> {
        match operand {
            DurationExpr::Literal { seconds, is_duration } => self.literal(start, -seconds, is_duration),
            other => Ok(DurationExpr::Negative(Box::new(other))),
        }
    }

    fn literal(&self, start: PosRange, seconds: f64, is_duration: bool) -> Result<DurationExpr, ParseError> {
        if seconds.is_nan() || seconds.abs() > MAX_SECONDS {
            return Err(self.error_at(start, "duration out of range"));
        }
        Ok(DurationExpr::Literal { seconds, is_duration })
    }

    fn duration_op(&self) -> Option<BinaryOp> {
        Some(match self.peek() {
            Token::Symbol("+") => BinaryOp::Add,
            Token::Symbol("-") => BinaryOp::Sub,
            Token::Symbol("*") => BinaryOp::Mul,
            Token::Symbol("/") => BinaryOp::Div,
            Token::Symbol("%") => BinaryOp::Mod,
            Token::Symbol("^") => BinaryOp::Pow,
            _ => return None,
        })
    }

    fn duration_expr(&mut self, min_precedence: u8) -> Result<DurationExpr, ParseError> {
        self.enter()?;
        let start = self.peek_range();
        let is_negative = self.is_symbol("-");
        let mut lhs = if is_negative || self.is_symbol("+") {
            self.advance();
            let operand = self.duration_expr(BinaryOp::Mul.precedence() + 1)?;
            if is_negative { self.negative(start, operand)? } else { operand }
        } else {
            self.duration_primary("duration")?
        };
        while let Some(op) = self.duration_op().filter(|op| op.precedence() >= min_precedence) {
            let op_range = self.advance();
            let right_precedence = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
            let rhs = self.duration_expr(right_precedence)?;
            let is_zero = matches!(rhs, DurationExpr::Literal { seconds: 0.0, .. });
            match op {
                BinaryOp::Div if is_zero => return Err(self.error_at(op_range, "division by zero")),
                BinaryOp::Mod if is_zero => return Err(self.error_at(op_range, "modulo by zero")),
                _ => lhs = DurationExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) },
            }
        }
        self.leave();
        Ok(lhs)
    }

    fn duration_primary(&mut self, context: &str) -> Result<DurationExpr, ParseError> {
        let start = self.peek_range();
        match self.peek().clone() {
            Token::Number(seconds) => {
                self.advance();
                self.literal(start, seconds, false)
            }
            Token::Duration(seconds) => {
                self.advance();
                self.literal(start, seconds, true)
            }
            Token::Symbol("(") => {
                self.advance();
                let inner = self.duration_expr(0)?;
                self.expect_symbol(")", context)?;
                // A literal needs no parentheses, so none are kept.
                Ok(match inner {
                    literal @ DurationExpr::Literal { .. } => literal,
                    wrapped @ DurationExpr::Wrapped(_) => wrapped,
                    other => DurationExpr::Wrapped(Box::new(other)),
                })
            }
            Token::Word(word) => {
                let name = word.to_ascii_lowercase();
                if !matches!(name.as_str(), "step" | "range" | "min_of" | "max_of") {
                    return Err(self.unexpected(context, "number, duration, step(), or range()"));
                }
                self.advance();
                self.expect_symbol("(", context)?;
                if matches!(name.as_str(), "step" | "range") {
                    self.expect_symbol(")", context)?;
                    return Ok(if name == "step" { DurationExpr::Step } else { DurationExpr::Range });
                }
                let first = Box::new(self.duration_expr(0)?);
                self.expect_symbol(",", context)?;
                let second = Box::new(self.duration_expr(0)?);
                self.expect_symbol(")", context)?;
                Ok(match name.as_str() {
                    "min_of" => DurationExpr::MinOf(first, second),
                    _ => DurationExpr::MaxOf(first, second),
                })
            }
            _ => Err(self.unexpected(context, "number, duration, step(), or range()")),
        }
    }
}
