//! Regular expressions of rules, read once and not at every value that they are asked about.

use regex::{Regex, RegexBuilder};

/// How large a pattern that only an evaluation knows may become, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// A regular expression with the text that it was read from.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// A pattern that stands in a rule. `None` if it is none.
    pub(super) fn of_rule(text: &str) -> Option<Pattern> {
        Regex::new(text).ok().map(|regex| Pattern { text: text.to_owned(), regex })
    }

    /// A pattern that comes from an object. `None` if it is none or too large.
    pub(super) fn of_object(text: &str) -> Option<Pattern> {
        let regex = RegexBuilder::new(text).size_limit(MAX_BYTES).build().ok()?;
        Some(Pattern { text: text.to_owned(), regex })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}
