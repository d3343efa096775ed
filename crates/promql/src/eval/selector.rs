//! Series from the storage.

use super::series::{Cell, Series, is_absent};
use super::{Evaluator, Sink, execution};
use crate::ast::{Expr, Extension, MatrixSelector, PosRange, VectorSelector};
use crate::engine::QueryError;
use gantry_prom_model::{CounterResetHint, FloatHistogram, Labels, SampleBuffer, SelectHints};
use std::sync::Arc;

/// The samples of one series in the window before one step.
pub(crate) struct Window<'w> {
    pub(crate) labels: &'w Labels,
    pub(crate) times: &'w [i64],
    pub(crate) values: &'w [f64],
    /// Parallel to `times`, or empty.
    pub(crate) start_times: &'w [i64],
    pub(crate) histogram_times: &'w [i64],
    pub(crate) histograms: &'w [Arc<FloatHistogram>],
    /// Parallel to `histogram_times`, or empty.
    pub(crate) histogram_start_times: &'w [i64],
    pub(crate) step: usize,
    pub(crate) step_time: i64,
    /// The window is `(range_start, range_end]`; an extended one has samples outside.
    pub(crate) range_start: i64,
    pub(crate) range_end: i64,
    pub(crate) extension: Extension,
}

impl Window<'_> {
    pub(crate) fn metric_name(&self) -> &str {
        self.labels.metric_name().unwrap_or("")
    }

    pub(crate) fn range_seconds(&self) -> f64 {
        (self.range_end - self.range_start) as f64 / 1000.0
    }
}

/// Computes one step from a window.
pub(super) type WindowFunction<'f, 'a> =
    &'f mut dyn FnMut(&mut Evaluator<'a>, &Window<'_>) -> Result<Cell, QueryError>;

/// Where the window before each step lies in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct WindowPlan {
    pub(super) at: Option<i64>,
    pub(super) offset_ms: i64,
    pub(super) window_ms: i64,
    /// Reach of the samples handed over beyond the window, for extended selectors.
    pub(super) before_ms: i64,
    pub(super) after_ms: i64,
    pub(super) extension: Extension,
}

impl WindowPlan {
    pub(super) fn reference(&self, step_time: i64) -> i64 {
        self.at.unwrap_or(step_time) - self.offset_ms
    }
}

/// Replaces unknown reset hints by what a comparison with the sample before says.
fn find_reset_hints(buffer: &mut SampleBuffer) {
    for index in 1..buffer.histograms.len() {
        let (before, rest) = buffer.histograms.split_at_mut(index);
        let (Some(previous), Some(current)) = (before.last(), rest.first_mut()) else { return };
        if current.counter_reset_hint == CounterResetHint::Unknown
            && !current.is_stale()
            && !previous.is_stale()
        {
            let is_reset = current.is_reset_after(previous);
            Arc::make_mut(current).counter_reset_hint =
                if is_reset { CounterResetHint::Reset } else { CounterResetHint::NotReset };
        }
    }
}

fn remove_stale(buffer: &mut SampleBuffer) {
    if buffer.values.iter().any(|value| is_absent(*value)) {
        let mut kept = SampleBuffer::default();
        for (index, (time, value)) in buffer.timestamps.iter().zip(&buffer.values).enumerate() {
            if !is_absent(*value) {
                let start = buffer.start_timestamps.get(index).copied().unwrap_or(0);
                kept.push_with_start(*time, *value, start);
            }
        }
        buffer.timestamps = kept.timestamps;
        buffer.values = kept.values;
        buffer.start_timestamps = kept.start_timestamps;
    }
    if buffer.histograms.iter().any(|histogram| histogram.is_stale()) {
        let mut kept = SampleBuffer::default();
        for (index, (time, histogram)) in
            buffer.histogram_timestamps.iter().zip(&buffer.histograms).enumerate()
        {
            if !histogram.is_stale() {
                let start = buffer.histogram_start_timestamps.get(index).copied().unwrap_or(0);
                kept.push_histogram_with_start(*time, Arc::clone(histogram), start);
            }
        }
        buffer.histogram_timestamps = kept.histogram_timestamps;
        buffer.histograms = kept.histograms;
        buffer.histogram_start_timestamps = kept.histogram_start_timestamps;
    }
}

/// Index behind the last time that is not after `limit`, searched from `from` on: windows move forward.
fn advance(times: &[i64], from: usize, limit: i64) -> usize {
    let mut index = from;
    while times.get(index).is_some_and(|time| *time <= limit) {
        index += 1;
    }
    index
}

/// The sample that stands for one time.
pub(super) struct Picked {
    pub(super) cell: Cell,
    pub(super) time: i64,
    pub(super) start_time: i64,
}

impl<'a> Evaluator<'a> {
    pub(super) fn lookback_ms(&self) -> i64 {
        i64::try_from(self.options.lookback.as_millis()).unwrap_or(i64::MAX / 4).max(1)
    }

    /// Calls `visit` for each series of a selector with its samples in `[from, to]`.
    pub(super) fn for_each_series(
        &mut self,
        selector: &VectorSelector,
        (from, to): (i64, i64),
        range_ms: i64,
        visit: &mut dyn FnMut(&mut Self, &Labels, &mut SampleBuffer) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let storage = self.storage;
        let querier = storage.querier(from, to)?;
        let step_ms = self.steps.step_ms;
        // Taken, so that what is read while these series are streamed does not pass for an argument of it.
        let function = self.function.take();
        let hints = SelectHints { step_ms, range_ms, function, ..SelectHints::range(from, to) };
        let mut set = querier.select(false, &hints, &selector.matchers)?;
        let mut buffer = SampleBuffer::default();
        while set.advance()? {
            self.check()?;
            buffer.clear();
            set.fill(from, to, &mut buffer)?;
            if self.wants_reset_hints {
                find_reset_hints(&mut buffer);
            }
            self.stats.series_read += 1;
            self.stats.samples_read += buffer.len() as u64;
            let held = self.held;
            self.hold(buffer.len(), 16 * buffer.len(), selector)?;
            visit(self, set.labels(), &mut buffer)?;
            self.held.samples -= buffer_release(self.held.samples, held.samples, buffer.len());
            self.held.bytes -= buffer_release(self.held.bytes, held.bytes, 16 * buffer.len());
        }
        for warning in set.warnings() {
            self.annotations.storage_warning(warning);
        }
        Ok(())
    }

    fn selector_plan(&self, selector: &VectorSelector) -> Result<WindowPlan, QueryError> {
        Ok(WindowPlan {
            at: selector.at.map(|at| self.at_time(at)),
            offset_ms: self.offset_ms(selector.offset.as_ref())?,
            window_ms: self.lookback_ms(),
            before_ms: 0,
            after_ms: if selector.extension == Extension::Smoothed { self.lookback_ms() } else { 0 },
            extension: selector.extension,
        })
    }

    fn read_range(&self, plan: &WindowPlan) -> (i64, i64) {
        let first = plan.reference(self.steps.start_ms) - plan.window_ms - plan.before_ms + 1;
        (first, plan.reference(self.steps.last_time()) + plan.after_ms)
    }

    pub(super) fn stream_selector(
        &mut self,
        selector: &VectorSelector,
        expr: &Expr,
        sink: Sink<'_, 'a>,
    ) -> Result<(), QueryError> {
        if selector.extension == Extension::Smoothed {
            return self.stream_smoothed(selector, expr.range, sink);
        }
        self.stream_picked(selector, &mut |_, picked| picked.cell, sink)
    }

    /// Streams the values interpolated between the samples around each step.
    fn stream_smoothed(
        &mut self,
        selector: &VectorSelector,
        expr_range: PosRange,
        sink: Sink<'_, 'a>,
    ) -> Result<(), QueryError> {
        let plan = self.selector_plan(selector)?;
        let range = self.read_range(&plan);
        let steps = self.steps;
        self.for_each_series(selector, range, 0, &mut |evaluator, labels, buffer| {
            let mut series = Series::absent(labels.clone(), steps.count());
            remove_stale(buffer);
            for step in 0..steps.count() {
                let reference = plan.reference(steps.time(step));
                let cell = evaluator.smooth(labels, buffer, reference, &plan, expr_range);
                if !cell.is_absent() {
                    series.set(step, cell);
                }
            }
            sink(evaluator, series)
        })
    }

    /// The value at `reference`, between the samples around it.
    fn smooth(
        &mut self,
        labels: &Labels,
        buffer: &SampleBuffer,
        reference: i64,
        plan: &WindowPlan,
        range: PosRange,
    ) -> Cell {
        let (oldest, newest) = (reference - plan.window_ms, reference + plan.window_ms);
        let is_near = |time: &&i64| **time > oldest && **time <= newest;
        let has_floats = buffer.timestamps.iter().any(|time| is_near(&time));
        let has_histograms = buffer.histogram_timestamps.iter().any(|time| is_near(&time));
        let name = labels.metric_name().unwrap_or("");
        if has_floats && has_histograms {
            super::rate::mixed_floats_histograms(&mut self.annotations, name, range);
            return Cell::Absent;
        }
        let times = if has_histograms { &buffer.histogram_timestamps } else { &buffer.timestamps };
        let next = times.partition_point(|time| *time < reference);
        let value = |index: usize| {
            if has_histograms {
                Cell::Histogram(Arc::clone(&buffer.histograms[index]))
            } else {
                Cell::Float(buffer.values[index])
            }
        };
        let after = times.get(next).filter(is_near);
        if after == Some(&reference) {
            return value(next);
        }
        let Some(previous) = next.checked_sub(1).filter(|index| times[*index] > oldest) else {
            return Cell::Absent;
        };
        let Some(after) = after else { return value(previous) };
        let share = (reference - times[previous]) as f64 / (after - times[previous]) as f64;
        if !has_histograms {
            let (before, now) = (buffer.values[previous], buffer.values[next]);
            return Cell::Float(before + (now - before) * share);
        }
        let (before, now) = (&buffer.histograms[previous], &buffer.histograms[next]);
        let is_counter = now.counter_reset_hint != CounterResetHint::Gauge;
        match super::extended_histogram::between(before, now, share, is_counter) {
            Ok((histogram, _)) => Cell::Histogram(Arc::new(histogram)),
            Err(_) => {
                super::rate::mixed_schemas(&mut self.annotations, name, range);
                Cell::Absent
            }
        }
    }

    /// Streams, for each series and step, what `choose` makes of the sample that stands for the step.
    pub(super) fn stream_picked(
        &mut self,
        selector: &VectorSelector,
        choose: &mut dyn FnMut(i64, Picked) -> Cell,
        sink: Sink<'_, 'a>,
    ) -> Result<(), QueryError> {
        let plan = self.selector_plan(selector)?;
        let range = self.read_range(&plan);
        let steps = self.steps;
        let count = steps.count();
        self.for_each_series(selector, range, 0, &mut |evaluator, labels, buffer| {
            let mut series = Series::absent(labels.clone(), count);
            let (mut next, mut next_histogram) = (0, 0);
            for step in 0..count {
                let reference = plan.reference(steps.time(step));
                next = advance(&buffer.timestamps, next, reference);
                next_histogram = advance(&buffer.histogram_timestamps, next_histogram, reference);
                if let Some(picked) = pick(buffer, next, next_histogram, reference - plan.window_ms) {
                    let cell = choose(steps.time(step), picked);
                    if !cell.is_absent() {
                        series.set(step, cell);
                    }
                }
            }
            sink(evaluator, series)
        })
    }

    pub(super) fn matrix_plan(&self, matrix: &MatrixSelector) -> Result<WindowPlan, QueryError> {
        let selector = &matrix.selector;
        let (before_ms, after_ms) = match selector.extension {
            Extension::None => (0, 0),
            Extension::Anchored => (self.lookback_ms(), 0),
            Extension::Smoothed => (self.lookback_ms(), self.lookback_ms()),
        };
        Ok(WindowPlan {
            at: selector.at.map(|at| self.at_time(at)),
            offset_ms: self.offset_ms(selector.offset.as_ref())?,
            window_ms: self.window_ms(&matrix.window)?,
            before_ms,
            after_ms,
            extension: selector.extension,
        })
    }

    /// Computes a function over the window before each step, for each series of a range selector.
    pub(super) fn stream_windows(
        &mut self,
        matrix: &MatrixSelector,
        compute: WindowFunction<'_, 'a>,
        sink: Sink<'_, 'a>,
    ) -> Result<(), QueryError> {
        let plan = self.matrix_plan(matrix)?;
        let range = self.read_range(&plan);
        self.for_each_series(&matrix.selector, range, plan.window_ms, &mut |evaluator, labels, buffer| {
            remove_stale(buffer);
            let series = evaluator.windows_of(labels, buffer, &plan, compute)?;
            sink(evaluator, series)
        })
    }

    /// The result of a window function for one series whose samples are in `buffer`.
    pub(super) fn windows_of(
        &mut self,
        labels: &Labels,
        buffer: &SampleBuffer,
        plan: &WindowPlan,
        compute: WindowFunction<'_, 'a>,
    ) -> Result<Series, QueryError> {
        let steps = self.steps;
        let count = steps.count();
        let mut series = Series::absent(labels.clone(), count);
        let (mut low, mut high, mut histogram_low, mut histogram_high) = (0, 0, 0, 0);
        for step in 0..count {
            let range_end = plan.reference(steps.time(step));
            let range_start = range_end - plan.window_ms;
            let (first, last) = (range_start - plan.before_ms, range_end + plan.after_ms);
            low = advance(&buffer.timestamps, low, first);
            high = advance(&buffer.timestamps, high.max(low), last);
            histogram_low = advance(&buffer.histogram_timestamps, histogram_low, first);
            histogram_high = advance(&buffer.histogram_timestamps, histogram_high.max(histogram_low), last);
            if low == high && histogram_low == histogram_high {
                continue;
            }
            let window = Window {
                labels,
                times: &buffer.timestamps[low..high],
                values: &buffer.values[low..high],
                start_times: buffer.start_timestamps.get(low..high).unwrap_or(&[]),
                histogram_times: &buffer.histogram_timestamps[histogram_low..histogram_high],
                histograms: &buffer.histograms[histogram_low..histogram_high],
                histogram_start_times: buffer
                    .histogram_start_timestamps
                    .get(histogram_low..histogram_high)
                    .unwrap_or(&[]),
                step,
                step_time: steps.time(step),
                range_start,
                range_end,
                extension: plan.extension,
            };
            let cell = compute(self, &window)?;
            if !cell.is_absent() {
                series.set(step, cell);
            }
        }
        Ok(series)
    }

    /// The samples a range selector covers at the only step, for answers that are range vectors.
    pub(super) fn matrix_samples(
        &mut self,
        matrix: &MatrixSelector,
    ) -> Result<Vec<(Labels, SampleBuffer)>, QueryError> {
        let plan = self.matrix_plan(matrix)?;
        let range = self.read_range(&plan);
        let range_end = plan.reference(self.steps.start_ms);
        let mut found = Vec::new();
        self.for_each_series(&matrix.selector, range, plan.window_ms, &mut |evaluator, labels, buffer| {
            remove_stale(buffer);
            if plan.extension != Extension::None {
                if !buffer.histograms.is_empty() {
                    return Err(execution("anchored modifier is not supported with histograms"));
                }
                super::rate::extend_to_bounds(buffer, range_end - plan.window_ms, range_end, plan.extension);
            }
            if !buffer.is_empty() {
                evaluator.hold(buffer.len(), 16 * buffer.len(), matrix)?;
                found.push((labels.clone(), buffer.clone()));
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// How much to give back after a visit: what the visitor kept stays held.
fn buffer_release(now: usize, before: usize, buffer: usize) -> usize {
    now.saturating_sub(before).min(buffer)
}

/// The newest sample before the given indices that is after `oldest`.
fn pick(buffer: &SampleBuffer, next: usize, next_histogram: usize, oldest: i64) -> Option<Picked> {
    let float = next.checked_sub(1).map(|index| (index, buffer.timestamps[index]));
    let histogram = next_histogram.checked_sub(1).map(|index| (index, buffer.histogram_timestamps[index]));
    let is_histogram = match (float, histogram) {
        (None, None) => return None,
        (Some((_, float_time)), Some((_, histogram_time))) => histogram_time > float_time,
        (float, _) => float.is_none(),
    };
    let (index, time) = if is_histogram { histogram? } else { float? };
    if time <= oldest {
        return None;
    }
    if is_histogram {
        let value = &buffer.histograms[index];
        let start_time = buffer.histogram_start_timestamps.get(index).copied().unwrap_or(0);
        return (!value.is_stale()).then(|| Picked {
            cell: Cell::Histogram(Arc::clone(value)),
            time,
            start_time,
        });
    }
    let value = buffer.values[index];
    let start_time = buffer.start_timestamps.get(index).copied().unwrap_or(0);
    (!is_absent(value)).then_some(Picked { cell: Cell::Float(value), time, start_time })
}
