//! Series of several sources as one stream, each series once, in the order of labels.

use gantry_prom_model::{Labels, SampleBuffer, SeriesSet, StorageError};

use crate::block::{ChunkSeriesSet, RawChunk};

/// Adds the samples of `from` to `into`, in the order of time; where both have a time, `into` keeps its own. Empties
/// `from`.
pub fn append_merged(into: &mut SampleBuffer, from: &mut SampleBuffer) {
    merge_columns(&mut into.timestamps, &mut into.values, &mut from.timestamps, &mut from.values);
    merge_columns(
        &mut into.histogram_timestamps,
        &mut into.histograms,
        &mut from.histogram_timestamps,
        &mut from.histograms,
    );
    // Start times are not stored by blocks; a column that no longer fits the others would be wrong.
    for (starts, times) in [
        (&mut into.start_timestamps, into.timestamps.len()),
        (&mut into.histogram_start_timestamps, into.histogram_timestamps.len()),
    ] {
        if !starts.is_empty() {
            starts.resize(times, 0);
        }
    }
    from.clear();
}

fn merge_columns<V>(
    into_times: &mut Vec<i64>,
    into_values: &mut Vec<V>,
    times: &mut Vec<i64>,
    values: &mut Vec<V>,
) {
    let Some(first) = times.first() else { return };
    if into_times.last().is_none_or(|last| last < first) {
        into_times.append(times);
        into_values.append(values);
        return;
    }
    let at = into_times.partition_point(|time| time < first);
    let old_times = into_times.split_off(at);
    let mut old = old_times.into_iter().zip(into_values.split_off(at)).peekable();
    let mut new = times.drain(..).zip(values.drain(..)).peekable();
    loop {
        let next = match (old.peek(), new.peek()) {
            (Some((left, _)), Some((right, _))) if left <= right => {
                if left == right {
                    new.next();
                }
                old.next()
            }
            (_, Some(_)) => new.next(),
            (_, None) => old.next(),
        };
        let Some((time, value)) = next else { return };
        into_times.push(time);
        into_values.push(value);
    }
}

/// A cursor that a merge can hold many of.
pub(crate) trait Cursor {
    fn advance(&mut self) -> Result<bool, StorageError>;
    fn labels(&self) -> &Labels;
}

impl Cursor for Box<dyn SeriesSet + '_> {
    fn advance(&mut self) -> Result<bool, StorageError> {
        (**self).advance()
    }

    fn labels(&self) -> &Labels {
        (**self).labels()
    }
}

impl Cursor for Box<dyn ChunkSeriesSet + '_> {
    fn advance(&mut self) -> Result<bool, StorageError> {
        ChunkSeriesSet::advance(&mut **self)
    }

    fn labels(&self) -> &Labels {
        ChunkSeriesSet::labels(&**self)
    }
}

/// Which of some sorted cursors stand on the smallest labels.
#[derive(Debug)]
struct Front<C> {
    cursors: Vec<C>,
    started: bool,
    /// Cursors on the current series.
    on: Vec<usize>,
    live: Vec<bool>,
    current: Labels,
}

impl<C: Cursor> Front<C> {
    fn new(cursors: Vec<C>) -> Front<C> {
        let live = vec![true; cursors.len()];
        Front { cursors, started: false, on: Vec::new(), live, current: Labels::empty() }
    }

    fn advance(&mut self) -> Result<bool, StorageError> {
        if !self.started {
            self.started = true;
            self.on = (0..self.cursors.len()).collect();
        }
        for index in self.on.drain(..) {
            self.live[index] = self.cursors[index].advance()?;
        }
        let mut smallest: Option<&Labels> = None;
        for (index, cursor) in self.cursors.iter().enumerate() {
            if !self.live[index] {
                continue;
            }
            let labels = cursor.labels();
            match smallest.map(|smallest| labels.cmp(smallest)) {
                Some(std::cmp::Ordering::Greater) => {}
                Some(std::cmp::Ordering::Equal) => self.on.push(index),
                _ => {
                    smallest = Some(labels);
                    self.on.clear();
                    self.on.push(index);
                }
            }
        }
        let Some(labels) = smallest else { return Ok(false) };
        self.current = labels.clone();
        Ok(true)
    }
}

/// Samples of several sorted sets.
pub(crate) struct MergedSeries<'a> {
    front: Front<Box<dyn SeriesSet + 'a>>,
    scratch: SampleBuffer,
    left: usize,
}

impl<'a> MergedSeries<'a> {
    /// `sets` in the order of the times they hold. At most `limit` series, 0 for all.
    pub(crate) fn new(sets: Vec<Box<dyn SeriesSet + 'a>>, limit: usize) -> MergedSeries<'a> {
        let left = if limit == 0 { usize::MAX } else { limit };
        MergedSeries { front: Front::new(sets), scratch: SampleBuffer::default(), left }
    }
}

impl SeriesSet for MergedSeries<'_> {
    fn advance(&mut self) -> Result<bool, StorageError> {
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        self.front.advance()
    }

    fn labels(&self) -> &Labels {
        &self.front.current
    }

    fn fill(
        &mut self,
        min_time_ms: i64,
        max_time_ms: i64,
        into: &mut SampleBuffer,
    ) -> Result<(), StorageError> {
        for (position, index) in self.front.on.iter().enumerate() {
            let set = &mut self.front.cursors[*index];
            if position == 0 {
                set.fill(min_time_ms, max_time_ms, into)?;
            } else {
                self.scratch.clear();
                set.fill(min_time_ms, max_time_ms, &mut self.scratch)?;
                append_merged(into, &mut self.scratch);
            }
        }
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        self.front.cursors.iter().flat_map(|set| set.warnings()).collect()
    }
}

/// Chunks of several sorted sets: of each series all chunks, by their first time; the same chunk once.
pub struct MergedChunks<'a> {
    front: Front<Box<dyn ChunkSeriesSet + 'a>>,
}

impl<'a> MergedChunks<'a> {
    /// `sets` are each in the order of labels.
    pub fn new(sets: Vec<Box<dyn ChunkSeriesSet + 'a>>) -> MergedChunks<'a> {
        MergedChunks { front: Front::new(sets) }
    }
}

impl ChunkSeriesSet for MergedChunks<'_> {
    fn advance(&mut self) -> Result<bool, StorageError> {
        self.front.advance()
    }

    fn labels(&self) -> &Labels {
        &self.front.current
    }

    fn chunks(&mut self) -> Result<Vec<RawChunk>, StorageError> {
        let mut all = Vec::new();
        for index in &self.front.on {
            all.extend(self.front.cursors[*index].chunks()?);
        }
        all.sort_by(|left, right| {
            (left.min_t, left.max_t, &left.data).cmp(&(right.min_t, right.max_t, &right.data))
        });
        all.dedup();
        Ok(all)
    }

    fn warnings(&self) -> Vec<String> {
        self.front.cursors.iter().flat_map(|set| set.warnings()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(samples: &[(i64, f64)]) -> SampleBuffer {
        let mut buffer = SampleBuffer::default();
        samples.iter().for_each(|(t, v)| buffer.push(*t, *v));
        buffer
    }

    #[test]
    fn times_once_and_in_order() {
        let mut into = buffer(&[(1, 1.0), (5, 5.0), (9, 9.0)]);
        append_merged(&mut into, &mut buffer(&[(4, 4.0), (5, 0.0), (10, 10.0)]));
        assert_eq!(into.timestamps, [1, 4, 5, 9, 10]);
        assert_eq!(into.values, [1.0, 4.0, 5.0, 9.0, 10.0]);
        append_merged(&mut into, &mut buffer(&[(11, 11.0)]));
        append_merged(&mut into, &mut SampleBuffer::default());
        assert_eq!(into.timestamps.len(), 6);
    }
}
