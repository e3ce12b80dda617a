"""A look at a small part of the gradients, which shows a value that is no number as a rule if there is one anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_debug.probes.gradient_norms import local

Cut = int | tuple[int | slice, ...] | None
"""An index into a gradient; ``None``: all of it."""

WHOLE = 4096
"""Gradients of at most so many values are looked at as a whole by :func:`glimpse`."""

KERNEL = 16
"""A third dimension up to this size is taken for that of a kernel."""

VECTOR = 8
"""Vectors longer than this that follow one of their length are those of one layer."""

_EVERY = slice(None)


def cuts(tensors: Sequence[Tensor]) -> list[tuple[int, Cut]] | None:
    """Which of some gradients are looked at, by their place, and how much of each is cut out (``None``: all of it).

    A layer multiplies: a value that is not finite in what a layer met or was handed back spoils a whole row or column
    of its weight's gradient, and an entry of its bias's. So the first row of each large gradient is read, its first
    column unless a bias follows, small gradients whole, and of vectors of one length that follow each other (a bias
    and what normalises after it) the first. What spoils single values of a large parameter elsewhere is not seen
    here: ``gradient_paths`` tells of which parameters that has to be feared.

    Args:
        tensors: Gradients' values, ordinary tensors that require no gradient.

    Returns:
        ``None`` where they are not all on the CPU.
    """
    found: list[tuple[int, Cut]] = []
    open_rows, last = 0, 0  # rows of the matrix before that no bias has covered yet; length of the vector before
    matrix = -1
    for place, item in enumerate(tensors):
        shape = item.shape
        dim, vector = len(shape), shape[0] if len(shape) == 1 else 0
        if matrix >= 0 and vector != open_rows:
            found.append((matrix, _column_of(tensors[matrix])))
        matrix = -1
        if not item.is_cpu:
            return None
        if vector:
            if vector != last or vector <= VECTOR:
                found.append((place, None))
        elif dim < 2 or item.numel() <= WHOLE:
            found.append((place, None))
        elif dim == 3 and shape[2] > KERNEL:  # a stack of matrices
            found += (place, (_EVERY, 0)), (place, (_EVERY, _EVERY, 0))
        else:
            found.append((place, 0))
            matrix, open_rows = place, shape[0]
        last = vector
    if matrix >= 0:
        found.append((matrix, _column_of(tensors[matrix])))
    return found


def glimpse(tensors: Sequence[Tensor]) -> float | None:
    """The norm of a small part of the gradients (see :func:`cuts`), read on the host.

    Args:
        tensors: Gradients' values, ordinary tensors that require no gradient.

    Returns:
        ``None`` without values, or where they cannot be read: not all on the CPU, sparse.

    >>> gradient = torch.ones(100, 100)
    >>> gradient[7] = torch.nan
    >>> glimpse([gradient])
    nan
    """
    found = cuts(tensors)
    try:
        return None if found is None else _norm([(tensors[place], cut) for place, cut in found])
    except _NOT_READ:
        return None


class Glimpses:
    """The same look at the same parameters' gradients again, without asking anew what to cut from which.

    Attributes:
        parameters: How many there are.

    Args:
        parameters: Those that have a gradient now are looked at; one that comes to have one later is not.

    >>> layer = torch.nn.Linear(3, 2)
    >>> layer(torch.ones(1, 3)).sum().backward()
    >>> looks = Glimpses([*layer.parameters()])
    >>> looks.norm() == glimpse([item.grad for item in layer.parameters()])
    True
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        known = [(item, item.grad) for item in parameters if item.grad is not None]
        self.parameters = len(parameters)
        plain = all(type(gradient) is Tensor and gradient.layout == torch.strided for _, gradient in known)
        found = cuts([local(gradient) for _, gradient in known]) if plain else None
        self._cuts = None if found is None else [(known[place][0], cut) for place, cut in found]
        self._plain = all(_is_plain(gradient) for _, gradient in known)

    def norm(self) -> float | None:
        """The norm of what is looked at; ``None`` where that tells nothing, or gradients are not what they were."""
        found = self._cuts or ()
        try:
            return _norm([(one.grad, cut) for one, cut in found], known=self._plain)
        except _NOT_READ:
            return None


_NOT_READ = (IndexError, RuntimeError, TypeError)
"""What reading raises: sparse gradients, of a class of their own, of another shape or type, requiring gradients."""


def _norm(parts: Sequence[tuple[Tensor | None, Cut]], *, known: bool = False) -> float | None:
    """The norm of what is cut out. In NumPy: from a cold cache, torch's calls take half as long again.

    Args:
        parts: Gradients, ``None`` where there is none, and what is cut out of each.
        known: Whether all are known for types that NumPy sums squares of in place.

    Returns:
        ``None`` if there are none.

    Raises:
        IndexError, RuntimeError, TypeError: If they cannot be read.
    """
    total, seen = 0.0, 0
    for gradient, cut in parts:
        if gradient is None:
            continue
        if type(gradient) is not Tensor:
            return None
        values: Any = (gradient if known or _is_plain(gradient) else gradient.abs().to(torch.float64)).numpy()
        if cut is not None:
            values = values[cut]
        if values.ndim > 1:
            values = values.ravel()
        total += float(values.dot(values))
        seen += values.size
    return math.sqrt(total) if seen else None


def _is_plain(gradient: Tensor) -> bool:
    return gradient.dtype in (torch.float32, torch.float64) and not gradient.is_neg()


def _column_of(matrix: Tensor) -> Cut:
    return (_EVERY, *[0] * (matrix.dim() - 1))
