"""Snapshot: everything reachable from some objects, remembered in place.

The walk follows attributes, slots, containers, closures and bound methods. What it meets is known to be
constant (a leaf), has a keeper, or is refused: then :attr:`Snapshot.reasons` names its path and type.
"""

from __future__ import annotations

import collections
import functools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import torch

from lightning_debug.callbacks._lightning_state import role
from lightning_debug.experiments._keepers import (
    Accessor,
    ClassAttributes,
    Face,
    Keeper,
    Mapping,
    Scripted,
    Sequence,
    Set,
    Slots,
    Storage,
    restore_versions,
)
from lightning_debug.experiments._kinds import ATOMS, accessor, blank, is_leaf, is_user_code, layout

LIMIT = 200_000
"""How many objects may be walked; beyond it the run is refused rather than held up."""

Path = tuple[Any, str]
"""A linked path: its parent and the last step."""


class Snapshot:
    """Remembers objects and, on :meth:`restore`, puts them back bit for bit.

    Args:
        offload: The device for copies of tensors; by default they stay where they are.
        limit: How many objects to walk at most.
    """

    def __init__(self, offload: str | None = None, limit: int = LIMIT) -> None:
        self.reasons: list[str] = []
        self.faces: list[Face] = []
        self._offload, self._limit = offload, limit
        self._keepers: list[Keeper] = []
        self._generators: list[Accessor] = []
        self._storages: dict[int, Storage | None] = {}
        self._seen: dict[int, Any] = {}
        self._stack: list[tuple[Any, Path, bool, bool]] = []
        self._later: list[tuple[Any, Path, bool, bool]] = []

    def add(self, root: Any, name: str, *, lenient: bool = False, copies: bool = True) -> None:
        """Remembers an object and all that it reaches.

        Args:
            root: Where to start.
            name: What to call it in reasons.
            lenient: Whether to pass over what cannot be put back instead of refusing.
            copies: Whether to copy tensors' bytes; without, only their identity is kept.
        """
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            self._push(root, (None, name), lenient, copies)
            while self._stack or self._later:
                if not self._stack:  # what is passed over in data must still be refused elsewhere
                    self._stack, self._later = self._later, []
                if len(self._seen) > self._limit:
                    self.reasons.append(f"more than {self._limit} objects are reachable from {name}")
                    self._stack, self._later = [], []
                    break
                self._visit(*self._stack.pop())

    def keep(self, keeper: Keeper) -> None:
        """Adds a keeper of one's own."""
        self._keepers.append(keeper)

    def restore(self) -> None:
        """Puts everything back.

        Raises:
            RuntimeError: If something could not be put back; all the rest was.
        """
        failed: list[str] = []
        with torch.no_grad(), torch.inference_mode(False), torch._C.DisableTorchFunctionSubclass():
            storages = [item for item in self._storages.values() if item is not None]
            for keeper in [*self._keepers, *self._generators, *self.faces, *storages]:
                try:
                    keeper.restore()
                except Exception as error:
                    failed.append(f"{type(keeper).__name__}: {error}")
            restore_versions(self.faces)
        if failed:
            raise RuntimeError(f"could not put back all of the run's state: {'; '.join(failed[:5])}")

    def reseed(self) -> None:
        """Puts only the random generators back."""
        for keeper in self._generators:
            keeper.restore()

    def clear_gradients(self) -> None:
        """Takes the gradients away; :meth:`restore` brings them back."""
        for face in self.faces:
            if face.grad is not None:
                face.target.grad = None

    def detach(self) -> None:
        """Cuts tensors that are held with their graph off it, so that no backward pass can run into it."""
        for keeper in self._keepers:
            if isinstance(keeper, (Mapping, Sequence)):
                values = [_detached(value) for value in keeper.values]
                if any(new is not old for new, old in zip(values, keeper.values, strict=True)):
                    _fill(keeper, values)

    def _push(self, value: Any, path: Path, lenient: bool, copies: bool) -> None:
        if type(value) not in ATOMS and id(value) not in self._seen:
            (self._later if lenient else self._stack).append((value, path, lenient, copies))

    def _push_all(self, values: Any, labels: Callable[[], Iterator[str]], path: Path, *flags: bool) -> None:
        if set(map(type, values)) <= ATOMS:  # a million strings take a glance
            return
        for label, value in zip(labels(), values, strict=False):
            self._push(value, (path, label), *flags)

    def _visit(self, value: Any, path: Path, *flags: bool) -> None:
        if type(value) in weakref.ProxyTypes:
            value = _referent(value)
        if id(value) in self._seen or blank(value):
            return
        self._seen[id(value)] = value
        if isinstance(value, torch.Tensor):
            self._tensor(value, path, *flags)
        elif isinstance(value, type):
            return
        elif is_leaf(value):
            return
        elif isinstance(value, torch.UntypedStorage):
            self._storage(value, flags[1])
        elif not self._function(value, path, *flags):
            self._object(value, path, *flags)

    def _object(self, value: Any, path: Path, lenient: bool, copies: bool) -> None:
        what = role(value)
        if what == "outside":
            return
        if what == "logger":
            self._refuse(value, path, lenient, "a logger, which would be written to")
            return
        lenient = lenient or what == "data"
        flags = (lenient, copies)
        found = accessor(value, copies=copies)
        if found is not None:
            keeper, generator = found
            if generator:
                self._generators.append(keeper)
            else:
                self._keepers.append(keeper)
            if isinstance(value, numpy.ndarray) and value.dtype.hasobject:
                self._push_all(value.ravel().tolist(), lambda: ("[...]" for _ in range(value.size)), path, *flags)
            return
        shape = layout(type(value))
        if shape is None:
            self._refuse(value, path, lenient, "")
            return
        if isinstance(value, torch.jit.ScriptModule):
            self._keepers.append(Scripted(value))
            for name, tensor in [*value.named_parameters(recurse=False), *value.named_buffers(recurse=False)]:
                self._push(tensor, (path, f".{name}"), *flags)
            for name, child in value.named_children():
                self._push(child, (path, f".{name}"), *flags)
            return
        self._contents(value, path, *flags)
        if shape.members:
            self._keepers.append(slots := Slots(value, shape.members))
            for member, item in slots.values:
                self._push(item, (path, f".{member.__name__}"), *flags)
        attributes = getattr(value, "__dict__", None)
        if type(attributes) is dict and attributes:
            self._entries(attributes, path, *flags, form=".{}")
        for kind in type(value).__mro__:
            if is_user_code(kind.__module__):
                self._class(kind, *flags)

    def _contents(self, value: Any, path: Path, *flags: bool) -> None:
        if isinstance(value, dict):
            self._entries(value, path, *flags, form="[{!r}]")
        elif isinstance(value, (list, collections.deque)):
            self._keepers.append(kept := Sequence(value))
            self._push_all(kept.values, lambda: (f"[{index}]" for index in range(len(kept.values))), path, *flags)
        elif isinstance(value, set):
            self._keepers.append(Set(value))
            self._push_all(tuple(value), lambda: ("{}" for _ in value), path, *flags)
        elif isinstance(value, (tuple, frozenset)):
            self._push_all(tuple(value), lambda: (f"[{index}]" for index in range(len(value))), path, *flags)

    def _entries(self, entries: dict[Any, Any], path: Path, *flags: bool, form: str) -> None:
        if id(entries) in self._seen and form.startswith("."):
            return
        self._seen[id(entries)] = entries
        self._keepers.append(kept := Mapping(entries))
        self._push_all(kept.values, lambda: (form.format(key) for key in kept.keys), path, *flags)
        self._push_all(kept.keys, lambda: (".key" for _ in kept.keys), path, *flags)

    def _class(self, kind: type, *flags: bool) -> None:
        if id(kind) in self._seen:
            return
        self._seen[id(kind)] = kind
        self._keepers.append(kept := ClassAttributes(kind))
        for name, value in kept.values.items():
            self._push(value, ((None, kind.__qualname__), f".{name}"), *flags)

    def _function(self, value: Any, path: Path, *flags: bool) -> bool:
        if isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self._push(part, path, *flags)
        elif isinstance(value, types.MethodType):
            self._push(value.__self__, (path, ".__self__"), *flags)
            self._push(value.__func__, path, *flags)
        elif isinstance(value, types.FunctionType):
            self.function(value, path, *flags)
        elif isinstance(value, (types.BuiltinMethodType, types.MethodWrapperType)):
            if not isinstance(value.__self__, (types.ModuleType, type)):
                self._push(value.__self__, (path, ".__self__"), *flags)
        elif isinstance(value, weakref.ref):
            self._push(value(), path, *flags)
        elif isinstance(value, (types.MappingProxyType, memoryview)):
            self._push(dict(value) if isinstance(value, types.MappingProxyType) else value.obj, path, *flags)
        else:
            return False
        return True

    def function(self, value: types.FunctionType, path: Path, *flags: bool) -> None:
        """Remembers what a function holds: closure, default values, attributes."""
        names = value.__code__.co_freevars
        for name, cell in zip(names, value.__closure__ or (), strict=False):
            if id(cell) not in self._seen:
                self._seen[id(cell)] = cell
                self._keepers.append(Accessor(*_cell(cell)))
                self._push(_cell(cell)[0](), (path, f".<{name}>"), *flags)
        for held in (value.__defaults__, value.__kwdefaults__, vars(value)):
            if held:
                self._push(held, path, *flags)

    def _tensor(self, value: torch.Tensor, path: Path, lenient: bool, copies: bool) -> None:
        if torch.nn.parameter.is_lazy(value):
            self._refuse(value, path, lenient, "not initialised yet")
            return
        if value.device.type == "meta":
            return
        try:
            for inner in _inner(value):
                self._push(inner, path, lenient, copies)
            if not _inner(value):
                self._storage(value.untyped_storage(), copies)
            self.faces.append(Face(value))
        except (RuntimeError, NotImplementedError) as error:
            self._refuse(value, path, lenient, str(error).splitlines()[0])
            return
        for name in ("__dict__", "_backward_hooks", "_post_accumulate_grad_hooks"):
            held = getattr(value, name, None)
            if held:
                self._push(held, (path, f".{name}"), lenient, copies)

    def _storage(self, storage: torch.UntypedStorage, copies: bool) -> None:
        if storage._cdata not in self._storages and storage.nbytes() and copies:
            self._storages[storage._cdata] = Storage(storage, self._offload)

    def _refuse(self, value: Any, path: Path, lenient: bool, why: str) -> None:
        if not lenient:
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            why = why or ("an iterator, whose position is lost" if hasattr(value, "__next__") else "not known here")
            self.reasons.append(f"{_render(path)} is a {kind}: {why}")


def _referent(proxy: Any) -> Any:
    try:
        return proxy.__repr__.__self__
    except ReferenceError:
        return None


def _render(path: Path | None) -> str:
    steps = []
    while path is not None:
        steps.append(path[1])
        path = path[0]
    return "".join(reversed(steps))


def _inner(value: torch.Tensor) -> list[torch.Tensor]:
    if torch.utils._python_dispatch.is_traceable_wrapper_subclass(value):
        names, _ = value.__tensor_flatten__()  # type: ignore[attr-defined]
        return [getattr(value, name) for name in names]
    if value.layout == torch.sparse_coo:
        return [value._indices(), value._values()]
    if value.layout != torch.strided and hasattr(value, "crow_indices"):
        rows = value.layout in (torch.sparse_csr, torch.sparse_bsr)
        index = (value.crow_indices(), value.col_indices()) if rows else (value.ccol_indices(), value.row_indices())
        return [*index, value.values()]
    return []


def _detached(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value if value.is_leaf else value.detach()
    if type(value) is tuple:
        items = [_detached(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else tuple(items)
    return value


def _fill(keeper: Mapping | Sequence, values: list[Any]) -> None:
    if isinstance(keeper, Mapping):
        for key, value in zip(keeper.keys, values, strict=True):
            keeper.base.__setitem__(keeper.target, key, value)
    else:
        for index, value in enumerate(values):
            keeper.target[index] = value


def _cell(cell: types.CellType) -> tuple[Callable[[], Any], Callable[[Any], None], Callable[..., bool]]:
    empty = _cell

    def read() -> Any:
        try:
            return cell.cell_contents
        except ValueError:
            return empty

    def write(value: Any) -> None:
        if value is empty:
            del cell.cell_contents
        else:
            cell.cell_contents = value

    return read, write, lambda first, second: first is second
