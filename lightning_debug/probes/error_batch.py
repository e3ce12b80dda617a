"""What a batch is made of, for an error about reading it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lightning_debug.probes.plain_shape import plain_shape

MOST_KEYS = 40


def containers(batch: Any, names: Mapping[str, Any]) -> dict[str, str]:
    """Kind and keys of the batch, and of each container in it that has a name in the user's frame.

    Args:
        batch: The batch.
        names: Variables of the user's frame.

    >>> containers({"x": 1, "y": 2}, {})
    {'batch': "a dict with the keys 'x', 'y'"}
    """
    found = {"batch": about(batch)}
    inner = {id(batch): batch}
    if isinstance(batch, Mapping):
        inner |= {id(value): value for value in batch.values()}
    elif isinstance(batch, (list, tuple)):
        inner |= {id(value): value for value in batch}
    for name, value in names.items():
        if id(value) in inner and isinstance(value, (Mapping, list, tuple)):
            found[name] = about(value)
    return found


def about(value: Any) -> str:
    """What an object is, in half a sentence."""
    kind = type(value).__name__
    if isinstance(value, Tensor):
        return f"a tensor of shape {plain_shape(value)}"
    if isinstance(value, Mapping):
        return f"a {kind} with the keys {', '.join(repr(key) for key in list(value)[:MOST_KEYS])}"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return f"a {kind} with the fields {', '.join(value._fields)}"
    if isinstance(value, (tuple, list)):
        kinds = ", ".join(type(item).__name__ for item in value[:8])
        return f"a {kind} of {len(value)} items ({kinds})"
    if dataclasses.is_dataclass(value):
        return f"a {kind} with the fields {', '.join(item.name for item in dataclasses.fields(value))}"
    return f"a {kind}"


def keys_of(value: Any) -> tuple[str, ...]:
    """The keys of a mapping as they are written."""
    return tuple(repr(key) for key in list(value)[:MOST_KEYS]) if isinstance(value, Mapping) else ()


def items_of(value: Any) -> int | None:
    """How many items a sequence or a mapping has."""
    return len(value) if isinstance(value, (list, tuple, Mapping)) else None
