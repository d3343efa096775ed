//! CPU work of a known size: rounds of a mixing function, counted at start in rounds per CPU millisecond.
//!
//! The work runs on threads of its own, so that probes and metrics are answered while all of them are busy.

use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for a work thread before new ones are refused.
const QUEUE: usize = 1024;

/// The queue of work is full.
#[derive(Debug)]
pub(crate) struct Busy;

/// Threads that each take one job at a time.
#[derive(Clone)]
pub(crate) struct Workers {
    jobs: Option<mpsc::Sender<oneshot::Sender<()>>>,
}

impl Workers {
    /// Measures this machine, then starts `threads` threads; each job costs `work_ms` of CPU time.
    pub(crate) fn start(threads: u16, work_ms: f64) -> std::io::Result<Workers> {
        if work_ms <= 0.0 {
            return Ok(Workers { jobs: None });
        }
        let rounds = (work_ms * rounds_per_ms()) as u64;
        let (sender, receiver) = mpsc::channel::<oneshot::Sender<()>>(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        for index in 0..threads {
            let receiver = receiver.clone();
            thread::Builder::new().name(format!("work-{index}")).stack_size(64 * 1024).spawn(move || {
                loop {
                    let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                    let Some(done) = job else { return };
                    // The client may have gone while it waited.
                    if !done.is_closed() {
                        black_box(mix(black_box(rounds)));
                    }
                    let _ = done.send(());
                }
            })?;
        }
        Ok(Workers { jobs: Some(sender) })
    }

    /// Returns when one job's worth of CPU has been spent.
    pub(crate) async fn work(&self) -> Result<(), Busy> {
        let Some(jobs) = &self.jobs else { return Ok(()) };
        let (done, finished) = oneshot::channel();
        jobs.try_send(done).map_err(|_| Busy)?;
        finished.await.map_err(|_| Busy)
    }
}

/// The value depends on `rounds` alone (SplitMix64's finaliser, applied to its own output).
fn mix(rounds: u64) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..rounds {
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    state
}

/// Measured in CPU time, so that a busy machine does not make the work smaller; the best of five is the one that
/// was disturbed least.
fn rounds_per_ms() -> f64 {
    const SAMPLE: u64 = 200_000;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let before = thread_cpu_time();
        black_box(mix(black_box(SAMPLE)));
        let took = thread_cpu_time().saturating_sub(before);
        best = best.min(took.max(Duration::from_nanos(1)));
    }
    SAMPLE as f64 / (best.as_secs_f64() * 1000.0)
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_depends_on_the_rounds_alone() {
        assert_eq!(mix(1000), mix(1000));
        assert_ne!(mix(1000), mix(1001));
    }

    #[test]
    fn more_work_takes_more_cpu_time() {
        let spent = |rounds| {
            let before = thread_cpu_time();
            black_box(mix(black_box(rounds)));
            thread_cpu_time() - before
        };
        assert!(spent(4_000_000) > spent(40_000));
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let workers = Workers::start(1, 0.1).unwrap();
        let jobs = workers.jobs.clone().unwrap();
        let mut accepted = Vec::new();
        // Far more than the queue holds, faster than the work is done.
        let refused = (0..QUEUE * 50).any(|_| {
            let (done, finished) = oneshot::channel();
            accepted.push(finished);
            jobs.try_send(done).is_err()
        });
        assert!(refused);
        accepted.pop();
        for finished in accepted {
            assert_eq!(finished.await, Ok(()));
        }
    }
}
