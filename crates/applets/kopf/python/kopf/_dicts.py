"""Fields of nested dictionaries, and views of parts that may not be there."""

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Union

FieldPath = tuple
FieldSpec = Union[None, str, tuple, list]

_MISSING = object()


def parse_field(field):
    if field is None:
        return ()
    if isinstance(field, str):
        return tuple(field.split('.'))
    if isinstance(field, (list, tuple)):
        return tuple(field)
    raise ValueError(f"a field is a dotted string, a list or a tuple, not {field!r}")


def resolve(source, field, default=_MISSING):
    """The value at `field`; a missing one is `default`, or a KeyError without it."""
    found = source
    for key in parse_field(field):
        if not isinstance(found, Mapping):
            if default is _MISSING:
                raise TypeError(f"{key!r} is not in {found!r}, which is no mapping")
            return default
        try:
            found = found[key]
        except KeyError:
            if default is _MISSING:
                raise
            return default
    return found


def ensure(target, field, value):
    path = parse_field(field)
    if not path:
        raise ValueError("a field must be named to be set")
    place = target
    for key in path[:-1]:
        try:
            place = place[key]
        except KeyError:
            place = place.setdefault(key, {})
    place[path[-1]] = value


def walk(objs, nested=None):
    """Every object in lists of lists of objects, and the nested parts of each that are named."""
    if objs is None:
        return
    raw = getattr(objs, 'obj', None)
    if isinstance(raw, dict) and type(objs).__module__.split('.')[0] == 'pykube':
        yield from walk(raw, nested)
    elif isinstance(objs, Mapping):
        yield objs
        for field in nested or ():
            part = resolve(objs, field, None)
            if part is not None:
                yield part
    elif isinstance(objs, Iterable) and not isinstance(objs, (str, bytes)):
        for obj in objs:
            yield from walk(obj, nested)
    else:
        yield objs
        for field in nested or ():
            part = _resolve_model(objs, field)
            if part is not None:
                yield part


def _resolve_model(model, field):
    found = model
    for key in parse_field(field):
        if isinstance(found, Mapping):
            found = found.get(key)
        else:
            names = [name for name, json in getattr(found, 'attribute_map', {}).items() if json == key]
            found = getattr(found, names[0] if names else key, None)
        if found is None:
            return None
    return found


class MappingView(Mapping):
    """A part of a mapping, empty while it is not there."""

    def __init__(self, source, path=None):
        self._src = source
        self._path = parse_field(path)

    def _part(self):
        part = resolve(self._src, self._path, None)
        return part if isinstance(part, Mapping) else {}

    def __repr__(self):
        return repr(dict(self))

    def __len__(self):
        return len(self._part())

    def __iter__(self):
        return iter(self._part())

    def __getitem__(self, key):
        return self._part()[key]


class MutableMappingView(MappingView, MutableMapping):
    """A part of a mapping that is made when something is put into it."""

    def __setitem__(self, key, value):
        ensure(self._src, self._path + (key,), value)

    def __delitem__(self, key):
        del self._part()[key]
