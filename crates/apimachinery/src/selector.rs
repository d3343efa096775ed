//! Label and field selectors: their text forms, the object form (`matchLabels`, `matchExpressions`), matching.
//!
//! A requirement on an absent key follows the API server: `!=` and `notin` match it, everything else but `!key` does not.

use std::fmt;

use smol_str::SmolStr;

use crate::value::Value;

/// A conjunction of requirements. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    pub requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Requirement {
    pub key: SmolStr,
    pub op: Op,
    /// One value for `Equals`, `NotEquals`, `Greater` and `Less`; any number for `In` and `NotIn`; none otherwise.
    pub values: Vec<SmolStr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Equals,
    NotEquals,
    In,
    NotIn,
    Exists,
    Absent,
    Greater,
    Less,
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("unable to parse requirement: {0}")]
    Parse(String),
    #[error("{0}")]
    Invalid(String),
}

// === parsing ===

/// Reads a label selector such as `app=web,tier in (a,b),!old`.
pub fn parse_label_selector(text: &str) -> Result<Selector, Error> {
    let tokens = tokenize(text);
    let mut at = 0;
    let mut requirements = Vec::new();
    let peek = |at: usize| tokens.get(at).unwrap_or(&Token::End);
    if *peek(0) == Token::End {
        return Ok(Selector::default());
    }
    loop {
        let absent = *peek(at) == Token::Bang;
        at += usize::from(absent);
        let Token::Word(key) = peek(at) else {
            return Err(Error::Parse(format!("found '{}', expected: identifier", peek(at))));
        };
        at += 1;
        validate_key(key)?;
        let (op, values) = if absent { (Op::Absent, Vec::new()) } else { parse_operation(&tokens, &mut at)? };
        for value in &values {
            if matches!(op, Op::Greater | Op::Less) {
                if value.parse::<i64>().is_err() {
                    return Err(Error::Parse(format!(
                        "values[0]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"
                    )));
                }
            } else {
                validate_value(key, value)?;
            }
        }
        requirements.push(Requirement { key: key.clone(), op, values });
        match peek(at) {
            Token::End => break,
            Token::Comma => {
                at += 1;
                if !matches!(peek(at), Token::Word(_) | Token::Bang) {
                    return Err(Error::Parse(format!(
                        "found '{}', expected: identifier after ','",
                        peek(at)
                    )));
                }
            }
            other => return Err(Error::Parse(format!("found '{other}', expected: ',' or 'end of string'"))),
        }
    }
    Ok(Selector { requirements })
}

fn parse_operation(tokens: &[Token], at: &mut usize) -> Result<(Op, Vec<SmolStr>), Error> {
    let peek = |at: usize| tokens.get(at).unwrap_or(&Token::End);
    let op = match peek(*at) {
        Token::End | Token::Comma => return Ok((Op::Exists, Vec::new())),
        Token::Equals => Op::Equals,
        Token::NotEquals => Op::NotEquals,
        Token::Greater => Op::Greater,
        Token::Less => Op::Less,
        Token::Word(word) if word == "in" => Op::In,
        Token::Word(word) if word == "notin" => Op::NotIn,
        other => {
            return Err(Error::Parse(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")));
        }
    };
    *at += 1;
    if !matches!(op, Op::In | Op::NotIn) {
        // A value may be empty: `app=` and `app=,b=c` ask for the empty string.
        return match peek(*at) {
            Token::Word(word) => {
                *at += 1;
                Ok((op, vec![word.clone()]))
            }
            Token::End | Token::Comma => Ok((op, vec![SmolStr::default()])),
            other => Err(Error::Parse(format!("found '{other}', expected: identifier"))),
        };
    }
    if *peek(*at) != Token::Open {
        return Err(Error::Parse(format!("found '{}' expected: '('", peek(*at))));
    }
    *at += 1;
    let mut values = Vec::new();
    let mut expect_value = true;
    loop {
        match peek(*at) {
            Token::Word(word) if expect_value => {
                values.push(word.clone());
                expect_value = false;
            }
            Token::Comma => {
                if expect_value {
                    values.push(SmolStr::default());
                }
                expect_value = true;
            }
            Token::Close => {
                if expect_value {
                    values.push(SmolStr::default());
                }
                *at += 1;
                return Ok((op, values));
            }
            other => return Err(Error::Parse(format!("found '{other}', expected: ',', ')' or identifier"))),
        }
        *at += 1;
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(SmolStr),
    Comma,
    Open,
    Close,
    Bang,
    Equals,
    NotEquals,
    Greater,
    Less,
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Token::Word(word) => word,
            Token::Comma => ",",
            Token::Open => "(",
            Token::Close => ")",
            Token::Bang => "!",
            Token::Equals => "=",
            Token::NotEquals => "!=",
            Token::Greater => ">",
            Token::Less => "<",
            Token::End => "",
        })
    }
}

fn tokenize(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (token, used) = match c {
            ' ' | '\t' | '\r' | '\n' => {
                rest = &rest[1..];
                continue;
            }
            ',' => (Token::Comma, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '>' => (Token::Greater, 1),
            '<' => (Token::Less, 1),
            '=' if rest.starts_with("==") => (Token::Equals, 2),
            '=' => (Token::Equals, 1),
            '!' if rest.starts_with("!=") => (Token::NotEquals, 2),
            '!' => (Token::Bang, 1),
            _ => {
                let end = rest
                    .find([' ', '\t', '\r', '\n', ',', '(', ')', '>', '<', '=', '!'])
                    .unwrap_or(rest.len());
                (Token::Word(rest[..end].into()), end)
            }
        };
        tokens.push(token);
        rest = &rest[used..];
    }
    tokens
}

fn validate_key(key: &str) -> Result<(), Error> {
    match crate::names::qualified_name_error(key) {
        Some(why) => Err(Error::Parse(format!("key: Invalid value: \"{key}\": {why}"))),
        None => Ok(()),
    }
}

fn validate_value(key: &str, value: &str) -> Result<(), Error> {
    match crate::names::label_value_error(value) {
        Some(why) => Err(Error::Parse(format!("values[0][{key}]: Invalid value: \"{value}\": {why}"))),
        None => Ok(()),
    }
}

/// Reads a field selector such as `metadata.name=web,status.phase!=Running`.
pub fn parse_field_selector(text: &str) -> Result<Selector, Error> {
    let mut requirements = Vec::new();
    for part in split_unescaped(text) {
        if part.is_empty() {
            continue;
        }
        let invalid = || Error::Invalid(format!("invalid selector: '{text}'; can't understand '{part}'"));
        let (index, op, width) = part
            .char_indices()
            .find_map(|(index, _)| {
                let rest = &part[index..];
                if rest.starts_with("!=") {
                    Some((index, Op::NotEquals, 2))
                } else if rest.starts_with("==") {
                    Some((index, Op::Equals, 2))
                } else if rest.starts_with('=') {
                    Some((index, Op::Equals, 1))
                } else {
                    None
                }
            })
            .ok_or_else(invalid)?;
        let value = unescape(&part[index + width..]).ok_or_else(invalid)?;
        requirements.push(Requirement { key: part[..index].into(), op, values: vec![value] });
    }
    Ok(Selector { requirements })
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> Option<SmolStr> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|next| matches!(next, '\\' | ',' | '='))?),
            '=' | ',' => return None,
            _ => out.push(c),
        }
    }
    Some(out.into())
}

// === impl Selector ===

impl Selector {
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// `lookup` gives the value of a label, or `None` when it is absent.
    pub fn matches<'v>(&self, mut lookup: impl FnMut(&str) -> Option<&'v str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(lookup(&requirement.key)))
    }

    /// Matches the labels of an object tree's map.
    pub fn matches_labels(&self, labels: Option<&Value>) -> bool {
        self.matches(|key| labels?.get(key)?.as_str())
    }

    /// From a `LabelSelector` object. An absent or null selector matches nothing and gives `None`.
    pub fn from_object(selector: Option<&Value>) -> Result<Option<Selector>, Error> {
        let Some(selector) = selector.filter(|selector| !selector.is_null()) else { return Ok(None) };
        let mut requirements = Vec::new();
        if let Some(labels) = selector.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in labels.iter() {
                let value = value
                    .as_str()
                    .ok_or_else(|| Error::Invalid(format!("matchLabels[{key}] is not a string")))?;
                requirements.push(Requirement {
                    key: key.clone(),
                    op: Op::Equals,
                    values: vec![value.into()],
                });
            }
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let key = expression.str_at(&["key"]).unwrap_or_default();
            let values: Vec<SmolStr> = expression
                .get("values")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|value| value.as_str().map(SmolStr::new))
                .collect();
            let op = match expression.str_at(&["operator"]) {
                Some("In") => Op::In,
                Some("NotIn") => Op::NotIn,
                Some("Exists") => Op::Exists,
                Some("DoesNotExist") => Op::Absent,
                other => {
                    let other = other.unwrap_or_default();
                    return Err(Error::Invalid(format!(
                        "\"{other}\" is not a valid label selector operator"
                    )));
                }
            };
            requirements.push(Requirement { key: key.into(), op, values });
        }
        Ok(Some(Selector { requirements }))
    }
}

impl Requirement {
    pub fn matches(&self, value: Option<&str>) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        match self.op {
            Op::Equals => {
                value.is_some_and(|value| self.values.first().is_some_and(|wanted| wanted == value))
            }
            Op::In => value.is_some_and(|value| self.values.iter().any(|wanted| wanted == value)),
            Op::NotEquals | Op::NotIn => {
                value.is_none_or(|value| self.values.iter().all(|unwanted| unwanted != value))
            }
            Op::Exists => value.is_some(),
            Op::Absent => value.is_none(),
            Op::Greater | Op::Less => {
                let found = value.and_then(number);
                let bound = self.values.first().and_then(|bound| number(bound));
                match (found, bound) {
                    (Some(found), Some(bound)) if self.op == Op::Greater => found > bound,
                    (Some(found), Some(bound)) => found < bound,
                    _ => false,
                }
            }
        }
    }
}

impl fmt::Display for Selector {
    /// The canonical text, as `status.selector` of a scale shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let key = &requirement.key;
            let joined = || {
                let mut sorted: Vec<&str> = requirement.values.iter().map(SmolStr::as_str).collect();
                sorted.sort_unstable();
                sorted.join(",")
            };
            match requirement.op {
                Op::Equals => write!(f, "{comma}{key}={}", joined())?,
                Op::NotEquals => write!(f, "{comma}{key}!={}", joined())?,
                Op::In => write!(f, "{comma}{key} in ({})", joined())?,
                Op::NotIn => write!(f, "{comma}{key} notin ({})", joined())?,
                Op::Exists => write!(f, "{comma}{key}")?,
                Op::Absent => write!(f, "{comma}!{key}")?,
                Op::Greater => write!(f, "{comma}{key}>{}", joined())?,
                Op::Less => write!(f, "{comma}{key}<{}", joined())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let selector = parse_label_selector(selector).unwrap();
        selector.matches(|key| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v))
    }

    #[test]
    fn every_operator() {
        let labels = [("app", "web"), ("tier", "front"), ("n", "5"), ("e", "")];
        for yes in [
            "",
            "app=web",
            "app==web",
            "app!=x",
            "gone!=x",
            "app in (web,api)",
            "app notin (x)",
            "gone notin (x)",
            "app",
            "!gone",
            "n>4",
            "n<6",
            "e=",
            "app=web,tier!=back",
        ] {
            assert!(matches(yes, &labels), "{yes}");
        }
        for no in [
            "app=x",
            "app!=web",
            "app in (x)",
            "app notin (web)",
            "gone",
            "!app",
            "n>5",
            "gone>1",
            "app in (web),tier=back",
        ] {
            assert!(!matches(no, &labels), "{no}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            parse_label_selector("!!").unwrap_err().to_string(),
            "unable to parse requirement: found '!', expected: identifier"
        );
        for bad in ["a=b,", "a in", "a in (b", "=b", "a b", "a=b=c", "a>x", "a=b!"] {
            assert!(parse_label_selector(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn field_selectors() {
        let selector = parse_field_selector(r"metadata.name=a\,b,status.phase!=Running").unwrap();
        assert_eq!(selector.requirements[0].values, ["a,b"]);
        assert_eq!(selector.requirements[1].op, Op::NotEquals);
        assert!(parse_field_selector("nonsense").is_err());
    }

    #[test]
    fn the_object_form_prints_as_text() {
        let object: Value = serde_json::from_str(
            r#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"t","operator":"In","values":["y","x"]},{"key":"g","operator":"DoesNotExist"}]}"#,
        )
        .unwrap();
        let selector = Selector::from_object(Some(&object)).unwrap().unwrap();
        assert_eq!(selector.to_string(), "a=b,t in (x,y),!g");
        assert_eq!(Selector::from_object(None), Ok(None));
    }
}
