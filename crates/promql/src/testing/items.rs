//! Series descriptions: `metric{label="value"} 1+1x10 _ stale {{schema:0 count:1}}`.

use crate::parser::lexer::{Token, parse_number, scan_duration, tokenize};
use gantry_prom_model::{
    CUSTOM_BUCKETS_SCHEMA, CounterResetHint, FloatHistogram, Labels, LabelsBuilder, METRIC_NAME, Span,
    stale_nan,
};
use std::sync::Arc;

/// A repetition longer than this is a mistake in a script.
const MAX_REPEAT: usize = 1_000_000;

/// One sample of a description.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Gap,
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// A series' labels and what follows them.
pub(super) fn split_series(line: &str) -> Result<(Labels, &str), String> {
    let mut depth = 0;
    let mut quote = None;
    let mut end = line.len();
    let mut is_escaped = false;
    for (index, c) in line.char_indices() {
        match (quote, c) {
            _ if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') => depth -= 1,
            (None, c) if c.is_whitespace() && depth == 0 => {
                end = index;
                break;
            }
            _ => {}
        }
    }
    let (metric, rest) = line.split_at(end);
    Ok((parse_metric(metric)?, rest.trim()))
}

pub(super) fn parse_metric(text: &str) -> Result<Labels, String> {
    let lexemes = tokenize(text).map_err(|error| error.to_string())?;
    let mut tokens = lexemes.into_iter().map(|lexeme| lexeme.token).peekable();
    let mut builder = LabelsBuilder::new();
    if let Some(Token::Word(name)) = tokens.peek() {
        builder.set(METRIC_NAME, name);
        tokens.next();
    }
    if tokens.peek() == Some(&Token::Symbol("{")) {
        tokens.next();
        loop {
            match tokens.next() {
                Some(Token::Symbol("}")) => break,
                Some(Token::Word(name) | Token::Text(name)) => {
                    if tokens.peek() == Some(&Token::Symbol("=")) {
                        tokens.next();
                        let Some(Token::Text(value)) = tokens.next() else {
                            return Err(format!("label {name} of {text:?} lacks a value"));
                        };
                        builder.set(&name, &value);
                    } else {
                        builder.set(METRIC_NAME, &name);
                    }
                    if tokens.peek() == Some(&Token::Symbol(",")) {
                        tokens.next();
                    }
                }
                other => return Err(format!("unexpected {other:?} in series {text:?}")),
            }
        }
    }
    match tokens.next() {
        Some(Token::End) | None => Ok(builder.build()),
        other => Err(format!("unexpected {other:?} after series {text:?}")),
    }
}

/// Splits items at blanks that are not inside a histogram.
fn split_items(text: &str) -> Result<Vec<&str>, String> {
    let mut items = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut end = 0;
        loop {
            let tail = &rest[end..];
            if let Some(histogram) = tail.strip_prefix("{{") {
                let close = histogram.find("}}").ok_or_else(|| format!("histogram without end: {rest}"))?;
                end += close + 4;
                continue;
            }
            match tail.chars().next() {
                None => break,
                Some(c) if c.is_whitespace() => break,
                Some(c) => end += c.len_utf8(),
            }
        }
        items.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    Ok(items)
}

/// A number or duration at the start of `text`, and what follows. Hexadecimal is not read: `0x3` repeats.
fn take_number(text: &str) -> Option<(f64, &str)> {
    let (sign, unsigned) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    for word in ["inf", "nan"] {
        if unsigned.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(word)) {
            let value = if word == "inf" { f64::INFINITY } else { f64::NAN };
            return Some((sign * value, &unsigned[3..]));
        }
    }
    // A duration ends where its repetition begins.
    let until_repeat = unsigned.find(['x', '+', '-']).unwrap_or(unsigned.len());
    if let Some((length, Some(seconds))) = scan_duration(&unsigned[..until_repeat]) {
        return Some((sign * seconds, &unsigned[length..]));
    }
    let bytes = unsigned.as_bytes();
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        let is_exponent_sign =
            matches!(byte, b'+' | b'-') && end > 0 && matches!(bytes[end - 1], b'e' | b'E');
        if !(byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E') || is_exponent_sign) {
            break;
        }
        end += 1;
    }
    let value = parse_number(&unsigned[..end])?;
    Some((sign * value, &unsigned[end..]))
}

fn take_repeat(text: &str) -> Result<usize, String> {
    let count: usize = text.parse().map_err(|_| format!("invalid repetition {text:?}"))?;
    if count > MAX_REPEAT { Err(format!("repetition {count} is over {MAX_REPEAT}")) } else { Ok(count) }
}

pub(super) fn parse_items(text: &str) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    for word in split_items(text)? {
        parse_item(word, &mut items).map_err(|message| format!("{message} in {word:?}"))?;
    }
    Ok(items)
}

fn parse_item(word: &str, items: &mut Vec<Item>) -> Result<(), String> {
    if word.starts_with("{{") {
        return parse_histogram_item(word, items);
    }
    let (word_value, repeat) = match word.split_once('x') {
        Some((value @ ("_" | "stale"), count)) => (value, take_repeat(count)?.max(1)),
        _ => (word, 1),
    };
    match word_value {
        "_" => {
            items.extend(std::iter::repeat_n(Item::Gap, repeat));
            return Ok(());
        }
        "stale" => {
            items.extend(std::iter::repeat_n(Item::Float(stale_nan()), repeat));
            return Ok(());
        }
        _ => {}
    }
    let (first, rest) = take_number(word).ok_or("not a number")?;
    if rest.is_empty() {
        items.push(Item::Float(first));
        return Ok(());
    }
    let (increment, count) = match rest.strip_prefix('x') {
        Some(count) => (0.0, count),
        None => {
            let (increment, rest) = take_number(rest).ok_or("not an increment")?;
            (increment, rest.strip_prefix('x').ok_or("an increment needs a repetition")?)
        }
    };
    let mut value = first;
    for _ in 0..=take_repeat(count)? {
        items.push(Item::Float(value));
        if increment != 0.0 {
            value += increment;
        }
    }
    Ok(())
}

pub(super) fn take_histogram(text: &str) -> Result<(FloatHistogram, &str), String> {
    let inner = text.strip_prefix("{{").ok_or("expected a histogram")?;
    let (body, rest) = inner.split_once("}}").ok_or("a histogram does not end")?;
    Ok((parse_histogram(body)?, rest))
}

fn parse_histogram_item(word: &str, items: &mut Vec<Item>) -> Result<(), String> {
    let (first, rest) = take_histogram(word)?;
    if rest.is_empty() {
        items.push(Item::Histogram(Arc::new(first)));
        return Ok(());
    }
    if let Some(count) = rest.strip_prefix('x') {
        let first = Arc::new(first);
        items.extend(std::iter::repeat_n(Item::Histogram(first), take_repeat(count)? + 1));
        return Ok(());
    }
    let is_sum = rest.starts_with('+');
    let (increment, rest) = take_histogram(rest.get(1..).unwrap_or(""))?;
    let count = take_repeat(rest.strip_prefix('x').ok_or("an increment needs a repetition")?)?;
    if first.schema > increment.schema {
        return Err(format!(
            "cannot combine histogram with schema {} with increment of schema {}",
            first.schema, increment.schema
        ));
    }
    let mut value = first;
    for _ in 0..=count {
        items.push(Item::Histogram(Arc::new(value.clone())));
        let combined = if is_sum { value.add(&increment) } else { value.subtract(&increment) };
        combined.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// `schema:1 sum:2 buckets:[1 2]`
fn parse_histogram(body: &str) -> Result<FloatHistogram, String> {
    let mut histogram = FloatHistogram::default();
    let (mut offset, mut negative_offset) = (0, 0);
    let mut rest = body.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').ok_or_else(|| format!("a key without value: {rest:?}"))?;
        let after = after.trim_start();
        let (value, next) = if after.starts_with('[') {
            let close = after.find(']').ok_or("a list does not end")?;
            after.split_at(close + 1)
        } else {
            after.split_at(after.find(char::is_whitespace).unwrap_or(after.len()))
        };
        rest = next.trim_start();
        let number = || {
            take_number(value)
                .filter(|(_, rest)| rest.is_empty())
                .map(|(number, _)| number)
                .ok_or_else(|| format!("{key} is not a number: {value:?}"))
        };
        let whole = || value.parse::<i32>().map_err(|_| format!("{key} is not a whole number: {value:?}"));
        match key.trim() {
            "schema" => histogram.schema = whole()?,
            "sum" => histogram.sum = number()?,
            "count" => histogram.count = number()?,
            "z_bucket" => histogram.zero_count = number()?,
            "z_bucket_w" => histogram.zero_threshold = number()?,
            "offset" => offset = whole()?,
            "n_offset" => negative_offset = whole()?,
            "buckets" => histogram.positive_buckets = parse_list(value)?,
            "n_buckets" => histogram.negative_buckets = parse_list(value)?,
            "custom_values" => histogram.custom_values = Arc::from(parse_list(value)?),
            "counter_reset_hint" => {
                histogram.counter_reset_hint = match value {
                    "unknown" => CounterResetHint::Unknown,
                    "reset" => CounterResetHint::Reset,
                    "not_reset" => CounterResetHint::NotReset,
                    "gauge" => CounterResetHint::Gauge,
                    other => return Err(format!("unknown counter reset hint {other:?}")),
                };
            }
            other => return Err(format!("unknown histogram key {other:?}")),
        }
    }
    let is_known = histogram.schema == CUSTOM_BUCKETS_SCHEMA
        || gantry_prom_model::is_exponential_schema(histogram.schema);
    if !is_known {
        return Err(format!("unknown schema {}", histogram.schema));
    }
    let span = |offset: i32, counts: &[f64]| {
        let length = u32::try_from(counts.len()).unwrap_or(u32::MAX);
        if counts.is_empty() { Vec::new() } else { vec![Span { offset, length }] }
    };
    histogram.positive_spans = span(offset, &histogram.positive_buckets);
    histogram.negative_spans = span(negative_offset, &histogram.negative_buckets);
    Ok(histogram)
}

fn parse_list(text: &str) -> Result<Vec<f64>, String> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or("expected a list")?;
    let number = |word: &str| {
        take_number(word)
            .filter(|(_, rest)| rest.is_empty())
            .map(|(value, _)| value)
            .ok_or_else(|| format!("not a number: {word:?}"))
    };
    inner.split_whitespace().map(number).collect()
}

/// Offsets of start times, in milliseconds; `None` is unknown.
pub(super) fn parse_start_items(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut offsets = Vec::new();
    for word in text.split_whitespace() {
        if word == "_" {
            offsets.push(None);
            continue;
        }
        if let Some(count) = word.strip_prefix("_x") {
            offsets.extend(std::iter::repeat_n(None, take_repeat(count)?));
            continue;
        }
        let (first, rest) = take_number(word).ok_or_else(|| format!("not a duration: {word:?}"))?;
        let (increment, count) = match rest.strip_prefix('x') {
            None if rest.is_empty() => (0.0, "0"),
            Some(count) => (0.0, count),
            None => {
                let (increment, rest) =
                    take_number(rest).ok_or_else(|| format!("not a duration: {rest:?}"))?;
                (increment, rest.strip_prefix('x').ok_or("an increment needs a repetition")?)
            }
        };
        for index in 0..=take_repeat(count)? {
            offsets.push(Some(((first + increment * index as f64) * 1000.0).round() as i64));
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(text: &str) -> Vec<String> {
        let items = parse_items(text).expect("valid items");
        items
            .iter()
            .map(|item| match item {
                Item::Gap => "_".to_owned(),
                Item::Float(value) if gantry_prom_model::is_stale_nan(*value) => "stale".to_owned(),
                Item::Float(value) => value.to_string(),
                Item::Histogram(histogram) => histogram.to_string(),
            })
            .collect()
    }

    #[test]
    fn floats_gaps_and_repetitions() {
        assert_eq!(
            floats("1 _ -2.5x1 0+10x2 5-1x1 _x2 stale Inf"),
            ["1", "_", "-2.5", "-2.5", "0", "10", "20", "5", "4", "_", "_", "stale", "inf"]
        );
        assert_eq!(floats("1e3+0.5x1 5m 0x2"), ["1000", "1000.5", "300", "0", "0", "0"]);
        assert!(parse_items("abc").is_err());
        assert!(parse_items("1+1").is_err());
    }

    #[test]
    fn histograms_with_increments() {
        let items = floats(
            "{{schema:0 count:1 sum:2 buckets:[1] offset:1}}+{{count:1 sum:2 buckets:[1] offset:1}}x1",
        );
        assert_eq!(items, ["{count:1, sum:2, (1,2]:1}", "{count:2, sum:4, (1,2]:2}"]);
    }

    #[test]
    fn metrics_in_all_spellings() {
        let (labels, rest) = split_series(r#"a{b="c d", e="f"} 1 2"#).expect("valid series");
        assert_eq!((labels.to_string().as_str(), rest), (r#"{__name__="a", b="c d", e="f"}"#, "1 2"));
        assert_eq!(parse_metric(r#"{"x.y", "l.m"="1"}"#).expect("valid").metric_name(), Some("x.y"));
        assert!(parse_metric("{}").expect("valid").is_empty());
    }
}
