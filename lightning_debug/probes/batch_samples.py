"""How many samples a batch holds, and which dimension of a tensor counts them."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def batch_size_of(shapes: Sequence[torch.Size]) -> int:
    """Samples in a batch whose tensors have these shapes: the leading size that most share; 0 if none has any."""
    leading = Counter(shape[0] for shape in shapes if len(shape))
    return max(leading, key=lambda size: leading[size]) if leading else 0  # the first among equals


def numbered_samples(tensors: Sequence[Tensor]) -> int:
    """Samples, where rows of a tensor are parts of them (nodes of graphs, points of clouds); else 0.

    One vector then numbers the sample that each row belongs to, in order and without a gap, and another tensor has
    one row for each sample.

    >>> numbered_samples([torch.randn(7, 2), torch.tensor([0, 0, 0, 1, 1, 2, 2]), torch.tensor([1, 0, 1])])
    3
    """
    leading = [item.shape[0] for item in tensors if item.ndim]
    for tensor in tensors:
        if tensor.ndim != 1 or tensor.dtype not in (torch.int64, torch.int32) or tensor.shape[0] < 2:
            continue
        fewer = {size for size in leading if size < tensor.shape[0]}
        if not fewer or leading.count(tensor.shape[0]) < 2:
            continue
        steps = tensor.diff()
        if bool((tensor[0] == 0) & (steps >= 0).all() & (steps <= 1).all()):
            last = int(tensor[-1]) + 1
            if last in fewer and last > 1:
                return last
    return 0


def sample_dim(tensor: Tensor, size: int) -> int | None:
    """The dimension that counts so many samples; ``None`` where none or several could."""
    if not tensor.ndim or not size or tensor.shape[0] == size:
        return 0 if tensor.ndim and size else None
    places = [dim for dim, length in enumerate(tensor.shape) if length == size]
    return places[0] if len(places) == 1 and size > 1 else None


def size_at(path: str, dim: int, batch: Any) -> int | None:
    """The size of the tensor with a path, found by one key; ``None`` where more than that leads to it.

    >>> size_at("batch['x']", 0, {"x": torch.zeros(5, 3)}), size_at("batch[1]", 1, (0, torch.zeros(5, 3)))
    (5, 3)
    """
    known, key = _one_key(path)
    if not known:
        return None
    try:
        return int((batch if key is None else batch[key]).shape[dim])
    except Exception:  # of another structure, or of other people's classes
        return None


@functools.lru_cache(maxsize=64)
def _one_key(path: str) -> tuple[bool, int | str | None]:
    found = _ONE_KEY.fullmatch(path)
    number, name = found.groups() if found else (None, None)
    return found is not None, name if number is None else int(number)


_ONE_KEY = re.compile(r"batch(?:\[(\d+)\]|\['(\w+)'\])?")
