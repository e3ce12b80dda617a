"""The tensors of a batch of any structure, each with the name a user would find it by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

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
