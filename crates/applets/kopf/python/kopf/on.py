"""Decorators that make handlers of functions."""

import warnings

from kopf import _context
from kopf._dicts import parse_field
from kopf._filters import MetaFilterToken
from kopf._registry import Handler, get_default_registry, id_of
from kopf._resources import Selector


def _registered(registry, handler):
    (registry if registry is not None else get_default_registry()).add(handler)


def _verify(field, value, old, new, labels, annotations):
    if field is None and (value is not None or old is not None or new is not None):
        raise TypeError("value=, old= and new= say what a field must be, so field= is needed")
    if value is not None and (old is not None or new is not None):
        raise TypeError("either value= or old= and new= can be given, not both")
    for name, patterns in (('labels', labels), ('annotations', annotations)):
        for key, pattern in (patterns or {}).items():
            if pattern is None:
                raise ValueError(f"{name}[{key!r}] is None: say kopf.PRESENT or kopf.ABSENT")
            if not (isinstance(pattern, (str, MetaFilterToken)) or callable(pattern)):
                raise ValueError(f"{name}[{key!r}] is {pattern!r}: say a string, kopf.PRESENT, kopf.ABSENT or a function")


def _resource_decorator(kind, extra=()):
    """A decorator of handlers of objects; `extra` names its options beyond those that all have."""
    allowed = {'id', 'param', 'errors', 'timeout', 'retries', 'backoff', 'labels', 'annotations', 'when', 'field',
               'value', 'group', 'version', *Selector.NAMES, *extra}

    def decorator_of(arg1=None, arg2=None, arg3=None, /, *, registry=None, **options):
        unknown = set(options) - allowed
        if unknown:
            raise TypeError(f"kopf.on.{kind}() has no option {sorted(unknown)[0]!r}")
        named = {name: options.pop(name, None) for name in ('group', 'version', *Selector.NAMES)}
        _verify(options.get('field'), options.get('value'), options.get('old'), options.get('new'),
                options.get('labels'), options.get('annotations'))
        selector = Selector(arg1, arg2, arg3, **named)
        id, field = options.pop('id', None), parse_field(options.pop('field', None)) or None

        def decorator(fn):
            _registered(registry, Handler(kind, fn, id if id is not None else id_of(fn), selector, field=field,
                                          **options))
            return fn
        return decorator

    decorator_of.__name__ = decorator_of.__qualname__ = kind
    return decorator_of


def _activity_decorator(kind):
    def decorator_of(*, id=None, registry=None, **options):
        unknown = set(options) - {'param', 'errors', 'timeout', 'retries', 'backoff'}
        if unknown:
            raise TypeError(f"kopf.on.{kind}() has no option {sorted(unknown)[0]!r}")

        def decorator(fn):
            _registered(registry, Handler(kind, fn, id if id is not None else id_of(fn), **options))
            return fn
        return decorator

    decorator_of.__name__ = decorator_of.__qualname__ = kind
    return decorator_of


startup = _activity_decorator('startup')
cleanup = _activity_decorator('cleanup')
login = _activity_decorator('login')
probe = _activity_decorator('probe')

create = _resource_decorator('create')
update = _resource_decorator('update', ('old', 'new'))
delete = _resource_decorator('delete', ('optional',))
resume = _resource_decorator('resume', ('deleted',))
event = _resource_decorator('event')
index = _resource_decorator('index')
timer = _resource_decorator('timer', ('interval', 'initial_delay', 'idle', 'sharp'))
daemon = _resource_decorator('daemon', (
    'initial_delay', 'cancellation_backoff', 'cancellation_timeout', 'cancellation_polling'))
validate = _resource_decorator('validate', (
    'operation', 'operations', 'subresource', 'persistent', 'side_effects', 'ignore_failures'))
mutate = _resource_decorator('mutate', (
    'operation', 'operations', 'subresource', 'persistent', 'side_effects', 'ignore_failures'))

_field = _resource_decorator('field', ('old', 'new'))


def field(*args, field, **options):
    """A handler of whatever changes one field."""
    if not parse_field(field):
        raise TypeError("kopf.on.field() needs the name of a field")
    return _field(*args, field=field, **options)


def subhandler(*, id=None, param=None, errors=None, timeout=None, retries=None, backoff=None, labels=None,
               annotations=None, when=None, field=None, value=None, old=None, new=None):
    """A part of the handler that is running."""
    _verify(field, value, old, new, labels, annotations)

    def decorator(fn):
        call = _context.call()
        if call is None or call.parts is None:
            raise LookupError("kopf.subhandler() is used within a handler that reacts to changes")
        call.parts.append(Handler(
            'sub', fn, id if id is not None else id_of(fn), param=param, errors=errors,
            timeout=timeout, retries=retries, backoff=backoff, labels=labels, annotations=annotations, when=when,
            field=parse_field(field) or None, value=value, old=old, new=new))
        return fn
    return decorator


def register(fn, *, id=None, **options):
    """The same for a function that is made elsewhere."""
    return subhandler(id=id, **options)(fn)


def this(*args, **kwargs):
    warnings.warn("kopf.on.this() is now called kopf.subhandler()", DeprecationWarning)
    return subhandler(*args, **kwargs)
