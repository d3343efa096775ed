"""Indices over objects: values by key, kept by the functions that `kopf.index` registers."""

from collections.abc import Collection, Mapping


class Store(Collection):
    """The values under one key, each contributed by an object."""

    def __init__(self):
        self._items = {}

    def __repr__(self):
        return repr(list(self._items.values()))

    def __bool__(self):
        return bool(self._items)

    def __len__(self):
        return len(self._items)

    def __iter__(self):
        return iter(self._items.values())

    def __contains__(self, value):
        return value in self._items.values()


class Index(Mapping):
    """Stores by key."""

    def __init__(self):
        self._stores = {}
        self._keys = {}

    def __repr__(self):
        return repr(self._stores)

    def __bool__(self):
        return bool(self._stores)

    def __len__(self):
        return len(self._stores)

    def __iter__(self):
        return iter(self._stores)

    def __getitem__(self, key):
        return self._stores[key]

    def __contains__(self, key):
        return key in self._stores

    def _replace(self, object_key, result):
        values = result if isinstance(result, Mapping) else {None: result}
        former = self._keys.get(object_key, set())
        for key, value in values.items():
            self._stores.setdefault(key, Store())._items[object_key] = value
        self._keys[object_key] = former | set(values)
        self._drop(object_key, former - set(values))

    def _discard(self, object_key):
        self._drop(object_key, set(self._keys.get(object_key, ())))

    def _drop(self, object_key, keys):
        for key in keys:
            store = self._stores[key]
            store._items.pop(object_key, None)
            if not store:
                del self._stores[key]
            self._keys[object_key].discard(key)
        if not self._keys.get(object_key, True):
            del self._keys[object_key]
