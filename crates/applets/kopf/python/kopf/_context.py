"""What surrounds the code that runs now: the handler's call, the settings, the connection to the engine."""

from contextvars import ContextVar

#: The call of a handler that the current code runs in.
call_var = ContextVar('kopf_call')

_process = {}


def enter(worker, settings):
    """Once per process."""
    _process['worker'] = worker
    _process['settings'] = settings


def worker():
    try:
        return _process['worker']
    except KeyError:
        raise RuntimeError("this works only while `gantry kopf run` runs the handlers") from None


def settings():
    try:
        return _process['settings']
    except KeyError:
        raise RuntimeError("there are no settings before `gantry kopf run` runs the handlers") from None


def call():
    try:
        return call_var.get()
    except LookupError:
        return None
