//! Follows the store's log and hands its points to shards, in the order of each series.
//!
//! Runs on a blocking thread: it reads files, and waits when shards are full.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use gantry_clock::Clock;
use gantry_prom_model::{FloatHistogram, Labels};
use gantry_tsdb::wal::{self, Place, Record, RecordKind, SegmentedReader, Tail, decode, record_kind};
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use super::metrics::Instruments;
use super::shard::{Common, Shard};
use super::{Connect, Protocol, SenderOptions, place};
use crate::write::message::{Outgoing, Point};

/// Bytes of the log that are read between two looks at everything else.
const LOOK_BYTES: u64 = 1 << 20;
/// Pause when the log has nothing new.
const IDLE: Duration = Duration::from_millis(100);
/// Between two writes of the place.
const KEEP_EVERY: Duration = Duration::from_secs(5);
/// Between two thoughts about the number of shards.
const RESHARD_EVERY: Duration = Duration::from_secs(10);
/// Places that are remembered until all before them is settled.
const MAX_MARKS: usize = 1000;

/// A series of the log.
struct Known {
    /// As the receiver sees it; `None` when relabelling drops it.
    labels: Option<Labels>,
    /// The segment that said so last.
    segment: u32,
}

/// A place, and how many points each shard had been given there.
struct Mark {
    place: Place,
    given: Vec<u64>,
}

pub(super) struct Follow {
    options: SenderOptions,
    common: Arc<Common>,
    instruments: Instruments,
    stop: CancellationToken,
    series: HashMap<u64, Known>,
    shards: Vec<Shard>,
    given: Vec<u64>,
    marks: VecDeque<Mark>,
    /// Where all before is settled.
    settled: Option<Place>,
    /// Samples before this are of a time before the queue was there.
    from_ms: i64,
    /// The end came while points were handed over: the rest is for the next start.
    is_cut: bool,
    newest_ms: i64,
    last_checkpoint: Option<u32>,
    incoming: u64,
}

impl Follow {
    pub(super) fn new(
        options: SenderOptions,
        connect: Connect,
        clock: Arc<dyn Clock>,
        instruments: Instruments,
        stop: CancellationToken,
    ) -> Follow {
        let common = Common {
            protocol: options.protocol,
            queue: options.queue,
            url: options.url.clone(),
            connect,
            clock,
            instruments: instruments.clone(),
            metadata: RwLock::default(),
            busy_nanos: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            highest_ms: AtomicI64::new(i64::MIN),
            abort: CancellationToken::new(),
            seed: options.seed,
        };
        instruments.min.set(options.queue.min_shards as f64);
        instruments.max.set(options.queue.max_shards as f64);
        Follow {
            options,
            common: Arc::new(common),
            instruments,
            stop,
            series: HashMap::new(),
            shards: Vec::new(),
            given: Vec::new(),
            marks: VecDeque::new(),
            settled: None,
            from_ms: i64::MIN,
            is_cut: false,
            newest_ms: i64::MIN,
            last_checkpoint: None,
            incoming: 0,
        }
    }

    pub(super) fn run(mut self, runtime: &Handle) {
        let begin = match self.begin() {
            Ok(begin) => begin,
            Err(error) => {
                tracing::error!(queue = %self.options.name, %error, "the log cannot be read, nothing is sent");
                return;
            }
        };
        {
            // After the end, what is under way has this long.
            let (stop, abort) = (self.stop.clone(), self.common.abort.clone());
            let deadline = self.options.flush_deadline;
            runtime.spawn(async move {
                stop.cancelled().await;
                tokio::time::sleep(deadline).await;
                abort.cancel();
            });
        }
        self.start_shards(self.options.queue.min_shards.max(1), runtime);
        let mut tail = Tail::new(&self.options.wal_dir, begin);
        let clock = self.common.clock.clone();
        let (mut kept_at, mut resharded_at) = (clock.monotonic(), clock.monotonic());
        let mut told_at: Option<Duration> = None;
        let mut was_behind = false;
        while !self.stop.is_cancelled() {
            let now = clock.monotonic();
            self.refresh_metadata(now, &mut told_at);
            was_behind |= !self.follow(&mut tail, runtime);
            self.settle();
            let now = clock.monotonic();
            if now.saturating_sub(kept_at) >= KEEP_EVERY {
                kept_at = now;
                self.keep();
                self.forget_series(tail.place());
            }
            if now.saturating_sub(resharded_at) >= RESHARD_EVERY {
                let window = now.saturating_sub(resharded_at);
                resharded_at = now;
                self.reshard(window, std::mem::take(&mut was_behind), runtime);
            }
        }
        self.finish_shards(runtime);
        self.keep();
    }

    /// Where to begin, with the series that the log names before it.
    fn begin(&mut self) -> Result<Place, wal::WalError> {
        let dir = self.options.wal_dir.clone();
        let segments = wal::list_segments(&dir)?;
        let last = segments.last().map_or(0, |segment| segment.index);
        let kept = place::load(&self.options.place_file).filter(|kept| kept.segment <= last);
        let begin = match kept {
            Some(kept) => kept,
            None => {
                self.from_ms = self.common.clock.now_ms();
                Place { segment: last, offset: 0 }
            }
        };
        self.settled = kept;
        if let Some((checkpoint, index)) = wal::last_checkpoint(&dir)? {
            self.last_checkpoint = Some(index);
            self.read_series(&checkpoint, index)?;
        }
        let Some(first) = segments.first() else { return Ok(begin) };
        let mut tail = Tail::new(&dir, Place { segment: first.index, offset: 0 });
        while tail.place() < begin {
            let left = match tail.place().segment == begin.segment {
                true => begin.offset - tail.place().offset,
                false => LOOK_BYTES,
            };
            let followed =
                tail.follow(left.min(LOOK_BYTES), |segment, bytes| self.note_series(bytes, segment))?;
            if followed.records == 0 && followed.skipped_segments == 0 {
                break;
            }
        }
        Ok(begin)
    }

    /// Reads the series of a checkpoint.
    fn read_series(&mut self, dir: &Path, segment: u32) -> Result<(), wal::WalError> {
        SegmentedReader::open(dir, 0)?.for_each(|bytes| {
            self.note_series(bytes, segment);
            Ok(())
        })
    }

    fn note_series(&mut self, bytes: &[u8], segment: u32) {
        if record_kind(bytes) != Some(RecordKind::Series) {
            return;
        }
        let Ok(Record::Series(found)) = decode(bytes) else { return };
        for record in found {
            let labels = Labels::from_pairs(record.labels.iter().copied());
            let known = self.series.entry(record.series);
            known
                .and_modify(|known| known.segment = known.segment.max(segment))
                .or_insert_with(|| Known { labels: outgoing_labels(&self.options, &labels), segment });
        }
    }

    /// Hands over what is new; `true` when there is nothing more for now.
    fn follow(&mut self, tail: &mut Tail, runtime: &Handle) -> bool {
        let followed = tail.follow(LOOK_BYTES, |segment, bytes| self.hand_over(bytes, segment, runtime));
        let followed = match followed {
            Ok(followed) => followed,
            Err(error) => {
                tracing::error!(queue = %self.options.name, %error, "the log cannot be read; it is tried again");
                self.pause(runtime, Duration::from_secs(1));
                return true;
            }
        };
        if followed.skipped_segments > 0 {
            self.instruments.skipped.inc_by(u64::from(followed.skipped_segments));
            tracing::error!(
                queue = %self.options.name,
                segments = followed.skipped_segments,
                "the log was shortened before all of it was sent: the receiver is too slow or was away too long"
            );
            // Their series live on in the checkpoint.
            if let Ok(Some((checkpoint, index))) = wal::last_checkpoint(&self.options.wal_dir) {
                let _ = self.read_series(&checkpoint, index);
            }
        }
        if followed.records == 0 {
            self.pause(runtime, IDLE);
            return true;
        }
        if !self.is_cut {
            if self.marks.len() >= MAX_MARKS {
                self.marks.pop_back();
            }
            self.marks.push_back(Mark { place: tail.place(), given: self.given.clone() });
        }
        false
    }

    fn pause(&self, runtime: &Handle, pause: Duration) {
        runtime.block_on(async {
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        });
    }

    fn hand_over(&mut self, bytes: &[u8], segment: u32, runtime: &Handle) {
        if self.is_cut {
            return;
        }
        match decode(bytes) {
            Ok(Record::Series(_)) => self.note_series(bytes, segment),
            Ok(Record::Samples(samples)) => {
                for sample in samples {
                    self.push(sample.series, sample.t, Point::Float(sample.v), runtime);
                }
            }
            Ok(Record::Histograms(histograms)) => {
                for record in histograms {
                    let (series, t) = (record.series, record.t);
                    if self.options.send_native_histograms {
                        let histogram: FloatHistogram = gantry_tsdb::float_histogram(record);
                        self.push(series, t, Point::Histogram(Arc::new(histogram)), runtime);
                    }
                }
            }
            Ok(Record::Exemplars(exemplars)) if self.options.send_exemplars => {
                for record in exemplars {
                    let own = Labels::from_pairs(record.labels.iter().copied());
                    self.push(record.series, record.t, Point::Exemplar(own, record.v), runtime);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(queue = %self.options.name, %error, "a record of the log is damaged")
            }
        }
    }

    fn push(&mut self, series: u64, timestamp_ms: i64, point: Point, runtime: &Handle) {
        if self.is_cut {
            return;
        }
        let labels = match self.series.get(&series) {
            Some(Known { labels: Some(labels), .. }) if timestamp_ms >= self.from_ms => labels.clone(),
            _ => {
                if timestamp_ms >= self.from_ms {
                    self.instruments.dropped.inc();
                }
                return;
            }
        };
        self.newest_ms = self.newest_ms.max(timestamp_ms);
        self.incoming += 1;
        // A series' reference stays as long as the process runs, and with it the shard.
        let shard = usize::try_from(labels.stable_hash() % self.shards.len().max(1) as u64).unwrap_or(0);
        let Some(Shard { channel, .. }) = self.shards.get(shard) else { return };
        let outgoing = Outgoing { labels, timestamp_ms, point };
        let is_taken = match channel.try_send(outgoing) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(outgoing)) => runtime.block_on(async {
                tokio::select! {
                    biased;
                    sent = channel.send(outgoing) => sent.is_ok(),
                    () = self.stop.cancelled() => false,
                }
            }),
        };
        if is_taken {
            self.given[shard] += 1;
            self.instruments.pending.add(1.0);
        } else {
            self.is_cut = true;
        }
    }

    fn start_shards(&mut self, count: usize, runtime: &Handle) {
        self.shards = (0..count).map(|number| Shard::start(self.common.clone(), number, runtime)).collect();
        self.given = vec![0; count];
        self.instruments.shards.set(count as f64);
    }

    /// Lets the shards send what they have and ends them.
    fn finish_shards(&mut self, runtime: &Handle) {
        let mut done = Vec::new();
        for Shard { channel, done: settled, task } in std::mem::take(&mut self.shards) {
            drop(channel);
            done.push((settled, task));
        }
        let mut settled = Vec::new();
        for (count, task) in done {
            let _ = runtime.block_on(task);
            settled.push(count.load(Ordering::Acquire));
        }
        self.settle_with(&settled);
        self.marks.clear();
        self.instruments.pending.set(0.0);
    }

    fn settle(&mut self) {
        let settled: Vec<u64> = self.shards.iter().map(|shard| shard.done.load(Ordering::Acquire)).collect();
        self.settle_with(&settled);
    }

    fn settle_with(&mut self, settled: &[u64]) {
        while let Some(mark) = self.marks.front() {
            if mark.given.iter().zip(settled).any(|(given, settled)| settled < given) {
                return;
            }
            self.settled = Some(mark.place);
            self.marks.pop_front();
        }
    }

    fn keep(&self) {
        let Some(settled) = self.settled else { return };
        if let Err(error) = place::store(&self.options.place_file, settled) {
            tracing::error!(
                file = %self.options.place_file.display(),
                %error,
                "it cannot be kept how far the receiver has answered; after a restart samples are sent again"
            );
        }
    }

    /// Lets go of series that a newer checkpoint does not have.
    fn forget_series(&mut self, at: Place) {
        let Ok(Some((dir, index))) = wal::last_checkpoint(&self.options.wal_dir) else { return };
        if self.last_checkpoint.is_some_and(|last| last >= index) || at.segment <= index {
            return;
        }
        if let Err(error) = self.read_series(&dir, index.saturating_add(1)) {
            tracing::warn!(queue = %self.options.name, %error, "a checkpoint cannot be read");
            return;
        }
        self.last_checkpoint = Some(index);
        self.series.retain(|_, known| known.segment > index);
    }

    fn refresh_metadata(&self, now: Duration, told_at: &mut Option<Duration>) {
        let Some(how) = self.options.metadata.filter(|_| self.options.protocol == Protocol::V2) else {
            return;
        };
        if told_at.is_some_and(|told| now.saturating_sub(told) < how.interval.min(Duration::from_secs(10))) {
            return;
        }
        *told_at = Some(now);
        let known = (self.options.metadata_source)().into_iter().collect();
        *self.common.metadata.write() = Arc::new(known);
    }

    /// Changes the number of shards when the rate of the last window needs clearly more or fewer.
    fn reshard(&mut self, window: Duration, was_behind: bool, runtime: &Handle) {
        let incoming = std::mem::take(&mut self.incoming) as f64;
        let settled = self.common.settled.swap(0, Ordering::AcqRel);
        let busy = self.common.busy_nanos.swap(0, Ordering::AcqRel);
        // A receiver that answers nothing does not get faster by more requests.
        if settled == 0 {
            return;
        }
        let behind_ms =
            if was_behind { self.common.clock.now_ms().saturating_sub(self.newest_ms).max(0) } else { 0 };
        let rate = incoming / window.as_secs_f64();
        let desired = desired_shards(rate, behind_ms as f64 / 1000.0, busy as f64 / 1e9 / settled as f64);
        self.instruments.desired.set(desired);
        let queue = &self.options.queue;
        let wanted = (desired.ceil() as usize).clamp(queue.min_shards.max(1), queue.max_shards.max(1));
        let current = self.shards.len() as f64;
        if wanted == self.shards.len() || (desired > current * 0.7 && desired < current * 1.3) {
            return;
        }
        tracing::info!(queue = %self.options.name, from = self.shards.len(), to = wanted, "shards are changed");
        self.finish_shards(runtime);
        if !self.stop.is_cancelled() {
            self.start_shards(wanted, runtime);
        }
    }
}

/// Shards that a rate (points per second) needs when one point takes `seconds`, and the log is `behind` seconds ahead.
fn desired_shards(rate: f64, behind: f64, seconds: f64) -> f64 {
    // A twentieth of what has piled up is to be caught up with in each second.
    seconds * (rate + 0.05 * rate * behind)
}

/// A series as the receiver sees it.
fn outgoing_labels(options: &SenderOptions, labels: &Labels) -> Option<Labels> {
    let mut builder = labels.to_builder();
    for (name, value) in options.external_labels.iter() {
        if builder.get(name).is_none() {
            builder.set(name, value);
        }
    }
    (options.relabel)(&builder.build()).filter(|labels| !labels.is_empty())
}

#[cfg(test)]
mod tests {
    use super::desired_shards;

    #[test]
    fn shards_follow_the_rate_and_what_has_piled_up() {
        assert_eq!(desired_shards(1000.0, 0.0, 0.001), 1.0);
        assert_eq!(desired_shards(1000.0, 60.0, 0.001), 4.0);
        assert_eq!(desired_shards(0.0, 60.0, 0.001), 0.0);
    }
}
