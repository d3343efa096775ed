//! Functions that change labels.

use super::calls::text_argument;
use super::series::Series;
use super::{Evaluator, SAME_LABELSET, execution};
use crate::ast::{Call, Expr, ExprKind};
use crate::engine::QueryError;
use crate::parser::lexer::is_label_name;
use gantry_prom_model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, compile_go_regex};
use std::collections::HashMap;

/// The labels an absent series would certainly have: those of the selector's `=` matchers.
pub(super) fn labels_of_absent(expr: &Expr) -> Labels {
    let matchers = match &expr.unwrap_parens().kind {
        ExprKind::Vector(selector) => &selector.matchers,
        ExprKind::Matrix(matrix) => &matrix.selector.matchers,
        _ => return Labels::empty(),
    };
    let mut builder = LabelsBuilder::new();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|matcher| *matcher.name != *METRIC_NAME) {
        let is_first = !seen.contains(&&*matcher.name);
        if matcher.op == MatchOp::Equal && is_first {
            builder.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            // What is asked for twice or not exactly is not certain.
            builder.remove(&matcher.name);
        }
    }
    builder.build()
}

/// Fills `$1`, `${name}` and `$$` of a template from a match, as Go's `Expand` does.
fn expand(template: &str, captures: &regex::Captures<'_>, out: &mut String) {
    let mut rest = template;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(next) = after.strip_prefix('$') {
            out.push('$');
            rest = next;
            continue;
        }
        let (name, next) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, next)) => (name, next),
            None => {
                let end = after.find(|c: char| !(c == '_' || c.is_alphanumeric())).unwrap_or(after.len());
                after.split_at(end)
            }
        };
        let is_name = !name.is_empty() && name.chars().all(|c| c == '_' || c.is_alphanumeric());
        if !is_name {
            // Not a reference after all.
            out.push('$');
            rest = after;
            continue;
        }
        let value = match name.parse::<usize>() {
            Ok(index) => captures.get(index),
            Err(_) => captures.name(name),
        };
        out.push_str(value.map_or("", |found| found.as_str()));
        rest = next;
    }
    out.push_str(rest);
}

impl Evaluator<'_> {
    pub(super) fn label_replace(&mut self, call: &Call) -> Result<Vec<Series>, QueryError> {
        let destination = text_argument(call, 1)?;
        let replacement = text_argument(call, 2)?;
        let source = text_argument(call, 3)?;
        let pattern = text_argument(call, 4)?;
        let regex = compile_go_regex(pattern)
            .map_err(|_| execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
        if !is_label_name(destination) {
            return Err(execution(format!(
                "invalid destination label name in label_replace(): {destination}"
            )));
        }
        let Some(first) = call.args.first() else { return Ok(Vec::new()) };
        let mut series = self.vector(first)?;
        let mut value = String::new();
        for one in &mut series {
            let Some(captures) = regex.captures(one.labels.get(source).unwrap_or("")) else { continue };
            value.clear();
            expand(replacement, &captures, &mut value);
            relabel(one, destination, &value);
        }
        merge_same_labels(series)
    }

    pub(super) fn label_join(&mut self, call: &Call) -> Result<Vec<Series>, QueryError> {
        let destination = text_argument(call, 1)?;
        let separator = text_argument(call, 2)?;
        let mut sources = Vec::new();
        for index in 3..call.args.len() {
            let source = text_argument(call, index)?;
            if !is_label_name(source) {
                return Err(execution(format!("invalid source label name in label_join(): {source}")));
            }
            sources.push(source);
        }
        if !is_label_name(destination) {
            return Err(execution(format!("invalid destination label name in label_join(): {destination}")));
        }
        let Some(first) = call.args.first() else { return Ok(Vec::new()) };
        let mut series = self.vector(first)?;
        for one in &mut series {
            let values: Vec<&str> =
                sources.iter().map(|source| one.labels.get(source).unwrap_or("")).collect();
            let joined = values.join(separator);
            relabel(one, destination, &joined);
        }
        merge_same_labels(series)
    }
}

fn relabel(series: &mut Series, name: &str, value: &str) {
    let mut builder = series.labels.to_builder();
    builder.set(name, value);
    series.labels = builder.build();
    if name == METRIC_NAME {
        series.drop_name = false;
    }
}

/// Joins series that have come to the same labels, if no step has a value in both.
pub(super) fn merge_same_labels(series: Vec<Series>) -> Result<Vec<Series>, QueryError> {
    let mut merged: Vec<Series> = Vec::with_capacity(series.len());
    let mut index_of: HashMap<Labels, usize> = HashMap::with_capacity(series.len());
    for one in series {
        match index_of.get(&one.labels) {
            None => {
                index_of.insert(one.labels.clone(), merged.len());
                merged.push(one);
            }
            Some(index) => merge_into(&mut merged[*index], &one)?,
        }
    }
    Ok(merged)
}

pub(super) fn merge_into(target: &mut Series, other: &Series) -> Result<(), QueryError> {
    for step in 0..other.values.len() {
        let cell = other.cell(step);
        if cell.is_absent() {
            continue;
        }
        if target.is_present(step) {
            return Err(execution(SAME_LABELSET));
        }
        target.set(step, cell);
    }
    Ok(())
}
