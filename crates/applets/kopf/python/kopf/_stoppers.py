"""How a daemon or timer learns that it has to end."""

import asyncio
import enum
import threading


class DaemonStoppingReason(enum.Flag):
    NONE = 0
    DONE = enum.auto()
    FILTERS_MISMATCH = enum.auto()
    RESOURCE_DELETED = enum.auto()
    OPERATOR_PAUSING = enum.auto()
    OPERATOR_EXITING = enum.auto()
    DAEMON_SIGNALLED = enum.auto()
    DAEMON_CANCELLED = enum.auto()
    DAEMON_ABANDONED = enum.auto()


class Stopper:
    """Set by the loop, waited for in threads and in the loop."""

    def __init__(self):
        self.reason = None
        self.in_threads = threading.Event()
        self.in_loop = asyncio.Event()

    def set(self, reason):
        self.reason = reason if self.reason is None else self.reason | reason
        self.in_threads.set()
        self.in_loop.set()


class DaemonStopped:
    """The `stopped` argument: true when it is time to end; `wait` returns then, or after the given seconds."""

    def __init__(self, stopper):
        self._stopper = stopper

    def __repr__(self):
        return f'<{type(self).__name__}: {bool(self)}, reason={self._stopper.reason}>'

    def __bool__(self):
        return self._stopper.in_threads.is_set()

    def is_set(self, reason=None):
        known = self._stopper.reason
        return bool(self) and (reason is None or (known is not None and bool(reason & known)))

    @property
    def reason(self):
        return self._stopper.reason


class SyncDaemonStopperChecker(DaemonStopped):
    def wait(self, timeout=None):
        self._stopper.in_threads.wait(timeout=timeout)
        return self


class AsyncDaemonStopperChecker(DaemonStopped):
    def wait(self, timeout=None):
        return self._wait(timeout)

    def __await__(self):
        return self._wait(None).__await__()

    async def _wait(self, timeout):
        try:
            await asyncio.wait_for(self._stopper.in_loop.wait(), timeout)
        except asyncio.TimeoutError:
            pass
        return self
