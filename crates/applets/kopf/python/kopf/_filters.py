"""Which objects a handler wants."""

import enum


class MetaFilterToken(enum.Enum):
    ABSENT = enum.auto()
    PRESENT = enum.auto()


ABSENT = MetaFilterToken.ABSENT
PRESENT = MetaFilterToken.PRESENT


def not_(fn):
    return lambda *args, **kwargs: not fn(*args, **kwargs)


def all_(fns):
    return lambda *args, **kwargs: all(fn(*args, **kwargs) for fn in fns)


def any_(fns):
    return lambda *args, **kwargs: any(fn(*args, **kwargs) for fn in fns)


def none_(fns):
    return lambda *args, **kwargs: not any(fn(*args, **kwargs) for fn in fns)


def expect(pattern):
    """A pattern as the engine is told it; what only Python can decide counts as anything there."""
    if pattern is PRESENT:
        return {'present': True}
    if pattern is ABSENT:
        return {'absent': True}
    if callable(pattern):
        return {'any': True}
    return {'is': pattern}
