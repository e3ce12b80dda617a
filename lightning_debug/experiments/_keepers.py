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
        raise NotImplementedError


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
        if len(target) == len(self.keys):
            if same(base.keys(target), self.keys) and same(base.values(target), self.values):
                return
        base.clear(target)
        for key, value in zip(self.keys, self.values, strict=True):
            base.__setitem__(target, key, value)


class Sequence(Keeper):
    """A list or a deque."""

    __slots__ = ("base", "target", "values")

    def __init__(self, target: Any) -> None:
        self.target, self.values = target, list(target)
        self.base: Any = list if isinstance(target, list) else collections.deque

    def restore(self) -> None:
        """Puts the items back."""
        if len(self.target) == len(self.values) and same(self.base.__iter__(self.target), self.values):
            return
        self.base.clear(self.target)
        self.base.extend(self.target, self.values)


class Set(Keeper):
    """A set. The order in which a changed set is walked may differ afterwards from what it was."""

    __slots__ = ("target", "values")

    def __init__(self, target: set[Any]) -> None:
        self.target, self.values = target, set.copy(target)

    def restore(self) -> None:
        """Puts the members back."""
        if len(self.target) != len(self.values) or not set.__eq__(self.target, self.values):
            set.clear(self.target)
            set.update(self.target, self.values)


class Slots(Keeper):
    """The values in an object's ``__slots__``."""

    __slots__ = ("target", "values")

    def __init__(self, target: Any, members: list[types.MemberDescriptorType]) -> None:
        self.target = target
        self.values = [(member, _slot(target, member)) for member in members]

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
    """Anything with a way to read its state and a way to write it: random generators, buffers, cells."""

    __slots__ = ("equal", "value", "write", "read")

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], Any], equal: Callable[..., bool]) -> None:
        self.read, self.write, self.equal = read, write, equal
        self.value = read()

    def restore(self) -> None:
        """Writes the state back."""
        if not self.equal(self.read(), self.value):
            self.write(self.value)


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


class GlobalName(Keeper):
    """A global variable that a step's code reads or writes."""

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
    """A numpy array's bytes, shape and strides."""

    __slots__ = ("saved", "target")

    def __init__(self, target: numpy.ndarray[Any, Any]) -> None:
        self.target, self.saved = target, target.copy(order="K")

    def restore(self) -> None:
        """Writes the elements back where they differ."""
        target, saved = self.target, self.saved
        if target.shape != saved.shape:
            target.resize(saved.shape, refcheck=False)
        if target.dtype.hasobject:
            if not same(target.flat, saved.flat):
                target[...] = saved
        elif target.tobytes() != saved.tobytes():
            numpy.copyto(target, saved)


class Storage(Keeper):
    """The bytes under one or several tensors; alone or shared, strided any way."""

    __slots__ = ("saved", "target")

    def __init__(self, target: torch.UntypedStorage, offload: str | None) -> None:
        self.target = target
        try:
            self.saved = _bytes(target).to(offload, copy=True) if offload else _bytes(target).clone()
        except torch.cuda.OutOfMemoryError:
            self.saved = _bytes(target).to("cpu", copy=True)

    def restore(self) -> None:
        """Writes the bytes back where they differ (never into untouched, perhaps read-only, memory)."""
        if self.target.nbytes() != self.saved.numel():
            self.target.resize_(self.saved.numel())
        now, saved = _bytes(self.target), self.saved
        if not torch.equal(now.to(saved.device), saved):
            now.copy_(saved)


def _bytes(storage: torch.UntypedStorage) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def plain_tensor_state() -> Any:
    """A context in which tensors of any subclass are handled as what they are, outside of autograd."""
    return torch._C.DisableTorchFunctionSubclass()


class Face(Keeper):
    """What a tensor is beside its bytes: which memory it shows, whether it needs a gradient, which it has."""

    __slots__ = ("alias", "grad", "leaf", "requires_grad", "target", "version")

    def __init__(self, target: torch.Tensor) -> None:
        self.target = target
        self.leaf, self.requires_grad = target.is_leaf, target.requires_grad
        self.grad = target.grad if self.leaf else None
        self.version = None if target.is_inference() else target._version
        self.alias = target.detach()

    def restore(self) -> None:
        """Points the tensor at the memory it showed, and puts its gradient object back."""
        target = self.target
        if not _shows_the_same(target, self.alias):
            target.data = self.alias
        if not self.leaf:
            return
        if target.requires_grad != self.requires_grad and target.is_leaf:
            target.requires_grad_(self.requires_grad)
        if target.grad is not self.grad:
            target.grad = self.grad


def _shows_the_same(first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.layout != second.layout or first.shape != second.shape or first.dtype != second.dtype:
        return False
    if first.layout != torch.strided:
        return False
    if torch.utils._python_dispatch.is_traceable_wrapper_subclass(first):
        return True  # its inner tensors have keepers of their own
    if first.stride() != second.stride() or first.storage_offset() != second.storage_offset():
        return False
    return first.untyped_storage()._cdata == second.untyped_storage()._cdata


def restore_versions(faces: Iterable[Face]) -> None:
    """Sets tensors' version counters back, so that graphs made before still accept them."""
    for face in faces:
        if face.version is None or face.target.is_inference() or face.target._version == face.version:
            continue
        try:
            torch._C._autograd._unsafe_set_version_counter((face.target,), (face.version,))
        except TypeError:  # torch < 2.5 takes one tensor
            torch._C._autograd._unsafe_set_version_counter(face.target, face.version)  # type: ignore[arg-type]


class Scripted(Keeper):
    """The plain attributes of a TorchScript module, which live outside of Python."""

    __slots__ = ("target", "values")

    def __init__(self, target: Any) -> None:
        self.target = target
        names = target._concrete_type.get_attributes()
        values = {name: target._c.getattr(name) for name in names}
        self.values = {name: copy.deepcopy(one) for name, one in values.items() if not isinstance(one, torch.Tensor)}

    def restore(self) -> None:
        """Sets the attributes that differ."""
        for name, value in self.values.items():
            if self.target._c.getattr(name) != value:
                self.target._c.setattr(name, copy.deepcopy(value))
