"""A look at a small part of the gradients, which shows a value that is no number as a rule if there is one anywhere."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lightning_debug.probes.gradient_norms import local

Cut = Callable[[Tensor], Tensor] | None

WHOLE = 4096
"""Gradients of at most so many values are looked at as a whole by :func:`glimpse`."""

KERNEL = 16
"""A third dimension up to this size is taken for that of a kernel."""

VECTOR = 8
"""Vectors longer than this that follow one of their length are those of one layer."""

_ALL = operator.methodcaller("reshape", -1)
_ROW = operator.methodcaller("select", 0, 0)
_COLUMN = operator.methodcaller("select", 1, 0)


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
            found.append((place, _ALL))
        elif dim == 3 and shape[2] > KERNEL:  # a stack of matrices
            found += (place, _columns), (place, _last_columns)
        else:
            found.append((place, _ROW if dim == 2 else _first))
            matrix, open_rows = place, shape[0]
        last = vector
    if matrix >= 0:
        found.append((matrix, _column_of(tensors[matrix])))
    return found


def glimpse(tensors: Sequence[Tensor]) -> Tensor | None:
    """The norm of a small part of the gradients (see :func:`cuts`).

    Args:
        tensors: Gradients' values, ordinary tensors that require no gradient.

    Returns:
        A tensor of one element; ``None`` without values, or where they are not all on the CPU.

    >>> gradient = torch.ones(100, 100)
    >>> gradient[7] = torch.nan
    >>> glimpse([gradient])
    tensor(nan)
    """
    found = cuts(tensors)
    if found is None:
        return None
    return _norm([tensors[place] if cut is None else cut(tensors[place]) for place, cut in found])


class Glimpses:
    """The same look at the same parameters' gradients again, without asking anew what to cut from which.

    Attributes:
        parameters: How many there are.

    Args:
        parameters: Those that have a gradient now are looked at; one that comes to have one later is not.

    >>> layer = torch.nn.Linear(3, 2)
    >>> layer(torch.ones(1, 3)).sum().backward()
    >>> looks = Glimpses([*layer.parameters()])
    >>> float(looks.norm()) == float(glimpse([item.grad for item in layer.parameters()]))
    True
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        known = [(item, item.grad) for item in parameters if item.grad is not None]
        self.parameters = len(parameters)
        plain = all(type(gradient) is Tensor and gradient.layout == torch.strided for _, gradient in known)
        found = cuts([local(gradient) for _, gradient in known]) if plain else None
        self._cuts = None if found is None else [(known[place][0], cut) for place, cut in found]

    def norm(self) -> Tensor | None:
        """The norm of what is looked at; ``None`` where that tells nothing, or gradients are not what they were."""
        parts = []
        for parameter, cut in self._cuts or ():
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.requires_grad or type(gradient) is not Tensor or gradient.layout is not torch.strided:
                return None
            try:
                parts.append(gradient if cut is None else cut(gradient))
            except (IndexError, RuntimeError):
                return None
        return _norm(parts)


def _norm(parts: Sequence[Tensor]) -> Tensor | None:
    if not any(part.numel() for part in parts):
        return None
    norm: Tensor = torch.linalg.vector_norm(torch.cat(list(parts)))
    return norm


def _first(gradient: Tensor) -> Tensor:
    return gradient.select(0, 0).reshape(-1)


def _columns(gradient: Tensor) -> Tensor:
    return gradient.select(1, 0).reshape(-1)


def _last_columns(gradient: Tensor) -> Tensor:
    return gradient.select(2, 0).reshape(-1)


def _flat_column(gradient: Tensor) -> Tensor:
    return gradient.flatten(1).select(1, 0)


def _column_of(matrix: Tensor) -> Cut:
    return _COLUMN if matrix.dim() == 2 else _flat_column
