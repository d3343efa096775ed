"""Changes that a handler wants made to its object."""

from typing import Callable

from kopf._dicts import MutableMappingView

PatchFn = Callable[[dict], None]


class MetaPatch(MutableMappingView):
    def __init__(self, source):
        super().__init__(source, 'metadata')
        self._labels = MutableMappingView(self, 'labels')
        self._annotations = MutableMappingView(self, 'annotations')

    @property
    def labels(self):
        return self._labels

    @property
    def annotations(self):
        return self._annotations


class Patch(dict):
    """A merge patch; `fns` are changes of the whole object, made when it is written."""

    def __init__(self, source=None, /, body=None, fns=()):
        super().__init__(source or {})
        self._meta = MetaPatch(self)
        self._spec = MutableMappingView(self, 'spec')
        self._status = MutableMappingView(self, 'status')
        self._original = body
        self._fns = list(getattr(source, 'fns', ())) + list(fns)

    def __bool__(self):
        return len(self) > 0 or bool(self._fns)

    def clear(self):
        super().clear()
        self._fns.clear()

    @property
    def fns(self):
        return self._fns

    @property
    def metadata(self):
        return self._meta

    @property
    def meta(self):
        return self._meta

    @property
    def spec(self):
        return self._spec

    @property
    def status(self):
        return self._status
