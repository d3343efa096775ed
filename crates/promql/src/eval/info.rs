//! `info`: series with the labels of the info metrics of their target.

use super::label_calls::merge_into;
use super::series::{Cell, Series, is_absent};
use super::{Evaluator, SAME_LABELSET, execution};
use crate::ast::{At, Call, DurationExpr, Expr, ExprKind, Extension, VectorSelector};
use crate::engine::QueryError;
use gantry_prom_model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The labels by which an info series belongs to others.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
/// The info metric taken when none is named.
const TARGET_INFO: &str = "target_info";

fn identity(labels: &Labels) -> Labels {
    labels.filter(|name| IDENTIFYING.contains(&name))
}

/// Whether a base series is itself one of the info series that are asked for: it has a name that is wanted, not
/// only none that is unwanted.
fn is_asked_for(name_matchers: &[Matcher], labels: &Labels) -> bool {
    name_matchers.iter().any(|matcher| !matcher.op.is_negative())
        && name_matchers.iter().all(|matcher| matcher.matches_labels(labels))
}

/// A time and how far before it.
#[derive(Debug, Clone, Copy, Default)]
struct Reference {
    at: Option<At>,
    offset_ms: i64,
}

impl Evaluator<'_> {
    /// Where in time the first selector inside an expression reads; info series are read there as well.
    fn reference_of(&self, expr: &Expr, outer: Reference) -> Result<Option<Reference>, QueryError> {
        let inner = |at: Option<At>, offset: Option<&DurationExpr>| -> Result<Reference, QueryError> {
            let offset_ms = self.offset_ms(offset)?;
            Ok(match at {
                // An `@` starts anew; offsets further out do not matter.
                Some(_) => Reference { at, offset_ms },
                None => Reference { at: outer.at, offset_ms: outer.offset_ms + offset_ms },
            })
        };
        match &expr.kind {
            ExprKind::Vector(selector) => inner(selector.at, selector.offset.as_ref()).map(Some),
            ExprKind::Matrix(matrix) => inner(matrix.selector.at, matrix.selector.offset.as_ref()).map(Some),
            ExprKind::Subquery(subquery) => {
                let reference = inner(subquery.at, subquery.offset.as_ref())?;
                self.reference_of(&subquery.expr, reference)
            }
            kind => {
                let mut found = Ok(None);
                kind.visit_children(&mut |child| {
                    if matches!(found, Ok(None)) {
                        found = self.reference_of(child, outer);
                    }
                });
                found
            }
        }
    }

    pub(super) fn info(&mut self, call: &Call) -> Result<Vec<Series>, QueryError> {
        let Some(first) = call.args.first() else { return Ok(Vec::new()) };
        let base = self.vector(first)?;
        let mut name_matchers: Vec<Matcher> = Vec::new();
        let mut data_matchers: Vec<Matcher> = Vec::new();
        if let Some(ExprKind::Vector(selector)) = call.args.get(1).map(|arg| &arg.kind) {
            for matcher in &selector.matchers {
                let is_name = *matcher.name == *METRIC_NAME;
                if is_name { &mut name_matchers } else { &mut data_matchers }.push(matcher.clone());
            }
        } else {
            name_matchers.push(Matcher::equal(METRIC_NAME, TARGET_INFO));
        }
        // Info series themselves are not enriched.
        let is_info: Vec<bool> =
            base.iter().map(|series| is_asked_for(&name_matchers, &series.labels)).collect();
        let infos = self.info_series(first, &base, &is_info, &name_matchers, &data_matchers)?;
        self.combine(base, &is_info, infos, &data_matchers)
    }

    /// The info series of the base series, with the sample times as values.
    fn info_series(
        &mut self,
        base_expr: &Expr,
        base: &[Series],
        is_info: &[bool],
        name_matchers: &[Matcher],
        data_matchers: &[Matcher],
    ) -> Result<Vec<Series>, QueryError> {
        let mut values: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (series, _) in base.iter().zip(is_info).filter(|(_, is_info)| !**is_info) {
            for label in IDENTIFYING {
                if let Some(value) = series.labels.get(label) {
                    values.entry(label).or_default().insert(value.to_owned());
                }
            }
        }
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let mut matchers: Vec<Matcher> = Vec::new();
        for (label, values) in &values {
            let alternatives: Vec<String> = values.iter().map(|value| escape(value)).collect();
            let matcher = Matcher::new(MatchOp::Regex, label, &alternatives.join("|"))
                .map_err(|error| execution(error.to_string()))?;
            matchers.push(matcher);
        }
        matchers.extend_from_slice(data_matchers);
        matchers.extend_from_slice(name_matchers);
        if name_matchers.is_empty() {
            matchers.push(Matcher::equal(METRIC_NAME, TARGET_INFO));
        } else if name_matchers.iter().all(|matcher| matcher.op.is_negative()) {
            // "All but these" is meant among the info metrics.
            let any_info = Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info");
            matchers.push(any_info.map_err(|error| execution(error.to_string()))?);
        }
        let reference = self.reference_of(base_expr, Reference::default())?.unwrap_or_default();
        let seconds = reference.offset_ms as f64 / 1000.0;
        let selector = VectorSelector {
            name: String::new(),
            matchers,
            offset: Some(DurationExpr::Literal { seconds, is_duration: true }),
            at: reference.at,
            extension: Extension::None,
        };
        let mut infos = Vec::new();
        let mut has_histogram = false;
        self.stream_picked(
            &selector,
            &mut |_, picked| {
                has_histogram |= matches!(picked.cell, Cell::Histogram(_));
                Cell::Float(picked.time as f64)
            },
            &mut |evaluator, series| {
                if !series.is_empty() {
                    evaluator.hold(series.sample_count(), series.byte_count(), &"info series")?;
                    infos.push(series);
                }
                Ok(())
            },
        )?;
        if has_histogram {
            return Err(execution("info sample should be float"));
        }
        Ok(infos)
    }

    fn combine(
        &mut self,
        base: Vec<Series>,
        is_info: &[bool],
        infos: Vec<Series>,
        data_matchers: &[Matcher],
    ) -> Result<Vec<Series>, QueryError> {
        let steps = self.step_count();
        // By identity and info metric.
        let mut by_identity: HashMap<Labels, BTreeMap<String, Vec<usize>>> = HashMap::new();
        for (index, info) in infos.iter().enumerate() {
            let name = info.labels.metric_name().unwrap_or("").to_owned();
            by_identity.entry(identity(&info.labels)).or_default().entry(name).or_default().push(index);
        }
        check_duplicates(&by_identity, &infos, steps)?;
        let needs_info = data_matchers.iter().any(|matcher| !matcher.matches_empty());
        let mut result: Vec<Series> = Vec::new();
        let mut index_of: HashMap<Labels, usize> = HashMap::new();
        let mut put = |series: Series| -> Result<(), QueryError> {
            match index_of.get(&series.labels) {
                Some(index) => merge_into(&mut result[*index], &series).map_err(|_| execution(SAME_LABELSET)),
                None => {
                    index_of.insert(series.labels.clone(), result.len());
                    result.push(series);
                    Ok(())
                }
            }
        };
        for (series, is_info) in base.into_iter().zip(is_info) {
            self.check()?;
            if *is_info {
                put(series)?;
                continue;
            }
            let candidates = by_identity.get(&identity(&series.labels));
            // Steps with the same info series make one result.
            let mut by_choice: BTreeMap<Vec<usize>, Series> = BTreeMap::new();
            for step in 0..steps {
                let cell = series.cell(step);
                if cell.is_absent() {
                    continue;
                }
                let chosen: Vec<usize> = candidates
                    .into_iter()
                    .flat_map(BTreeMap::values)
                    .filter_map(|members| newest(members, &infos, step))
                    .collect();
                if chosen.is_empty() && needs_info {
                    continue;
                }
                let part = by_choice.entry(chosen).or_insert_with(|| {
                    let mut part = Series::absent(series.labels.clone(), steps);
                    part.drop_name = series.drop_name;
                    part
                });
                part.set(step, cell);
            }
            for (chosen, mut part) in by_choice {
                part.labels = enriched(&series.labels, &chosen, &infos, data_matchers)?;
                put(part)?;
            }
        }
        Ok(result)
    }
}

/// The series whose sample is the newest at a step.
fn newest(members: &[usize], infos: &[Series], step: usize) -> Option<usize> {
    let present = members.iter().copied().filter(|index| !is_absent(infos[*index].values[step]));
    present.max_by(|a, b| infos[*a].values[step].total_cmp(&infos[*b].values[step]))
}

fn check_duplicates(
    by_identity: &HashMap<Labels, BTreeMap<String, Vec<usize>>>,
    infos: &[Series],
    steps: usize,
) -> Result<(), QueryError> {
    for members in by_identity.values().flat_map(BTreeMap::values).filter(|members| members.len() > 1) {
        for step in 0..steps {
            let Some(best) = newest(members, infos, step) else { continue };
            let time = infos[best].values[step];
            let is_tied = |index: &&usize| **index != best && infos[**index].values[step] == time;
            if let Some(other) = members.iter().find(is_tied) {
                return Err(execution(format!(
                    "found duplicate series for info metric: existing {} @ {time}, new {} @ {time}",
                    infos[*other].labels, infos[best].labels
                )));
            }
        }
    }
    Ok(())
}

/// The base labels with those of the info series that were asked for.
fn enriched(
    base: &Labels,
    chosen: &[usize],
    infos: &[Series],
    data_matchers: &[Matcher],
) -> Result<Labels, QueryError> {
    let mut added = LabelsBuilder::new();
    for index in chosen {
        for (name, value) in &infos[*index].labels {
            let is_wanted =
                data_matchers.is_empty() || data_matchers.iter().any(|matcher| *matcher.name == *name);
            if name == METRIC_NAME || !is_wanted {
                continue;
            }
            if added.get(name).is_some_and(|other| other != value) {
                return Err(execution(format!("conflicting label: {name}")));
            }
            if !base.has(name) {
                added.set(name, value);
            }
        }
    }
    let mut builder = base.to_builder();
    for (name, value) in added.iter() {
        builder.set(name, value);
    }
    Ok(builder.build())
}

/// A text as a regular expression that matches only it.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '_' | '-' | '/' | ':') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
