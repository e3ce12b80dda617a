"""Keepers of tensors: the bytes, once for all tensors that share them, and each tensor's own face."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy
import torch
from torch.utils import _python_dispatch

from lightning_debug.experiments._keepers import Keeper
from lightning_debug.probes.plain_shape import plain_shape

_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_CHUNK = 1 << 26


class Storage(Keeper):
    """The bytes under one or several tensors, however strided.

    Args:
        target: The storage.
        offload: Device for the copy; by default, and as long as memory suffices, the storage's own.
    """

    __slots__ = ("saved", "target")

    def __init__(self, target: torch.UntypedStorage, offload: str | None) -> None:
        self.target = target
        try:
            self.saved = _bytes(target).to(offload or target.device, copy=True)
        except torch.cuda.OutOfMemoryError:
            self.saved = _bytes(target).to("cpu", copy=True)

    def restore(self) -> None:
        """Writes the bytes back; on the CPU only where they differ, since memory may be read-only."""
        if self.target.nbytes() != self.saved.numel():
            self.target.resize_(self.saved.numel())
        now = _bytes(self.target)
        if now.device.type != "cpu":
            now.copy_(self.saved)
            return
        for start in range(0, now.numel(), _CHUNK):
            part, saved = now[start : start + _CHUNK], self.saved[start : start + _CHUNK]
            if not _equal(part, saved):
                part.copy_(saved)


def _bytes(storage: torch.UntypedStorage) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether bytes on the CPU are the same; eight at a time, which takes a tenth of what ``torch.equal`` does."""
    one, other = first.numpy(), second.numpy()
    whole = len(one) // 8 * 8
    return numpy.array_equal(one[:whole].view(numpy.uint64), other[:whole].view(numpy.uint64)) and numpy.array_equal(
        one[whole:], other[whole:]
    )


class Face(Keeper):
    """What a tensor is beside its bytes: the memory it shows, its gradient, flags, hooks and attributes.

    Args:
        target: The tensor.
        copied: Whether its bytes have a keeper. Without one they must not change.
    """

    __slots__ = ("alias", "attributes", "copied", "grad", "hooks", "leaf", "requires_grad", "target", "version")

    def __init__(self, target: torch.Tensor, *, copied: bool = True) -> None:
        self.target, self.copied = target, copied
        self.leaf, self.requires_grad = target.is_leaf, target.requires_grad
        self.grad = target.grad if self.leaf else None
        self.hooks = {name: held for name in _HOOKS if (held := getattr(target, name, None)) is not None}
        self.attributes = dict(getattr(target, "__dict__", ()))
        self.version = None if target.is_inference() else target._version
        self.alias = target.detach()

    def held(self) -> list[tuple[str, Any]]:
        """Hooks and attributes, which may hold state of their own."""
        return [*self.hooks.items(), *self.attributes.items()]

    def restore(self) -> None:
        """Points the tensor at the memory it showed, and puts its gradient object and the rest back."""
        target = self.target
        if not self.copied and self.version is not None and target._version != self.version:
            raise RuntimeError(f"a tensor of shape {plain_shape(target)} was changed that had not been copied")
        if self.leaf and not target.is_leaf:  # a step changed a buffer in place by a result with a graph
            target.detach_()
        if not _shows_the_same(target, self.alias):
            target.data = self.alias
        attributes = getattr(target, "__dict__", {})
        if not _identical(attributes, self.attributes):
            attributes.clear()
            attributes.update(self.attributes)
        if not self.leaf:
            return
        for name in _HOOKS:
            if name not in self.hooks and getattr(target, name, None) is not None:
                setattr(target, name, None)
        if target.requires_grad != self.requires_grad:
            target.requires_grad_(self.requires_grad)
        if target.grad is not self.grad:
            target.grad = self.grad


def _identical(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return list(first) == list(second) and all(first[name] is second[name] for name in first)


def _shows_the_same(first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.layout != torch.strided or second.layout != torch.strided:
        return False
    if first.is_nested or second.is_nested:  # older nested tensors refuse to tell their shape
        return bool(first.is_nested and second.is_nested and _memory(first) == _memory(second))
    if first.shape != second.shape or first.dtype != second.dtype or first.device != second.device:
        return False
    if is_wrapper(first):
        return True  # its inner tensors have keepers of their own
    if first.stride() != second.stride() or first.storage_offset() != second.storage_offset():
        return False
    return _memory(first) == _memory(second)


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def is_wrapper(value: Any) -> bool:
    """Whether a tensor only wraps others, as DTensor does."""
    return bool(_python_dispatch.is_traceable_wrapper_subclass(value))


def inner_tensors(value: Any) -> list[torch.Tensor]:
    """The tensors in which a wrapping or sparse tensor keeps its bytes; none for a plain one."""
    if is_wrapper(value):
        return [getattr(value, name) for name in value.__tensor_flatten__()[0]]
    if value.layout == torch.sparse_coo:
        return [value._indices(), value._values()]
    if value.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [value.crow_indices(), value.col_indices(), value.values()]
    if value.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [value.ccol_indices(), value.row_indices(), value.values()]
    return []


def detached(value: Any) -> Any:
    """A tensor off its graph, on the same memory; likewise in a tuple. Anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value if value.is_leaf else value.detach()
    if type(value) is tuple:
        items = [detached(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else tuple(items)
    return value


def restore_versions(faces: Iterable[Face]) -> None:
    """Sets tensors' version counters back, so that graphs made before still accept the tensors."""
    for face in faces:
        target, version = face.target, face.version
        if version is None or target.is_inference() or target._version == version:
            continue
        setter: Any = torch._C._autograd._unsafe_set_version_counter
        try:
            setter((target,), (version,))
        except TypeError:  # torch 2.4 takes one tensor
            setter(target, version)
