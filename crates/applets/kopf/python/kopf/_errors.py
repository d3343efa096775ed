"""How a handler says that it failed, and what that means."""

import enum


class PermanentError(Exception):
    """Never to be tried again."""


class TemporaryError(Exception):
    """To be tried again after `delay` seconds."""

    def __init__(self, *args, delay=60):
        super().__init__(*args)
        self.delay = delay


class HandlerTimeoutError(PermanentError):
    """The handler's time is over."""


class HandlerRetriesError(PermanentError):
    """The handler's tries are over."""


class HandlerChildrenRetry(TemporaryError):
    """Sub-handlers are not done yet; nobody failed."""


class AdmissionError(PermanentError):
    """An object is refused."""

    def __init__(self, message='', code=500):
        super().__init__(message)
        self.code = code


class LoginError(Exception):
    """No credentials could be had."""


class ErrorsMode(enum.Enum):
    """What other exceptions mean."""
    IGNORED = enum.auto()
    TEMPORARY = enum.auto()
    PERMANENT = enum.auto()
