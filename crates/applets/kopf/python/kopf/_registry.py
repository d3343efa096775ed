"""The handlers that the user's files declare."""

import enum
import functools
import inspect
from typing import NewType

from kopf._filters import MetaFilterToken, expect

HandlerId = NewType('HandlerId', str)

#: Kinds of handlers that react to changes, and so keep a record of how far they came.
CHANGING = ('create', 'update', 'delete', 'resume', 'field', 'sub')
ACTIVITIES = ('startup', 'cleanup', 'login', 'probe')


class Reason(str, enum.Enum):
    CREATE = 'create'
    UPDATE = 'update'
    DELETE = 'delete'
    RESUME = 'resume'
    NOOP = 'noop'
    FREE = 'free'
    GONE = 'gone'

    def __str__(self):
        return self.value


class Handler:
    """A function with its options."""

    OPTIONS = ('param', 'errors', 'timeout', 'retries', 'backoff', 'optional', 'deleted', 'initial_delay',
               'cancellation_backoff', 'cancellation_timeout', 'cancellation_polling', 'interval', 'idle', 'sharp')
    FILTERS = ('labels', 'annotations', 'when', 'field', 'value', 'old', 'new')

    def __init__(self, kind, fn, id, selector=None, **given):
        self.kind = kind
        self.fn = fn
        self.selector = selector
        for name in self.OPTIONS + self.FILTERS:
            setattr(self, name, given.get(name))
        #: Without the field, which the engine appends.
        self.own_id = id
        self.id = f"{id}/{'.'.join(self.field)}" if self.field else id

    def __repr__(self):
        return f'<{self.kind} handler {self.id!r}>'

    @property
    def asks(self):
        """Whether a filter can only be decided here."""
        patterns = [self.value, self.old, self.new, self.when,
                    *(self.labels or {}).values(), *(self.annotations or {}).values()]
        return any(callable(pattern) for pattern in patterns)

    def declare(self):
        """The handler as the engine is told of it."""
        def filters(patterns):
            # An absent label may still be what a function wants to see.
            return {key: expect(pattern) for key, pattern in (patterns or {}).items()}

        def value(pattern):
            return None if pattern is None else expect(pattern)

        return {
            'kind': self.kind,
            'id': self.own_id,
            'labels': filters(self.labels),
            'annotations': filters(self.annotations),
            'field': list(self.field) if self.field else None,
            'value': value(self.value), 'old': value(self.old), 'new': value(self.new),
            'asks': self.asks,
            'errors': None if self.errors is None else self.errors.name.lower(),
            'timeout': self.timeout, 'retries': self.retries, 'backoff': self.backoff,
            'optional': bool(self.optional), 'deleted': bool(self.deleted),
            'initial_delay': None if callable(self.initial_delay) else self.initial_delay,
            'asks_delay': callable(self.initial_delay),
            'cancellation_backoff': self.cancellation_backoff, 'cancellation_timeout': self.cancellation_timeout,
            'interval': self.interval, 'idle': self.idle, 'sharp': bool(self.sharp),
        }

    def accepts(self, call, with_changes):
        """What the filters say that are functions; the engine has asked all others."""
        kwargs = call.kwargs(self)
        meta = call.body.metadata
        for patterns, found in ((self.labels, meta.labels), (self.annotations, meta.annotations)):
            for key, pattern in (patterns or {}).items():
                if callable(pattern) and not pattern(found.get(key), **kwargs):
                    return False
        if callable(self.value) and not any(self.value(side, **kwargs) for side in call.sides(self.field)):
            return False
        if with_changes:
            for pattern, side in ((self.old, call.old), (self.new, call.new)):
                if callable(pattern) and not pattern(side, **kwargs):
                    return False
        return self.when is None or bool(self.when(**kwargs))

    def accepts_statically(self, body):
        """Filters of indices, which the engine leaves to this process."""
        meta = body.get('metadata') or {}
        for patterns, found in ((self.labels, meta.get('labels')), (self.annotations, meta.get('annotations'))):
            for key, pattern in (patterns or {}).items():
                if not callable(pattern) and not _is(pattern, (found or {}).get(key, _MISSING)):
                    return False
        if not self.field:
            return True
        from kopf._dicts import resolve
        side = resolve(body, self.field, _MISSING)
        if callable(self.value):
            return True
        return side is not _MISSING if self.value is None else _is(self.value, side)


_MISSING = object()


def _is(pattern, found):
    if isinstance(pattern, MetaFilterToken):
        return (found is not _MISSING) == (pattern is MetaFilterToken.PRESENT)
    return found is not _MISSING and found == pattern


class OperatorRegistry:
    def __init__(self):
        self.handlers = []

    def add(self, handler):
        self.handlers.append(handler)


_default = [OperatorRegistry()]


def get_default_registry():
    return _default[0]


def set_default_registry(registry):
    _default[0] = registry


def id_of(fn):
    """A name that is the same after a restart."""
    if isinstance(fn, functools.partial):
        return id_of(fn.func)
    if hasattr(fn, '__wrapped__'):
        return id_of(fn.__wrapped__)
    if getattr(fn, '__name__', None) == '<lambda>':
        return f'lambda:{fn.__code__.co_filename}:{fn.__code__.co_firstlineno}'
    if inspect.isroutine(fn):
        return getattr(fn, '__qualname__', None) or fn.__name__
    raise ValueError(f"a handler must be a function, not {fn!r}")


def is_async(fn):
    if isinstance(fn, functools.partial):
        return is_async(fn.func)
    if hasattr(fn, '__wrapped__'):
        return is_async(fn.__wrapped__)
    return inspect.iscoroutinefunction(fn)
