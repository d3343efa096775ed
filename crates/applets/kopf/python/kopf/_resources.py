"""Kinds of objects that the cluster serves, and how handlers say which they mean."""

import enum
import re

_VERSIONED = re.compile(r'[^.]*\.v\d+(?:(?:alpha|beta)\d+)?(?:\..*)?')


class Marker(enum.Enum):
    EVERYTHING = enum.auto()


EVERYTHING = Marker.EVERYTHING


class Resource:
    """One kind in one version."""

    __slots__ = ('group', 'version', 'plural', 'kind', 'singular', 'shortcuts', 'categories', 'subresources',
                 'namespaced', 'preferred', 'verbs')

    def __init__(self, group, version, plural, kind=None, singular=None, shortcuts=(), categories=(),
                 subresources=(), namespaced=None, preferred=True, verbs=()):
        self.group = group
        self.version = version
        self.plural = plural
        self.kind = kind
        self.singular = singular
        self.shortcuts = frozenset(shortcuts)
        self.categories = frozenset(categories)
        self.subresources = frozenset(subresources)
        self.namespaced = namespaced
        self.preferred = preferred
        self.verbs = frozenset(verbs)

    def _key(self):
        return self.group, self.version, self.plural

    def __hash__(self):
        return hash(self._key())

    def __eq__(self, other):
        return self._key() == other._key() if isinstance(other, Resource) else NotImplemented

    def __repr__(self):
        return f'{self.plural}.{self.version}.{self.group}'.strip('.')

    def __iter__(self):
        return iter(self._key())

    @property
    def api_version(self):
        return f'{self.group}/{self.version}'.strip('/')

    @property
    def name(self):
        return f'{self.plural}.{self.group}'.strip('.')

    def get_url(self, *, server=None, namespace=None, name=None, subresource=None, params=None):
        from urllib.parse import urlencode
        inner = ['namespaces', namespace] if self.namespaced and namespace is not None else []
        root = '/api' if self.group == '' else '/apis'
        parts = [root, self.group, self.version, *inner, self.plural, name, subresource]
        url = '/'.join(part for part in parts if part) + (f'?{urlencode(params)}' if params else '')
        return url if server is None else server.rstrip('/') + '/' + url.lstrip('/')


class Selector:
    """Up to three positional parts, or named ones: `'kex'`, `'pods.v1'`, `('example.com/v1', 'kexes')` …"""

    NAMES = ('kind', 'plural', 'singular', 'shortcut', 'category')

    def __init__(self, arg1=None, arg2=None, arg3=None, *, group=None, version=None, **names):
        self.group, self.version = group, version
        self.names = {name: value for name, value in names.items() if value is not None}
        self.any_name = None
        self.fn = None
        if callable(arg1):
            if arg2 is not None or arg3 is not None:
                raise TypeError("a function that selects resources cannot be joined by other selectors")
            self.fn = arg1
        elif arg3 is not None:
            self.group, self.version, self.any_name = arg1, arg2, arg3
        elif arg2 is not None:
            if '/' in arg1:
                self.group, _, self.version = arg1.rpartition('/')
            elif arg1 == 'v1':
                self.group, self.version = '', 'v1'
            else:
                self.group = arg1
            self.any_name = arg2
        elif isinstance(arg1, str) and _VERSIONED.fullmatch(arg1):
            self.any_name, self.version, *rest = arg1.split('.', 2)
            self.group = rest[0] if rest else self.group
        elif isinstance(arg1, str) and '.' in arg1:
            self.any_name, self.group = arg1.split('.', 1)
        else:
            self.any_name = arg1
        given = [*self.names.values(), *(part for part in (self.any_name, self.fn) if part is not None)]
        if len(given) > 1:
            raise TypeError(f"ambiguous: the resource is named more than once, by {given}")
        if not given:
            raise TypeError("unspecific: the resource is not named")
        if '' in given:
            raise TypeError("the name of a resource cannot be empty")

    def __repr__(self):
        parts = {'group': self.group, 'version': self.version, 'name': self.any_name, 'fn': self.fn, **self.names}
        return ', '.join(f'{key}={value!r}' for key, value in parts.items() if value is not None)

    def check(self, resource):
        if self.group is not None and self.group != resource.group:
            return False
        if self.version is None:
            if not resource.preferred and self.fn is None:
                return False
        elif self.version != resource.version:
            return False
        is_event = resource.plural == 'events' and resource.group in ('', 'events.k8s.io')
        for name, value in self.names.items():
            found = {'shortcut': resource.shortcuts, 'category': resource.categories}.get(name)
            if (value not in found) if found is not None else (value != getattr(resource, name)):
                return False
        if self.fn is not None:
            return bool(self.fn(resource)) and not is_event
        if self.any_name is EVERYTHING:
            return not is_event
        names = {resource.kind, resource.plural, resource.singular} | resource.shortcuts
        return self.any_name is None or self.any_name in names

    def select(self, resources):
        """Those that are meant; of several groups with the same name the core group wins."""
        found = [resource for resource in resources if self.check(resource)]
        specific = any(name != 'category' for name in self.names) or isinstance(self.any_name, str)
        core = [resource for resource in found if resource.group == ''] if specific else []
        return core or found
