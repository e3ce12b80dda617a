"""The shape of any tensor as plain numbers, as evidence wants it."""

from __future__ import annotations

import torch
from torch import Tensor

RAGGED = -1
"""In place of a size that differs from sample to sample."""


def plain_shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape, in plain numbers: nested tensors have symbols for sizes, or refuse the question.

    >>> plain_shape(torch.zeros(2, 3))
    (2, 3)
    >>> plain_shape(torch.nested.nested_tensor([torch.zeros(2, 4), torch.zeros(3, 4)], layout=torch.jagged))
    (2, -1, 4)
    """
    if not tensor.is_nested:
        return tuple(tensor.shape)
    if tensor.layout is torch.strided:  # it tells the number of its samples alone
        return tensor.size(0), *[RAGGED] * (tensor.dim() - 1)
    return tuple(size if type(size) is int else RAGGED for size in tensor.shape)
