//! The statements of a test script.

use super::annotations::{AnnotationExpectation, TextPattern};
use super::items::{Item, parse_items, parse_start_items, split_series};
use crate::parser::lexer::{parse_number, unquote};
use gantry_clock::parse_prometheus_duration;
use gantry_prom_model::Labels;

/// A series of a `load`.
#[derive(Debug, Clone)]
pub(super) struct LoadedSeries {
    pub(super) labels: Labels,
    pub(super) items: Vec<Item>,
    /// Offset of the start time from the sample's time, per item.
    pub(super) starts: Vec<Option<i64>>,
}

#[derive(Debug, Clone)]
pub(super) enum Statement {
    Clear,
    Load {
        step_ms: i64,
        with_nhcb: bool,
        series: Vec<LoadedSeries>,
    },
    Eval(Box<Eval>),
    /// An evaluation whose text cannot be read; it counts as failed, the others still run.
    Unreadable {
        line: usize,
        text: String,
        message: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EvalTimes {
    Instant(i64),
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}

/// An evaluation and what is expected of it.
#[derive(Debug, Clone)]
pub(super) struct Eval {
    pub(super) line: usize,
    pub(super) query: String,
    pub(super) times: EvalTimes,
    pub(super) is_ordered: bool,
    pub(super) fail: Option<TextPattern>,
    pub(super) warn: AnnotationExpectation,
    pub(super) info: AnnotationExpectation,
    pub(super) scalar: Option<f64>,
    pub(super) text: Option<String>,
    /// `expect range vector`: start and step of the items.
    pub(super) range_vector: Option<(i64, i64)>,
    pub(super) series: Vec<(Labels, Vec<Item>)>,
}

/// A duration as scripts write it, in milliseconds.
fn duration(text: &str) -> Result<i64, String> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (-1, unsigned),
        None => (1, text),
    };
    parse_prometheus_duration(unsigned).map(|ms| sign * ms).map_err(|error| error.to_string())
}

/// Lines that belong together, with their numbers from 1.
struct Lines<'t> {
    lines: Vec<&'t str>,
    next: usize,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let clean = |line: &'t str| {
            let line = line.trim();
            if line.starts_with('#') { "" } else { line }
        };
        Lines { lines: text.lines().map(clean).collect(), next: 0 }
    }

    /// The next line of the block; `None` at its end.
    fn in_block(&mut self) -> Option<&'t str> {
        let line = self.lines.get(self.next).copied().filter(|line| !line.is_empty())?;
        self.next += 1;
        Some(line)
    }
}

/// # Errors
/// The first line that is not of the language, with its number.
pub(super) fn parse_script(text: &str) -> Result<Vec<Statement>, String> {
    let mut lines = Lines::new(text);
    let mut statements = Vec::new();
    while lines.next < lines.lines.len() {
        let number = lines.next + 1;
        let Some(line) = lines.in_block() else {
            lines.next += 1;
            continue;
        };
        match parse_statement(line, number, &mut lines) {
            Ok(statement) => statements.push(statement),
            Err(message) if line.to_ascii_lowercase().starts_with("eval") => {
                let message = format!("line {}: {message}", lines.next);
                while lines.in_block().is_some() {}
                statements.push(Statement::Unreadable { line: number, text: line.to_owned(), message });
            }
            Err(message) => return Err(format!("line {}: {message}", lines.next)),
        }
    }
    Ok(statements)
}

fn parse_statement(line: &str, number: usize, lines: &mut Lines<'_>) -> Result<Statement, String> {
    let word = line.split_whitespace().next().unwrap_or("").to_ascii_lowercase();
    if word == "clear" {
        return Ok(Statement::Clear);
    }
    if word.starts_with("load") {
        return parse_load(line, &word, lines);
    }
    if word.starts_with("eval") {
        return parse_eval(line, &word, number, lines).map(|eval| Statement::Eval(Box::new(eval)));
    }
    Err(format!("unknown command {word:?}"))
}

fn parse_load(line: &str, word: &str, lines: &mut Lines<'_>) -> Result<Statement, String> {
    let step = line.split_whitespace().nth(1).ok_or("load needs a step")?;
    let mut series = Vec::new();
    let mut starts: Option<Vec<Option<i64>>> = None;
    while let Some(line) = lines.in_block() {
        if let Some((metric, offsets)) = split_start_line(line) {
            split_series(metric)?;
            starts = Some(parse_start_items(offsets)?);
            continue;
        }
        let (labels, rest) = split_series(line)?;
        series.push(LoadedSeries {
            labels,
            items: parse_items(rest)?,
            starts: starts.take().unwrap_or_default(),
        });
    }
    Ok(Statement::Load { step_ms: duration(step)?, with_nhcb: word == "load_with_nhcb", series })
}

/// `metric{…}@st items`
fn split_start_line(line: &str) -> Option<(&str, &str)> {
    let at = line.find("@st ").or_else(|| line.find("@st\t"))?;
    Some((&line[..at], &line[at + 4..]))
}

fn take_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}

fn parse_eval(line: &str, word: &str, number: usize, lines: &mut Lines<'_>) -> Result<Eval, String> {
    let (_, rest) = take_word(line);
    let (kind, rest) = take_word(rest);
    let expect_word = |text: &mut &str, wanted: &str| {
        let (found, rest) = take_word(text);
        *text = rest;
        if found == wanted { Ok(()) } else { Err(format!("expected {wanted:?}, found {found:?}")) }
    };
    let mut rest = rest;
    let take_duration = |rest: &mut &str, after: &str| -> Result<i64, String> {
        expect_word(rest, after)?;
        let (text, next) = take_word(rest);
        *rest = next;
        duration(text)
    };
    let times = match kind {
        "instant" => EvalTimes::Instant(take_duration(&mut rest, "at")?),
        "range" => EvalTimes::Range {
            start_ms: take_duration(&mut rest, "from")?,
            end_ms: take_duration(&mut rest, "to")?,
            step_ms: take_duration(&mut rest, "step")?,
        },
        other => return Err(format!("expected 'instant' or 'range', found {other:?}")),
    };
    let mut eval = Eval {
        line: number,
        query: rest.to_owned(),
        times,
        is_ordered: word == "eval_ordered",
        fail: (word == "eval_fail").then_some(TextPattern::Any),
        warn: AnnotationExpectation::default(),
        info: AnnotationExpectation::default(),
        scalar: None,
        text: None,
        range_vector: None,
        series: Vec::new(),
    };
    match word {
        "eval_warn" => eval.warn.patterns.push(TextPattern::Any),
        "eval_info" => eval.info.patterns.push(TextPattern::Any),
        _ => {}
    }
    while let Some(line) = lines.in_block() {
        parse_expectation(line, &mut eval)?;
    }
    Ok(eval)
}

fn parse_expectation(line: &str, eval: &mut Eval) -> Result<(), String> {
    let (first, rest) = take_word(line);
    match first {
        "expect" => return parse_expect(rest, eval),
        "expected_fail_message" => {
            eval.fail = Some(TextPattern::Exactly(rest.to_owned()));
            return Ok(());
        }
        "expected_fail_regexp" => {
            eval.fail = Some(TextPattern::matches(rest)?);
            return Ok(());
        }
        _ => {}
    }
    if rest.is_empty() {
        let (sign, unsigned) = first.strip_prefix('-').map_or((1.0, first), |rest| (-1.0, rest));
        let unsigned = unsigned.strip_prefix('+').unwrap_or(unsigned);
        if let Some(value) = parse_number(unsigned) {
            eval.scalar = Some(sign * value);
            return Ok(());
        }
    }
    let (labels, items) = split_series(line)?;
    eval.series.push((labels, parse_items(items)?));
    Ok(())
}

fn parse_expect(text: &str, eval: &mut Eval) -> Result<(), String> {
    let (kind, rest) = take_word(text);
    // `msg:` may follow the kind without a blank.
    let (kind, rest) = match kind.split_once("msg:") {
        Some((kind, _)) => (kind, text.split_once(kind).map_or(rest, |(_, rest)| rest.trim_start())),
        None => (kind, rest),
    };
    match kind {
        "ordered" => eval.is_ordered = true,
        "fail" => eval.fail = Some(TextPattern::parse(rest)?),
        "warn" => eval.warn.patterns.push(TextPattern::parse(rest)?),
        "info" => eval.info.patterns.push(TextPattern::parse(rest)?),
        "no_warn" => eval.warn.none = true,
        "no_info" => eval.info.none = true,
        "string" => {
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
            eval.text = Some(match quote {
                Some(quote) => unquote(rest, quote)?.0,
                None => rest.to_owned(),
            });
        }
        "range" => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let ["vector", "from", start, "to", _, "step", step] = words[..] else {
                return Err(format!("expected 'range vector from A to B step S', found {rest:?}"));
            };
            eval.range_vector = Some((duration(start)?, duration(step)?));
        }
        other => return Err(format!("unknown expectation {other:?}")),
    }
    Ok(())
}
