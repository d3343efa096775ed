//! Binary operators between two vectors.
//!
//! Which series belong together is found once for all steps; the steps are then computed column by column.

use super::binary::{Outcome, changes_quantity, element_op};
use super::label_calls::merge_into;
use super::series::{Cell, Series};
use super::{Evaluator, execution, is_metadata_label};
use crate::ast::{Binary, BinaryOp, Cardinality, PosRange, VectorMatching};
use crate::engine::QueryError;
use gantry_prom_model::{Labels, METRIC_NAME};
use std::collections::HashMap;

/// The labels by which series are matched.
fn signature(labels: &Labels, matching: &VectorMatching) -> Labels {
    let is_named = |name: &str| matching.labels.iter().any(|label| label == name);
    if matching.on {
        labels.filter(is_named)
    } else {
        labels.filter(|name| name != METRIC_NAME && !is_named(name))
    }
}

/// As `signature`, but with the name kept, as error messages show it.
fn match_group(labels: &Labels, matching: &VectorMatching) -> Labels {
    signature(labels, matching)
}

/// The series of one match group.
#[derive(Default)]
struct Group {
    left: Vec<usize>,
    right: Vec<usize>,
}

fn group(left: &[Series], right: &[Series], matching: &VectorMatching) -> (Vec<Group>, Vec<usize>) {
    let mut groups: Vec<Group> = Vec::new();
    let mut index_of: HashMap<Labels, usize> = HashMap::new();
    let mut place = |labels: &Labels, groups: &mut Vec<Group>| {
        *index_of.entry(signature(labels, matching)).or_insert_with(|| {
            groups.push(Group::default());
            groups.len() - 1
        })
    };
    let mut group_of_left = Vec::with_capacity(left.len());
    for (index, series) in left.iter().enumerate() {
        let at = place(&series.labels, &mut groups);
        groups[at].left.push(index);
        group_of_left.push(at);
    }
    for (index, series) in right.iter().enumerate() {
        let at = place(&series.labels, &mut groups);
        groups[at].right.push(index);
    }
    (groups, group_of_left)
}

/// Steps at which any of the series has a value.
fn presence(series: &[Series], members: &[usize], steps: usize) -> Vec<bool> {
    let mut present = vec![false; steps];
    for member in members {
        for (step, flag) in present.iter_mut().enumerate() {
            *flag |= series[*member].is_present(step);
        }
    }
    present
}

impl Evaluator<'_> {
    pub(super) fn vector_binary(
        &mut self,
        binary: &Binary,
        range: PosRange,
    ) -> Result<Vec<Series>, QueryError> {
        let left = self.vector(&binary.lhs)?;
        let right = self.vector(&binary.rhs)?;
        let default = VectorMatching::default();
        let matching = binary.matching.as_ref().unwrap_or(&default);
        if binary.op.is_set() {
            return self.set_operation(binary.op, left, right, matching);
        }
        let is_one_to_many = matching.cardinality == Cardinality::OneToMany;
        // From here on the right side is the one with a single series per group.
        let (many, one) = if is_one_to_many { (right, left) } else { (left, right) };
        // `fill_left` stands for what is missing on the many side, whichever side of the operator that is.
        let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
        Join {
            binary,
            matching,
            range,
            many: &many,
            one: &one,
            fill_many,
            fill_one,
            is_swapped: is_one_to_many,
        }
        .run(self)
    }

    fn set_operation(
        &mut self,
        op: BinaryOp,
        mut left: Vec<Series>,
        mut right: Vec<Series>,
        matching: &VectorMatching,
    ) -> Result<Vec<Series>, QueryError> {
        let steps = self.step_count();
        let (groups, _) = group(&left, &right, matching);
        for members in &groups {
            self.check()?;
            let (changed, decisive, keeps_present) = match op {
                BinaryOp::And => (&members.left, presence(&right, &members.right, steps), true),
                BinaryOp::Unless => (&members.left, presence(&right, &members.right, steps), false),
                _ => (&members.right, presence(&left, &members.left, steps), false),
            };
            let side = if op == BinaryOp::Or { &mut right } else { &mut left };
            for member in changed {
                for (step, is_present) in decisive.iter().enumerate() {
                    if *is_present != keeps_present {
                        side[*member].clear(step);
                    }
                }
            }
        }
        if op == BinaryOp::Or {
            right.retain(|series| !series.is_empty());
            return self.unite(left, right);
        }
        left.retain(|series| !series.is_empty());
        Ok(left)
    }

    /// Both sides of `or`; a series of the right that continues one of the left becomes part of it.
    fn unite(&self, mut left: Vec<Series>, right: Vec<Series>) -> Result<Vec<Series>, QueryError> {
        let index_of: HashMap<Labels, usize> =
            left.iter().enumerate().map(|(index, series)| (series.labels.clone(), index)).collect();
        for series in right {
            match index_of.get(&series.labels) {
                Some(index) if self.step_count() > 1 && left[*index].drop_name == series.drop_name => {
                    merge_into(&mut left[*index], &series)?;
                }
                _ => left.push(series),
            }
        }
        Ok(left)
    }
}

/// An operation between matched series.
struct Join<'j> {
    binary: &'j Binary,
    matching: &'j VectorMatching,
    range: PosRange,
    many: &'j [Series],
    one: &'j [Series],
    /// Value for a missing series of the many side.
    fill_many: Option<f64>,
    fill_one: Option<f64>,
    /// Whether the many side stands on the right of the operator.
    is_swapped: bool,
}

/// The series made so far, by labels.
#[derive(Default)]
struct Output {
    series: Vec<Series>,
    index_of: HashMap<Labels, usize>,
}

impl Output {
    fn slot(&mut self, labels: &Labels, steps: usize) -> usize {
        if let Some(index) = self.index_of.get(labels) {
            return *index;
        }
        self.index_of.insert(labels.clone(), self.series.len());
        self.series.push(Series::absent(labels.clone(), steps));
        self.series.len() - 1
    }
}

impl Join<'_> {
    fn run(&self, evaluator: &mut Evaluator<'_>) -> Result<Vec<Series>, QueryError> {
        let steps = evaluator.step_count();
        let (groups, group_of_many) = group(self.many, self.one, self.matching);
        let mut output = Output::default();
        // The one side's series of each group at each step is found group by group, the results are made in the
        // order of the many side.
        let mut singles: Vec<Vec<Option<usize>>> = Vec::with_capacity(groups.len());
        for members in &groups {
            evaluator.check()?;
            singles.push(self.singles(members, steps)?);
        }
        let mut is_matched: Vec<Vec<bool>> = vec![Vec::new(); groups.len()];
        // In one-to-many matching each result label set may come up once per group and step.
        for (index, many) in self.many.iter().enumerate() {
            evaluator.check()?;
            let at = group_of_many[index];
            if groups[at].right.is_empty() && self.fill_one.is_none() {
                continue;
            }
            let mut slots: HashMap<Option<usize>, usize> = HashMap::new();
            for step in 0..steps {
                let many_cell = many.cell(step);
                if many_cell.is_absent() {
                    continue;
                }
                let single = singles[at][step];
                let one_cell = match (single, self.fill_one) {
                    (Some(one), _) => self.one[one].cell(step),
                    (None, Some(fill)) => Cell::Float(fill),
                    (None, None) => continue,
                };
                if is_matched[at].is_empty() {
                    is_matched[at] = vec![false; steps];
                }
                let outcome = self.operate(&many_cell, &one_cell, evaluator);
                let Outcome::Value { cell, holds } = outcome else { continue };
                if self.matching.cardinality == Cardinality::OneToOne && is_matched[at][step] {
                    return Err(execution(
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                    ));
                }
                is_matched[at][step] = true;
                let slot = *slots.entry(single).or_insert_with(|| {
                    let one_labels = match single {
                        Some(one) => self.one[one].labels.clone(),
                        None => match_group(&many.labels, self.matching),
                    };
                    let labels = self.result_labels(&many.labels, &one_labels, evaluator);
                    let slot = output.slot(&labels, steps);
                    output.series[slot].drop_name |= self.drops_name(evaluator) || many.drop_name;
                    slot
                });
                self.put(&mut output, slot, step, cell, holds)?;
            }
        }
        if let Some(fill) = self.fill_many {
            self.fill_missing(fill, &groups, &singles, &is_matched, &mut output, evaluator)?;
        }
        output.series.retain(|series| !series.is_empty());
        Ok(output.series)
    }

    /// Results for groups that only the one side has.
    fn fill_missing(
        &self,
        fill: f64,
        groups: &[Group],
        singles: &[Vec<Option<usize>>],
        is_matched: &[Vec<bool>],
        output: &mut Output,
        evaluator: &mut Evaluator<'_>,
    ) -> Result<(), QueryError> {
        let steps = evaluator.step_count();
        for (at, members) in groups.iter().enumerate() {
            if members.right.is_empty() {
                continue;
            }
            for (step, single) in singles[at].iter().enumerate() {
                let Some(one) = *single else { continue };
                if is_matched[at].get(step).copied().unwrap_or(false) {
                    continue;
                }
                let one_cell = self.one[one].cell(step);
                let Outcome::Value { cell, holds } = self.operate(&Cell::Float(fill), &one_cell, evaluator)
                else {
                    continue;
                };
                let many_labels = match_group(&self.one[one].labels, self.matching);
                let labels = self.result_labels(&many_labels, &self.one[one].labels, evaluator);
                let slot = output.slot(&labels, steps);
                output.series[slot].drop_name |= self.drops_name(evaluator);
                self.put(output, slot, step, cell, holds)?;
            }
        }
        Ok(())
    }

    fn put(
        &self,
        output: &mut Output,
        slot: usize,
        step: usize,
        cell: Cell,
        holds: bool,
    ) -> Result<(), QueryError> {
        let cell = if self.binary.return_bool { Cell::Float(if holds { 1.0 } else { 0.0 }) } else { cell };
        if !holds && !self.binary.return_bool {
            return Ok(());
        }
        let series = &mut output.series[slot];
        if series.is_present(step) {
            let message = if self.matching.cardinality == Cardinality::OneToOne {
                super::SAME_LABELSET
            } else {
                "multiple matches for labels: grouping labels must ensure unique matches"
            };
            return Err(execution(message));
        }
        series.set(step, cell);
        Ok(())
    }

    fn operate(&self, many: &Cell, one: &Cell, evaluator: &mut Evaluator<'_>) -> Outcome {
        let (left, right) = if self.is_swapped { (one, many) } else { (many, one) };
        element_op(self.binary.op, left, right, self.range, &mut evaluator.annotations)
    }

    /// The one side's series at each step; more than one is an error where the many side has anything at all.
    fn singles(&self, members: &Group, steps: usize) -> Result<Vec<Option<usize>>, QueryError> {
        let mut singles = vec![None; steps];
        for index in &members.right {
            for (step, single) in singles.iter_mut().enumerate() {
                if !self.one[*index].is_present(step) {
                    continue;
                }
                let Some(other) = single.replace(*index) else { continue };
                let can_match =
                    self.fill_many.is_some() || self.many.iter().any(|series| series.is_present(step));
                if can_match {
                    return Err(self.duplicate(*index, other));
                }
            }
        }
        Ok(singles)
    }

    fn duplicate(&self, index: usize, other: usize) -> QueryError {
        let side = if self.is_swapped { "left" } else { "right" };
        let group = match_group(&self.one[index].labels, self.matching);
        execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            self.one[index].labels, self.one[other].labels
        ))
    }

    fn drops_name(&self, evaluator: &Evaluator<'_>) -> bool {
        self.binary.return_bool && evaluator.options.delayed_name_removal
    }

    fn result_labels(&self, many: &Labels, one: &Labels, evaluator: &Evaluator<'_>) -> Labels {
        let is_named = |name: &str| self.matching.labels.iter().any(|label| label == name);
        let drops_metadata = changes_quantity(self.binary.op)
            || (self.binary.return_bool && !evaluator.options.delayed_name_removal);
        let is_one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let labels = many.filter(|name| {
            let is_dropped = drops_metadata && is_metadata_label(name);
            !is_dropped && (!is_one_to_one || is_named(name) == self.matching.on)
        });
        if self.matching.include.is_empty() {
            return labels;
        }
        let mut builder = labels.to_builder();
        for name in &self.matching.include {
            builder.set(name, one.get(name).unwrap_or(""));
        }
        builder.build()
    }
}
