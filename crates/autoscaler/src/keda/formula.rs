//! `scalingModifiers.formula`: one number from the values of all triggers, in the expr language.

use expr::{Context, Program, Value};

/// Longer formulas are refused.
const LONGEST: usize = 4096;
/// Deeper nesting is refused: the parser recurses.
const DEEPEST: usize = 48;
/// More signs (operators, separators, indexes) are refused: each may be one level of the tree that evaluation descends.
const MOST_SIGNS: usize = 256;
/// What may stand before a bracket. Functions that make long texts or lists out of short ones are not among them:
/// evaluation cannot be interrupted, so what a formula costs must follow from its length.
const CALLABLE: &[&str] = &[
    "abs",
    "ceil",
    "floor",
    "round",
    "int",
    "float",
    "max",
    "min",
    "mean",
    "median",
    "sum",
    "count",
    "len",
    "all",
    "any",
    "none",
    "one",
    "find",
    "findIndex",
    "findLast",
    "findLastIndex",
    "filter",
    "map",
    "sort",
    "first",
    "last",
    "bitand",
    "bitor",
    "bitxor",
    "bitnand",
    "bitnot",
    "bitshl",
    "bitshr",
    "bitushr",
    "not",
    "and",
    "or",
    "in",
    "if",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
];

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
        affordable(text)?;
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

/// Refuses what could take a stack, memory or time out of proportion to the formula's length. Works on the bare text,
/// since the parser itself recurses; what looks costly inside a string is refused too.
fn affordable(text: &str) -> Result<(), String> {
    if text.contains("..") {
        return Err("ranges (..) are not accepted in a formula".into());
    }
    if text.contains("//") || text.contains("/*") {
        return Err("comments are not accepted in a formula".into());
    }
    let is_sign = |c: &char| "+-*/%^<>=!?|&.,;[".contains(*c);
    let is_word_operator = |word: &&str| {
        matches!(*word, "and" | "or" | "not" | "in" | "contains" | "startsWith" | "endsWith" | "matches")
    };
    let signs = text.chars().filter(is_sign).count() + words(text).filter(is_word_operator).count();
    if signs > MOST_SIGNS {
        return Err(format!("the formula has more than {MOST_SIGNS} operators and separators"));
    }
    let conditions = text.matches('?').count() + words(text).filter(|word| *word == "if").count();
    if nesting(text).max(conditions) > DEEPEST {
        return Err(format!("the formula is nested deeper than {DEEPEST}"));
    }
    let mut braces = 0usize;
    for byte in text.bytes() {
        match byte {
            b'{' if braces > 0 => return Err("braces inside braces are not accepted in a formula".into()),
            b'{' => braces += 1,
            b'}' => braces = braces.saturating_sub(1),
            _ => {}
        }
    }
    // A variable of a list or a text, used twice in the next variable, doubles with each line.
    if words(text).any(|word| word == "let") && text.contains(['[', '{', '$', '"', '\'', '`']) {
        return Err("variables (let) are accepted in a formula of plain numbers only".into());
    }
    if words(text).filter(|word| *word == "map").count() > 1 {
        return Err("more than one map is not accepted in a formula".into());
    }
    for before in text.split('(').rev().skip(1) {
        let name = words(before.trim_end()).last().unwrap_or_default();
        if !name.is_empty() && !CALLABLE.contains(&name) {
            return Err(format!("function {name:?} is not accepted in a formula"));
        }
    }
    Ok(())
}

/// The names and keywords of a formula.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
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
            ("(a > 1 and not (b < 2)) ? sum(map([a, b], {# * 2})) : 0", 14.0),
            ("let x = a + b; x > 5 ? x : 5", 7.0),
            ("if a > 1 { b } else { a }", 5.0),
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

    #[test]
    fn what_costs_more_than_its_length_is_refused() {
        let doubled = (0..40).map(|n| format!("let v{} = [v{n}, v{n}];", n + 1)).collect::<String>();
        for (text, says) in [
            ("len(1..9999999999)", "ranges (..)"),
            (&*("a*".repeat(2000) + "a"), "more than 256"),
            (&*("a**".repeat(1300) + "a"), "more than 256"),
            (&*("a and ".repeat(600) + "a"), "more than 256"),
            (&*format!("a{}", "[0]".repeat(1300)), "more than 256"),
            (&*("a ? (1) : ".repeat(100) + "1"), "nested deeper"),
            (&*("if a > 1 { 1 } else ".repeat(60) + "{ 1 }"), "nested deeper"),
            ("count([a, b], {count([a, b], {# > 1}) > 1})", "braces inside braces"),
            (&*format!("let v0 = [a, a];{doubled} len(v40)"), "variables (let)"),
            ("len(repeat(\"x\", 9999999999))", "\"repeat\""),
            ("\"x\" | repeat (9999999999) | len()", "\"repeat\""),
            ("reduce([1, 2, 3], {#acc + #acc}, \"x\")", "\"reduce\""),
            ("len /* */ (\"x\")", "comments"),
        ] {
            let error = value(text).expect_err(text);
            assert!(error.contains(says), "{text:.40}: {error}");
        }
    }
}
