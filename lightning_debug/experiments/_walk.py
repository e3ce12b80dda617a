"""Walk: finds everything reachable from some objects, and a keeper for each part of it.

The walk follows attributes, slots, containers, closures, bound methods, and the class attributes of the
user's classes. What it meets is known to be constant (a leaf), has a keeper, or is refused: then
:attr:`Walk.reasons` names its path and its type.
"""

from __future__ import annotations

import collections
import io
import itertools
import types
import weakref
from collections.abc import Sequence as Items
from typing import Any

import numpy
import torch

from lightning_debug.callbacks._lightning_state import role
from lightning_debug.experiments._keepers import (
    EMPTY,
    Cell,
    ClassAttributes,
    Empties,
    Keeper,
    Mapping,
    Name,
    Results,
    Scripted,
    Sequence,
    Set,
    Slots,
    content,
)
from lightning_debug.experiments._kinds import (
    ATOMS,
    REMEMBERING,
    accessor,
    draws,
    is_alive,
    is_atom,
    is_leaf,
    is_user_code,
    parts_of,
    referent,
    slots_of,
)
from lightning_debug.experiments._paths import Manner, Path, render
from lightning_debug.experiments._tensors import Face, Storage, inner_tensors

LIMIT = 200_000
"""How many objects may be walked; beyond it the run is refused rather than held up."""

LARGE, MANY, SAMPLES = 1 << 26, 1 << 12, 20_000
"""What is taken for constant in data: arrays of so many bytes, items of containers of more, objects beyond so many."""


class Walk:
    """Collects keepers of all that is reachable.

    Args:
        offload: Device for copies of tensors; by default they stay where they are.
        limit: How many objects to walk at most.
        asked: Whether data will be asked. Then samples of large data are walked, too, and iterators always refused.
    """

    def __init__(self, offload: str | None = None, limit: int = LIMIT, *, asked: bool = False) -> None:
        self.reasons: list[str] = []
        self._empties = Empties()
        self.keepers: list[Keeper] = [self._empties]
        self.generators: list[Keeper] = []
        self.faces: list[Face] = []
        self.storages: dict[int, Storage] = {}
        self.classes: dict[type, None] = {}
        self.data_classes: dict[type, None] = {}
        self.functions: list[types.FunctionType] = []
        self.holders: list[Mapping | Sequence] = []
        self.attached = False
        self._offload, self._limit, self._asked = offload, limit, asked
        self._many, self._samples = (limit, limit) if asked else (MANY, SAMPLES)
        self._seen: dict[int, Any] = {}
        self._stack: list[tuple[Any, Path, Manner]] = []
        self._later: collections.deque[tuple[Any, Path, Manner]] = collections.deque()

    def walk(self, root: Any, name: str, manner: Manner) -> None:
        """Walks from one object; ``name`` is what reasons call it."""
        self._push(root, (None, name), manner)
        self._go()

    def kind(self, kind: type, manner: Manner) -> None:
        """Walks from what a class of the user's holds itself."""
        self._class(kind, manner)
        self._go()

    def _go(self) -> None:
        samples = 0
        while self._stack or self._later:
            # what is passed over in data must still be refused where it is met elsewhere; counters lie above samples
            value, path, how = self._stack.pop() if self._stack else self._later.popleft()
            samples += how.lenient
            if how.lenient and samples > self._samples:
                self._later.clear()
            elif len(self._seen) > self._limit:
                self._refuse(value, path, how, f"beyond the {self._limit} objects that are looked at")
                self._stack.clear()
            else:
                self._meet(referent(value) if type(value) in weakref.ProxyTypes else value, path, how)

    def _meet(self, value: Any, path: Path, how: Manner) -> None:
        if id(value) not in self._seen:
            self._seen[id(value)] = value
            try:
                self._visit(value, path, how)
            except Exception as error:  # an object that answers no questions
                self._refuse(value, path, how, f"{type(error).__name__}: {error}".splitlines()[0])

    def variable(self, namespace: dict[str, Any], name: str, label: str, manner: Manner) -> None:
        """Walks from a module's variable and remembers what it is bound to."""
        self.keepers.append(Name(namespace, name))
        self.walk(namespace.get(name), label, manner)

    def function(self, value: types.FunctionType, path: Path, how: Manner) -> None:
        """Collects what a function holds: variables shared with the one around it, defaults, attributes."""
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            if id(cell) not in self._seen:
                self._seen[id(cell)] = cell
                self.keepers.append(Cell(cell))
                self._push(content(cell), (path, f".<{name}>"), how)
        for held in (value.__defaults__, value.__kwdefaults__, value.__dict__):
            self._push(held, path, how)

    def _push(self, value: Any, path: Path, how: Manner) -> None:
        if not is_atom(value) and id(value) not in self._seen:
            (self._later if how.lenient else self._stack).append((value, path, how))

    def _push_all(self, values: Any, form: str, path: Path, how: Manner, keys: Items[Any] | None = None) -> bool:
        """Pushes what is worth a look; whether anything is. A label is written only when shown: keys may be tensors."""
        kinds = {*map(type, values)}  # a million strings, or pairs of them, take a glance
        if kinds <= ATOMS or (how.lenient and len(values) > self._many):
            return False
        if kinds == {tuple} and ATOMS.issuperset(map(type, itertools.chain.from_iterable(values))):
            return False
        for index, value in enumerate(values):
            if type(value) in EMPTY and not value:
                self._empties.targets.append(value)
            elif not self._plain(value):
                self._push(value, (path, (form, index if keys is None else keys[index])), how)
        return True

    def _plain(self, value: Any) -> bool:
        """Takes a list or dict of atoms, and a tuple of these, such as samples are; whether it was one."""
        kind = type(value)
        if kind in ATOMS:
            return True
        if kind in (tuple, frozenset):
            return all(map(self._plain, value))
        items = value if kind is list else itertools.chain(value, value.values()) if kind is dict else (self,)
        if not ATOMS.issuperset(map(type, items)) or len(self._seen) > self._limit:
            return False
        if id(value) not in self._seen:
            self._seen[id(value)] = value
            self.keepers.append(Sequence(value) if kind is list else Mapping(value))
        return True

    def _visit(self, value: Any, path: Path, how: Manner) -> None:
        if isinstance(value, torch.Tensor):
            self._tensor(value, path, how)
        elif isinstance(value, torch.UntypedStorage):
            self._storage(value, how)
        elif is_leaf(value):
            if isinstance(value, REMEMBERING) and is_user_code(value.__module__):
                self.keepers.append(kept := Results(value))
                if kept.any and self._asked:
                    self._refuse(value, path, Manner(), "it keeps results")
        elif not self._callable(value, path, how):
            kind: Any = type(value)
            what = role(kind)
            if what == "logger":
                self._refuse(value, path, how, "a logger, which a step would write to")
            elif what == "loading" or (what == "loader" and getattr(value, "_iterator", None) is not None):
                self._refuse(value, path, how, "in the middle of loading data")
            elif what != "outside":
                self._object(value, path, Manner(how.lenient or what in ("data", "loader"), how.copies))

    def _callable(self, value: Any, path: Path, how: Manner) -> bool:
        if isinstance(value, types.FunctionType):
            self.functions += [value] * (self._asked or not how.lenient)
            self.function(value, path, how)
            return True
        parts = parts_of(value)
        for part in parts or ():
            self._class(part, how) if isinstance(part, type) else self._push(part, path, how)
        return parts is not None

    def _object(self, value: Any, path: Path, how: Manner) -> None:
        if isinstance(value, numpy.ndarray) and self._array(value, path, how):
            return
        keeper = accessor(value)
        if keeper is not None:
            (self.generators if draws(value) else self.keepers).append(keeper)
            return
        kind: Any = type(value)
        slots = slots_of(kind)
        if slots is None or is_alive(value):
            self._refuse(value, path, how, "")
            return
        if isinstance(value, torch.jit.ScriptModule):
            self._script(value, path, how)
            return
        self._contents(value, path, how)
        if slots:
            self.keepers.append(kept := Slots(value, slots))
            for name, item in kept.items():
                self._push(item, (path, f".{name}"), how)
        attributes = getattr(value, "__dict__", None)
        if type(attributes) is dict:
            self._seen[id(attributes)] = attributes
            self._entries(attributes, ".{}", path, how)
        for one in kind.__mro__:
            self._class(one, how)

    def _contents(self, value: Any, path: Path, how: Manner) -> None:
        if isinstance(value, dict):
            self._entries(value, "[{!r}]", path, how)
        elif isinstance(value, (list, collections.deque)):
            self.keepers.append(kept := Sequence(value))
            if self._push_all(kept.values, "[{}]", path, how):
                self.holders.append(kept)
        elif isinstance(value, set):
            self.keepers.append(members := Set(value))
            self._push_all(members.values, "{{{}}}", path, how)
        elif isinstance(value, (tuple, frozenset)):
            self._push_all(tuple(value), "[{}]", path, how)

    def _entries(self, entries: dict[Any, Any], form: str, path: Path, how: Manner) -> None:
        self.keepers.append(kept := Mapping(entries))
        if self._push_all(kept.values, form, path, how, kept.keys):
            self.holders.append(kept)
        self._push_all(kept.keys, ".keys[{}]", path, how)

    def _class(self, kind: type, how: Manner) -> None:
        if is_user_code(kind.__module__):
            (self.data_classes if how.lenient else self.classes)[kind] = None
        if is_user_code(kind.__module__) and id(kind) not in self._seen:
            self._seen[id(kind)] = kind
            self.keepers.append(kept := ClassAttributes(kind))
            keeping = [item for item in vars(kind).items() if isinstance(item[1], REMEMBERING)]
            for name, value in [*kept.values.items(), *keeping]:
                self._push(value, ((None, kind.__qualname__), f".{name}"), how)

    def _script(self, value: Any, path: Path, how: Manner) -> None:
        self.keepers.append(kept := Scripted(value))
        for name, item in [*kept.values.items(), *value.named_children()]:
            if isinstance(item, (torch.Tensor, torch.nn.Module)):
                self._push(item, (path, f".{name}"), how)

    def _array(self, value: Any, path: Path, how: Manner) -> bool:
        """Looks into an array of objects; whether the array itself needs no keeper."""
        if value.dtype.hasobject:
            self._push_all(value.ravel().tolist(), "[{}]", path, how)
        if hasattr(value, "__dict__") and not isinstance(value, numpy.memmap):
            self._push(value.__dict__, path, how)
        return not how.copies or (how.lenient and value.nbytes >= LARGE)

    def _tensor(self, value: torch.Tensor, path: Path, how: Manner) -> None:
        if torch.nn.parameter.is_lazy(value):
            self._refuse(value, path, how, "not initialised yet")
            return
        inner = inner_tensors(value)
        for part in inner:
            self._push(part, path, how)
        copied = bool(inner) or value.device.type == "meta" or self._storage(value.untyped_storage(), how)
        self.faces.append(face := Face(value, copied=copied))
        self.attached |= not face.leaf
        for name, item in face.held():
            self._push(item, (path, f".{name}"), how)

    def _storage(self, storage: torch.UntypedStorage, how: Manner) -> bool:
        """Copies a storage once; whether there is a copy, or no need of one."""
        constant = not how.copies or (how.lenient and storage.nbytes() >= LARGE)
        if storage.nbytes() and not constant and storage._cdata not in self.storages:
            self.storages[storage._cdata] = Storage(storage, self._offload)
        return not storage.nbytes() or storage._cdata in self.storages

    def _refuse(self, value: Any, path: Path, how: Manner, why: str) -> None:
        going = hasattr(value, "__next__")
        if not how.lenient or (self._asked and going and not isinstance(value, io.IOBase)):
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            why = why or ("an iterator, which cannot be set back" if going else "not known")
            self.reasons.append(f"{render(path)} ({kind}): {why}")
