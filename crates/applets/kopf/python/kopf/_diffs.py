"""Differences between two states, as the engine has found them."""

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple


class DiffOperation(str, enum.Enum):
    ADD = 'add'
    CHANGE = 'change'
    REMOVE = 'remove'

    def __str__(self):
        return self.value

    def __repr__(self):
        return repr(self.value)


class DiffItem(NamedTuple):
    operation: DiffOperation
    field: tuple
    old: Any
    new: Any

    def __repr__(self):
        return repr(tuple(self))

    @property
    def op(self):
        return self.operation


class Diff(Sequence):
    """An unchangeable list of `(operation, field, old, new)`."""

    def __init__(self, items=()):
        self._items = tuple(DiffItem(DiffOperation(op), tuple(field), old, new) for op, field, old, new in items)

    def __repr__(self):
        return repr(self._items)

    def __len__(self):
        return len(self._items)

    def __getitem__(self, index):
        return self._items[index]

    def __eq__(self, other):
        return isinstance(other, Sequence) and self._items == tuple(other)

    def __hash__(self):
        return hash(self._items)
