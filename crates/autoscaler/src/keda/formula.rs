//! `scalingModifiers.formula`: one number from the values of all triggers, in the expr language.

use expr::{Context, Program, Value};

/// Longer formulas are refused.
const LONGEST: usize = 4096;
/// Deeper nesting is refused: the parser recurses.
const DEEPEST: usize = 48;

/// A compiled formula.
#[derive(Debug)]
pub struct Formula {
    program: Program,
}

impl Formula {
    /// Compiles, and evaluates once with stand-ins so that unknown names and wrong types come out before scaling.
    pub fn compile(text: &str, triggers: &[&str]) -> Result<Formula, String> {
        if text.len() > LONGEST {
            return Err(format!("the formula is longer than {LONGEST} bytes"));
        }
        if nesting(text) > DEEPEST {
            return Err(format!("the formula is nested deeper than {DEEPEST}"));
        }
        let program =
            expr::compile(text).map_err(|error| format!("error compiling formula {text:?}: {error}"))?;
        let formula = Formula { program };
        formula.evaluate(triggers.iter().map(|name| (*name, Some(-1.0))))?;
        Ok(formula)
    }

    /// The result; `None` when the formula gives nil. A trigger that failed is nil.
    pub fn evaluate<'a>(
        &self,
        values: impl Iterator<Item = (&'a str, Option<f64>)>,
    ) -> Result<Option<f64>, String> {
        let mut context = Context::default();
        for (name, value) in values {
            context.insert(name.to_owned(), value.map_or(Value::Nil, Value::Float));
        }
        match expr::run(&self.program, &context) {
            Ok(Value::Float(value)) => Ok(Some(value)),
            Ok(Value::Integer(value)) => Ok(Some(value as f64)),
            Ok(Value::Nil) => Ok(None),
            Ok(_) => Err("the formula must give a number".into()),
            Err(error) => Err(format!("error trying to run custom formula: {error}")),
        }
    }
}

/// How deep brackets, signs and conditions are nested, at most.
fn nesting(text: &str) -> usize {
    let (mut brackets, mut chain, mut deepest) = (0usize, 0usize, 0usize);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => {
                brackets += 1;
                chain = 0;
            }
            b')' | b']' | b'}' => brackets = brackets.saturating_sub(1),
            b'?' | b'!' | b'-' | b'+' | b'^' => chain += 1,
            _ => {}
        }
        deepest = deepest.max(brackets).max(chain / 4);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<Option<f64>, String> {
        let formula = Formula::compile(text, &["a", "b", "c"])?;
        formula.evaluate([("a", Some(2.0)), ("b", Some(5.0)), ("c", None)].into_iter())
    }

    #[test]
    fn the_language_of_the_documentation() {
        for (text, expected) in [
            ("a + b", 7.0),
            ("(a + b)/2", 3.5),
            ("a > 1 ? a + b : 2", 7.0),
            ("a < 1 ? 5 : b", 5.0),
            ("max([a, b, 3])", 5.0),
            ("max(a, b)", 5.0),
            ("sum([a, b])", 7.0),
            ("count([a, b],{#>1}) > 1 ? 5 : 0", 5.0),
            ("b > 2 && a > 1 ? 5 : 1", 5.0),
            ("a ** 3", 8.0),
            ("int(b) % 3", 2.0),
            ("ceil(b / a)", 3.0),
            ("-a", -2.0),
            ("2", 2.0),
            ("float(a) + float(b)", 7.0),
            ("c ?? b", 5.0),
            ("7 / 2", 3.5),
        ] {
            assert_eq!(value(text), Ok(Some(expected)), "{text}");
        }
        assert_eq!(value("c"), Ok(None));
    }

    #[test]
    fn what_is_no_formula() {
        for wrong in [
            "",
            "a +",
            "unknown + 1",
            "a > b",
            // Values are floats, and `%` is for whole numbers.
            "b % 3",
            "\"text\"",
            "a.b.c",
            &"(".repeat(5000),
            &format!("{}a", "-".repeat(4000)),
        ] {
            assert!(value(wrong).is_err(), "{:.20}", wrong);
        }
    }
}
