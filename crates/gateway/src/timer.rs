//! One timer per connection, moved lazily: a deadline that is kept costs no timer operation.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use tokio::time::{Instant, Sleep, sleep_until};

/// The deadline passed first.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("deadline passed")]
pub(crate) struct Elapsed;

pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    pub(crate) fn new() -> Timer {
        Timer { sleep: Box::pin(sleep_until(Instant::now())) }
    }

    /// Runs `work` until `deadline`.
    pub(crate) async fn limit<F: Future>(
        &mut self,
        deadline: Instant,
        work: F,
    ) -> Result<F::Output, Elapsed> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if self.sleep.deadline() > deadline {
                self.sleep.as_mut().reset(deadline);
            }
            // A timer set for an earlier deadline fires early and is then moved on.
            while self.sleep.as_mut().poll(cx).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(Elapsed));
                }
                self.sleep.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn deadlines_move_in_both_directions() {
        let mut timer = Timer::new();
        let never = std::future::pending::<()>;
        let far = Duration::from_secs(600);
        let soon = Duration::from_millis(5);
        assert_eq!(timer.limit(Instant::now() + far, async { 1 }).await, Ok(1));
        for _ in 0..3 {
            let deadline = Instant::now() + soon;
            assert_eq!(timer.limit(deadline, never()).await, Err(Elapsed));
            assert!(Instant::now() >= deadline);
            let nap = tokio::time::sleep(soon * 2);
            assert_eq!(timer.limit(Instant::now() + far, nap).await, Ok(()));
        }
    }
}
