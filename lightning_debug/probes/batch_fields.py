"""The tensors of a batch of any structure, each with the name a user would find it by."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

DEPTH = 4
MOST_ITEMS = 256
MOST_TENSORS = 256

_ATOMS = (str, bytes, int, float, complex, type(None))


def batch_fields(batch: Any) -> list[tuple[str, Tensor]]:
    """Names and tensors, in order; what is neither a tensor nor a container is passed over.

    >>> import torch
    >>> [name for name, _ in batch_fields({"x": torch.zeros(2), "y": (torch.ones(2), None, "text")})]
    ["batch['x']", "batch['y'][0]"]
    """
    found: list[tuple[str, Tensor]] = []
    level: list[tuple[str, Any]] = [("batch", batch)]
    seen: set[int] = set()
    for depth in range(DEPTH + 1):
        below: list[tuple[str, Any]] = []
        for name, value in level:
            if isinstance(value, _ATOMS) or id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Tensor):
                if not value.is_nested or value.layout is torch.jagged:  # older nested ones refuse to tell their shape
                    found.append((name, value))
            elif depth < DEPTH and len(below) < MOST_ITEMS:
                below += [(f"{name}{key}", item) for key, item in _items(value)]
        level = below
    return found[:MOST_TENSORS]


def plain_tensors(batch: Sequence[Tensor]) -> list[tuple[str, Tensor, bool]]:
    """What :func:`tensors_and_texts` finds in a list or tuple of tensors, in less time."""
    strided = [item.layout is torch.strided and not item.is_nested for item in batch[:MOST_TENSORS]]
    return [(f"batch[{place}]", batch[place].detach(), False) for place, known in enumerate(strided) if known]


def tensors_and_texts(batch: Any) -> list[tuple[str, Tensor, bool]]:
    """Path, tensor, and whether it stands for strings: all of a batch that holds one value a sample or more."""
    found = []
    for path, value in _walk(batch):
        if isinstance(value, Tensor):
            if value.layout is torch.strided and not value.is_nested:
                found.append((path, value.detach(), False))
        elif isinstance(value, np.ndarray):
            if value.dtype.kind in "biuf" and value.dtype.byteorder in "=|":
                array = value if value.flags.writeable and min(value.strides or (0,)) >= 0 else value.copy()
                if array.dtype not in (np.uint16, np.uint32, np.uint64, np.longdouble):
                    found.append((path, torch.from_numpy(array), False))
        else:
            hashes = [zlib.crc32(item.encode("utf-8", "replace")) for item in value]
            found.append((path, torch.tensor(hashes, dtype=torch.int64), True))
    return found


def _walk(batch: Any) -> list[tuple[str, Any]]:
    """Tensors, arrays and lists of strings, in the order in which they are written."""
    found: list[tuple[str, Any]] = []
    seen: set[int] = set()
    stack: list[tuple[str, Any, int]] = [("batch", batch, 0)]
    while stack and len(found) < MOST_TENSORS:
        path, value, depth = stack.pop()
        if value is None or isinstance(value, (str, bytes, int, float, complex)):
            continue
        if id(value) in seen and not isinstance(value, (Tensor, np.ndarray)):  # inputs may be their own labels
            continue
        seen.add(id(value))
        texts = isinstance(value, (list, tuple)) and value and all(isinstance(item, str) for item in value)
        if texts or isinstance(value, (Tensor, np.ndarray)):
            found.append((path, value))
        elif depth < DEPTH and len(stack) < MOST_ITEMS:
            parts = _items(value)
            stack += [(f"{path}{key}", item, depth + 1) for key, item in reversed(parts)]
    return found


def _items(value: Any) -> list[tuple[str, Any]]:
    """What a container holds, with the spelling that reaches it."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [(f".{key}", getattr(value, key)) for key in value._fields]
    if isinstance(value, (tuple, list)):
        return [(f"[{index}]", item) for index, item in enumerate(value[:MOST_ITEMS])]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f".{item.name}", getattr(value, item.name, None)) for item in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", item) for key, item in list(value.items())[:MOST_ITEMS]]
    try:
        if hasattr(value, "keys") and hasattr(value, "__getitem__"):  # a TensorDict or a graph, which are no mappings
            keys = value.keys() if callable(value.keys) else value.keys
            return [(f"[{key!r}]", value[key]) for key in list(keys)[:MOST_ITEMS]]
        own = vars(value)
    except Exception:  # other people's classes may refuse any question
        return []
    return [(f".{key}", item) for key, item in list(own.items())[:MOST_ITEMS]]
