//! Expectations about warnings, infos and failures.

use regex::Regex;

/// What a text has to be.
#[derive(Debug, Clone)]
pub(super) enum TextPattern {
    Any,
    Exactly(String),
    Matches(Regex),
}

impl TextPattern {
    /// `msg: text`, `regex: pattern`, or nothing.
    pub(super) fn parse(text: &str) -> Result<TextPattern, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(TextPattern::Any);
        }
        if let Some(message) = text.strip_prefix("msg:") {
            return Ok(TextPattern::Exactly(message.trim().to_owned()));
        }
        if let Some(pattern) = text.strip_prefix("regex:") {
            return TextPattern::matches(pattern.trim());
        }
        Err(format!("expected 'msg:' or 'regex:', found {text:?}"))
    }

    pub(super) fn matches(pattern: &str) -> Result<TextPattern, String> {
        Regex::new(pattern).map(TextPattern::Matches).map_err(|error| error.to_string())
    }

    pub(super) fn holds_for(&self, text: &str) -> bool {
        match self {
            TextPattern::Any => true,
            TextPattern::Exactly(expected) => text == expected,
            TextPattern::Matches(regex) => regex.is_match(text),
        }
    }
}

/// Expectations about one kind of annotation.
#[derive(Debug, Clone, Default)]
pub(super) struct AnnotationExpectation {
    pub(super) patterns: Vec<TextPattern>,
    /// `no_warn`, `no_info`
    pub(super) none: bool,
}

impl AnnotationExpectation {
    /// # Errors
    /// What was missing, or was there and should not have been.
    pub(super) fn check(&self, kind: &str, found: &[String]) -> Result<(), String> {
        if self.none && !found.is_empty() {
            return Err(format!("expected no {kind} annotations, found {found:?}"));
        }
        if self.patterns.is_empty() {
            return Ok(());
        }
        for pattern in &self.patterns {
            if !found.iter().any(|text| pattern.holds_for(text)) {
                return Err(format!("expected {kind} annotation {pattern:?}, found {found:?}"));
            }
        }
        match found.iter().find(|text| !self.patterns.iter().any(|pattern| pattern.holds_for(text))) {
            Some(unexpected) => Err(format!("unexpected {kind} annotation {unexpected:?}")),
            None => Ok(()),
        }
    }
}
