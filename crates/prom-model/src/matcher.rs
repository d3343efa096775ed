//! Label matchers, with regular expressions taken apart where a comparison of texts is enough.

use crate::go_regex;
use crate::labels::is_plain_label_name;
use crate::sample::write_quoted;
use regex::Regex;
use std::fmt;
use std::sync::Arc;

/// How a [`Matcher`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

impl MatchOp {
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }

    pub fn is_negative(self) -> bool {
        matches!(self, MatchOp::NotEqual | MatchOp::NotRegex)
    }
}

/// A regular expression that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression {pattern:?}: {reason}")]
pub struct MatcherError {
    pub pattern: String,
    pub reason: String,
}

/// A condition on one label. A label that is not there has the empty value.
#[derive(Clone)]
pub struct Matcher {
    pub op: MatchOp,
    pub name: Arc<str>,
    pub value: Arc<str>,
    /// What a regular expression comes down to; `None` for `=` and `!=`.
    pattern: Option<Arc<Pattern>>,
}

/// A regular expression in the cheapest equivalent form.
enum Pattern {
    /// `.*`
    Anything,
    /// `.+`
    NotEmpty,
    /// `a|b|c`, sorted
    Set(Vec<String>),
    /// `text.*`
    Prefix(String),
    /// `text.+`
    LongerThan(String),
    /// `.*text`
    Suffix(String),
    /// `.*text.*`
    Contains(String),
    /// Everything else; `prefix` is a text every match begins with, possibly empty.
    Compiled { prefix: String, regex: Box<Regex> },
}

impl Pattern {
    fn compile(pattern: &str) -> Result<Pattern, MatcherError> {
        if let Some(simple) = Pattern::simple(pattern) {
            return Ok(simple);
        }
        let regex = go_regex::compile_anchored(pattern)
            .map_err(|reason| MatcherError { pattern: pattern.to_owned(), reason })?;
        Ok(Pattern::Compiled { prefix: go_regex::literal_prefix(pattern), regex: Box::new(regex) })
    }

    /// The forms that need no automaton.
    fn simple(pattern: &str) -> Option<Pattern> {
        match pattern {
            ".*" => return Some(Pattern::Anything),
            ".+" => return Some(Pattern::NotEmpty),
            _ => {}
        }
        let literal = |text: &str| go_regex::unescape_literal(text);
        if let Some(alternatives) = go_regex::literal_alternatives(pattern) {
            let mut set = alternatives;
            set.sort_unstable();
            set.dedup();
            return Some(Pattern::Set(set));
        }
        if let Some(inner) = pattern.strip_prefix(".*") {
            if let Some(middle) = inner.strip_suffix(".*").and_then(literal) {
                return Some(Pattern::Contains(middle));
            }
            return literal(inner).map(Pattern::Suffix);
        }
        if let Some(prefix) = pattern.strip_suffix(".*").and_then(literal) {
            return Some(Pattern::Prefix(prefix));
        }
        pattern.strip_suffix(".+").and_then(literal).map(Pattern::LongerThan)
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Anything => true,
            Pattern::NotEmpty => !text.is_empty(),
            Pattern::Set(set) => set.binary_search_by(|candidate| candidate.as_str().cmp(text)).is_ok(),
            Pattern::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Pattern::LongerThan(prefix) => text.len() > prefix.len() && text.starts_with(prefix.as_str()),
            Pattern::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Pattern::Contains(part) => text.contains(part.as_str()),
            Pattern::Compiled { prefix, regex } => text.starts_with(prefix.as_str()) && regex.is_match(text),
        }
    }
}

// === impl Matcher ===

impl Matcher {
    /// # Errors
    /// When `op` is a regular expression that does not compile.
    pub fn new(op: MatchOp, name: &str, value: &str) -> Result<Matcher, MatcherError> {
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(Arc::new(Pattern::compile(value)?)),
        };
        Ok(Matcher { op, name: Arc::from(name), value: Arc::from(value), pattern })
    }

    /// `name = value`, which cannot fail.
    pub fn equal(name: &str, value: &str) -> Matcher {
        Matcher { op: MatchOp::Equal, name: Arc::from(name), value: Arc::from(value), pattern: None }
    }

    pub fn not_equal(name: &str, value: &str) -> Matcher {
        Matcher { op: MatchOp::NotEqual, ..Matcher::equal(name, value) }
    }

    /// Whether a label with this value (empty when the label is absent) fulfils the condition.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.pattern) {
            (MatchOp::Equal, _) => *self.value == *value,
            (MatchOp::NotEqual, _) => *self.value != *value,
            (MatchOp::Regex, Some(pattern)) => pattern.matches(value),
            (MatchOp::NotRegex, Some(pattern)) => !pattern.matches(value),
            (_, None) => false,
        }
    }

    /// Whether a series without this label fulfils the condition.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// Whether the condition holds for a series' labels.
    pub fn matches_labels(&self, labels: &crate::Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or(""))
    }

    /// For `=` and for `=~` with a plain alternative: the complete list of values that match, so that an
    /// index can look them up instead of scanning. `None` when the list is not known.
    pub fn set_matches(&self) -> Option<Vec<&str>> {
        match (self.op, self.pattern.as_deref()) {
            (MatchOp::Equal, _) => Some(vec![&*self.value]),
            (MatchOp::Regex, Some(Pattern::Set(set))) => Some(set.iter().map(String::as_str).collect()),
            _ => None,
        }
    }

    /// For `=~`: a text every matching value begins with; empty when nothing is known.
    pub fn prefix(&self) -> &str {
        match (self.op, self.pattern.as_deref()) {
            (MatchOp::Equal, _) => &self.value,
            (MatchOp::Regex, Some(Pattern::Prefix(prefix) | Pattern::LongerThan(prefix))) => prefix,
            (MatchOp::Regex, Some(Pattern::Compiled { prefix, .. })) => prefix,
            _ => "",
        }
    }

    /// The condition that holds exactly when this one does not.
    pub fn inverse(&self) -> Matcher {
        let op = match self.op {
            MatchOp::Equal => MatchOp::NotEqual,
            MatchOp::NotEqual => MatchOp::Equal,
            MatchOp::Regex => MatchOp::NotRegex,
            MatchOp::NotRegex => MatchOp::Regex,
        };
        Matcher { op, ..self.clone() }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (self.op, &self.name, &self.value) == (other.op, &other.name, &other.value)
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    /// As PromQL writes it: `name=~"value"`, the name quoted where it is not a plain identifier.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain_label_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            write_quoted(f, &self.name)?;
        }
        f.write_str(self.op.as_str())?;
        write_quoted(f, &self.value)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> Matcher {
        Matcher::new(MatchOp::Regex, "l", pattern).expect("the pattern compiles")
    }

    #[test]
    fn the_fast_forms_agree_with_the_automaton() {
        let patterns = [
            ".*", ".+", "", "a", "a|b", "a|b|", "(a|b)", "(?:a|b)", "a\\.b|c", "ab.*", "ab.+", ".*ab",
            ".*ab.*", "a.c", "a.*c", "[ab]c", "a?", "^ab$", "^(a|b)$", "x(a|b)", "ab|.*c", "a\\|b",
        ];
        let texts = [
            "", "a", "b", "c", "ab", "abc", "cab", "cabd", "a.b", "axb", "ac", "bc", "xa", "a\nc", "ab\n",
            "a|b",
        ];
        for pattern in patterns {
            let matcher = regex(pattern);
            let automaton = Regex::new(&format!("^(?s:{pattern})$")).expect("the pattern compiles");
            for text in texts {
                assert_eq!(matcher.matches(text), automaton.is_match(text), "{pattern:?} on {text:?}");
                assert_eq!(matcher.inverse().matches(text), !automaton.is_match(text));
            }
        }
    }

    #[test]
    fn an_index_can_use_what_is_known() {
        assert_eq!(regex("b|a").set_matches(), Some(vec!["a", "b"]));
        assert_eq!(regex("web-.*").prefix(), "web-");
        assert_eq!(regex("web-(1|2)x+").prefix(), "web-");
        assert_eq!(regex("web?").prefix(), "we");
        assert_eq!(regex("a|ab.").prefix(), "");
        assert_eq!(regex("(?i)abc").prefix(), "");
        assert_eq!(Matcher::equal("l", "x").set_matches(), Some(vec!["x"]));
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = Matcher::new(MatchOp::Regex, "l", "(").expect_err("an open group");
        assert!(error.to_string().contains("\"(\""), "{error}");
    }

    #[test]
    fn perl_classes_are_ascii_as_in_go() {
        assert!(!regex("\\d").matches("٣"));
        assert!(regex("[\\d]").matches("3"));
        assert!(regex("[[]").matches("["));
        assert!(regex("a{,2}").matches("a{,2}"));
    }
}
