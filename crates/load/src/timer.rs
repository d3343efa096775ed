//! Precise sleeps for one thread: the runtime's own timers round up to a millisecond, which would show as latency
//! from the intended start; these are armed in nanoseconds on one timerfd.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use gantry_clock::Clock;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;

struct Sleeper {
    until: Duration,
    number: u64,
    waker: Waker,
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Sleeper) -> bool {
        (self.until, self.number) == (other.until, other.number)
    }
}
impl Eq for Sleeper {}
impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Sleeper) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Sleeper {
    fn cmp(&self, other: &Sleeper) -> std::cmp::Ordering {
        (self.until, self.number).cmp(&(other.until, other.number))
    }
}

/// The sleeping tasks of one thread; times are those of the clock's `monotonic`.
pub(crate) struct Timers {
    clock: Arc<dyn Clock>,
    fd: AsyncFd<OwnedFd>,
    sleepers: RefCell<BinaryHeap<Reverse<Sleeper>>>,
    numbers: Cell<u64>,
    armed: Cell<Option<Duration>>,
    /// Set once: nobody sleeps any more.
    ended: Cell<bool>,
}

impl Timers {
    /// Must be called within the runtime of the thread.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> io::Result<Rc<Timers>> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that may swap their descriptor; OwnedFd cannot"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Rc::new(Timers {
            clock,
            fd,
            sleepers: RefCell::default(),
            numbers: Cell::new(0),
            armed: Cell::new(None),
            ended: Cell::new(false),
        }))
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Returns at `until`, or at once after [`Timers::end`].
    pub(crate) async fn sleep_until(&self, until: Duration) {
        let number = self.numbers.get();
        self.numbers.set(number + 1);
        let mut queued = false;
        poll_fn(|context| {
            if self.ended.get() || self.now() >= until {
                return Poll::Ready(());
            }
            // A task sleeps in one place at a time, so its waker stays the one that was queued.
            if !queued {
                queued = true;
                let sleeper = Sleeper { until, number, waker: context.waker().clone() };
                self.sleepers.borrow_mut().push(Reverse(sleeper));
                if self.armed.get().is_none_or(|armed| until < armed) {
                    self.arm(until);
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Wakes everyone and lets nobody sleep from now on.
    pub(crate) fn end(&self) {
        self.ended.set(true);
        for sleeper in self.sleepers.borrow_mut().drain() {
            sleeper.0.waker.wake();
        }
    }

    fn arm(&self, until: Duration) {
        self.armed.set(Some(until));
        // Zero would disarm it.
        let wait = until.saturating_sub(self.now()).max(Duration::from_nanos(1));
        let value = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        if let Err(error) =
            rustix::time::timerfd_settime(self.fd.get_ref(), TimerfdTimerFlags::empty(), &spec)
        {
            tracing::error!(%error, "cannot arm the load timer");
        }
    }

    /// Wakes sleepers as their time comes; runs beside them on the same thread.
    pub(crate) async fn drive(&self) {
        loop {
            let Ok(mut ready) = self.fd.readable().await else { return };
            let mut expirations = [0_u8; 8];
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut expirations)?));
            if !matches!(read, Ok(Ok(_))) {
                continue;
            }
            drop(ready);
            self.wake_due();
        }
    }

    fn wake_due(&self) {
        let now = self.now();
        let mut sleepers = self.sleepers.borrow_mut();
        while let Some(Reverse(first)) = sleepers.peek() {
            if first.until > now {
                let until = first.until;
                drop(sleepers);
                self.arm(until);
                return;
            }
            if let Some(Reverse(sleeper)) = sleepers.pop() {
                sleeper.waker.wake();
            }
        }
        self.armed.set(None);
    }
}
