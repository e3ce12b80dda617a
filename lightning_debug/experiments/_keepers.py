"""Keepers: each remembers what one object holds now, and puts it back into the same object.

Putting back writes only where something differs, so that an untouched object stays untouched.
"""

from __future__ import annotations

import collections
import copy
import operator
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy
import torch

_MISSING = object()


class Keeper:
    """Remembers one object's state."""

    __slots__ = ()

    def restore(self) -> None:
        """Puts the state back."""


def same(first: Iterable[Any], second: Iterable[Any]) -> bool:
    """Whether two sequences of equal length hold the very same objects."""
    return all(map(operator.is_, first, second))


class Mapping(Keeper):
    """A dict of any kind, ``__dict__`` included: its entries and their order."""

    __slots__ = ("base", "keys", "target", "values")

    def __init__(self, target: dict[Any, Any]) -> None:
        self.target = target
        self.base: Any = collections.OrderedDict if isinstance(target, collections.OrderedDict) else dict
        self.keys, self.values = list(self.base.keys(target)), list(self.base.values(target))

    def restore(self) -> None:
        """Puts the entries back."""
        base, target = self.base, self.target
        untouched = base.__len__(target) == len(self.keys) and same(base.keys(target), self.keys)
        if not (untouched and same(base.values(target), self.values)):
            base.clear(target)
            self.fill(self.values)

    def fill(self, values: list[Any]) -> None:
        """Sets the entries to other values."""
        for key, value in zip(self.keys, values, strict=True):
            self.base.__setitem__(self.target, key, value)


EMPTY = frozenset({dict, collections.OrderedDict, set, list, collections.deque})
"""Kinds that :class:`Empties` takes."""


class Empties(Keeper):
    """All the containers that hold nothing, such as the dozen for hooks that each module has."""

    __slots__ = ("targets",)

    def __init__(self) -> None:
        self.targets: list[Any] = []

    def restore(self) -> None:
        """Empties them again."""
        for target in self.targets:
            if target:
                target.clear()


class Sequence(Keeper):
    """A list or a deque."""

    __slots__ = ("base", "target", "values")

    def __init__(self, target: Any) -> None:
        self.target = target
        self.base: Any = list if isinstance(target, list) else collections.deque
        self.values = list(self.base.__iter__(target))

    def restore(self) -> None:
        """Puts the items back."""
        base, target = self.base, self.target
        if base.__len__(target) != len(self.values) or not same(base.__iter__(target), self.values):
            self.fill(self.values)

    def fill(self, values: list[Any]) -> None:
        """Sets the items to other values."""
        self.base.clear(self.target)
        self.base.extend(self.target, values)


class Set(Keeper):
    """A set. The order in which a changed set is walked may differ afterwards from what it was."""

    __slots__ = ("target", "values")

    def __init__(self, target: set[Any]) -> None:
        self.target, self.values = target, list(set.__iter__(target))

    def restore(self) -> None:
        """Puts the members back."""
        if set.__len__(self.target) != len(self.values) or not same(set.__iter__(self.target), self.values):
            set.clear(self.target)
            for value in self.values:
                set.add(self.target, value)


class Slots(Keeper):
    """The values in an object's ``__slots__``."""

    __slots__ = ("target", "values")

    def __init__(self, target: Any, members: Iterable[types.MemberDescriptorType]) -> None:
        self.target = target
        self.values = [(member, _slot(target, member)) for member in members]

    def items(self) -> list[tuple[str, Any]]:
        """Names and values of the slots that are filled."""
        return [(member.__name__, value) for member, value in self.values if value is not _MISSING]

    def restore(self) -> None:
        """Puts the values back."""
        for member, value in self.values:
            if _slot(self.target, member) is value:
                continue
            if value is _MISSING:
                member.__delete__(self.target)
            else:
                member.__set__(self.target, value)


def _slot(target: Any, member: types.MemberDescriptorType) -> Any:
    try:
        return member.__get__(target, type(target))
    except AttributeError:
        return _MISSING


class Accessor(Keeper):
    """Anything with a way to read its state and a way to write it: random generators, buffers, frames."""

    __slots__ = ("equal", "read", "value", "write")

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], Any], equal: Callable[..., bool]) -> None:
        self.read, self.write, self.equal = read, write, equal
        self.value = read()

    def restore(self) -> None:
        """Writes the state back."""
        if not self.equal(self.read(), self.value):
            self.write(self.value)


class Cell(Keeper):
    """A variable that a function shares with the one around it (``nonlocal``)."""

    __slots__ = ("target", "value")

    def __init__(self, target: types.CellType) -> None:
        self.target, self.value = target, content(target)

    def restore(self) -> None:
        """Binds the variable again to what it was bound to."""
        if content(self.target) is self.value:
            return
        if self.value is _MISSING:
            del self.target.cell_contents
        else:
            self.target.cell_contents = self.value


def content(cell: types.CellType) -> Any:
    """What a cell holds, or a mark for nothing."""
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


class ClassAttributes(Keeper):
    """The data that a class of the user's holds itself: ``history = []``, ``count = 0``."""

    __slots__ = ("target", "values")

    def __init__(self, target: type) -> None:
        self.target, self.values = target, _class_data(target)

    def restore(self) -> None:
        """Binds the names again to what they were bound to."""
        now = _class_data(self.target)
        for name in now.keys() - self.values.keys():
            delattr(self.target, name)
        for name, value in self.values.items():
            if now.get(name, _MISSING) is not value:
                setattr(self.target, name, value)


def _class_data(kind: type) -> dict[str, Any]:
    return {
        name: value
        for name, value in list(vars(kind).items())
        if not name.startswith(("__", "_abc_")) and not isinstance(value, type) and not hasattr(type(value), "__get__")
    }


class Results(Keeper):
    """A function under ``functools.lru_cache``: that it has no results yet. Where it has some, more may stay.

    Attributes:
        any: Whether it has results.
    """

    __slots__ = ("any", "target")

    def __init__(self, target: Any) -> None:
        self.target, self.any = target, target.cache_info().currsize > 0

    def restore(self) -> None:
        """Forgets the results."""
        if not self.any and self.target.cache_info().currsize:
            self.target.cache_clear()


class Name(Keeper):
    """A variable of a module that a step's code reads or writes."""

    __slots__ = ("name", "target", "value")

    def __init__(self, target: dict[str, Any], name: str) -> None:
        self.target, self.name = target, name
        self.value = target.get(name, _MISSING)

    def restore(self) -> None:
        """Binds the name again to what it was bound to."""
        if self.target.get(self.name, _MISSING) is self.value:
            return
        if self.value is _MISSING:
            del self.target[self.name]
        else:
            self.target[self.name] = self.value


class Array(Keeper):
    """A numpy array's elements, bit for bit."""

    __slots__ = ("saved", "target")

    def __init__(self, target: numpy.ndarray[Any, Any]) -> None:
        self.target = target
        self.saved = target.view(numpy.ndarray).copy(order="K")

    def restore(self) -> None:
        """Writes the elements back where they differ."""
        if self.target.shape != self.saved.shape:
            self.target.resize(self.saved.shape, refcheck=False)
        now, saved = self.target.view(numpy.ndarray), self.saved
        if now.dtype.hasobject:
            if not same(now.flat, saved.flat):
                now[...] = saved
        elif now.tobytes() != saved.tobytes():
            numpy.copyto(now, saved)


class Scripted(Keeper):
    """The attributes of a TorchScript module, which live outside of Python."""

    __slots__ = ("target", "values")

    def __init__(self, target: Any) -> None:
        self.target = target
        self.values = {name: self._read(name) for name in target._concrete_type.get_attributes()}

    def _read(self, name: str) -> Any:
        value = self.target._c.getattr(name)
        return value if isinstance(value, torch.Tensor) else copy.deepcopy(value)

    def restore(self) -> None:
        """Sets the attributes that differ."""
        for name, value in self.values.items():
            now = self.target._c.getattr(name)
            if now is not value and (isinstance(value, torch.Tensor) or now != value):
                self.target._c.setattr(name, value if isinstance(value, torch.Tensor) else copy.deepcopy(value))
