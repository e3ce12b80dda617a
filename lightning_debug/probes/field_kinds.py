"""What kind of values a tensor of a batch holds, told from its shape, dtype and a few thousand of its values."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_debug.probes.thinning import even_step

Kind = Literal["values", "image", "series", "counts", "binary", "classes", "one-hot", "multi-hot", "ids", "texts", ""]

LOOKED_AT = 4096
"""Values of a field that its kind is told from."""


def sampled(tensor: Tensor) -> Tensor:
    """A few thousand values of a tensor, evenly spread, flat."""
    flat = tensor.reshape(-1) if tensor.is_contiguous() else tensor[: max(1, LOOKED_AT // 16)].reshape(-1)
    return flat[:: even_step(flat.numel(), LOOKED_AT, tensor.shape[1:])]


def label_kind(tensor: Tensor) -> Kind:
    """What labels hold: whole numbers are classes, floats of 0 and 1 are binary, others are regressed.

    >>> label_kind(torch.eye(3)), label_kind(torch.tensor([0.5, 2.0])), label_kind(torch.arange(3))
    ('one-hot', 'values', 'classes')
    """
    values = sampled(tensor)
    if not values.numel():
        return ""
    binary = bool(((values == 0) | (values == 1)).all())
    if tensor.ndim == 2 and tensor.shape[1] > 1 and binary:
        ones = tensor[:256].sum(1) if tensor.dtype != torch.bool else tensor[:256].long().sum(1)
        return "one-hot" if bool((ones == 1).all()) else "multi-hot"
    if not tensor.is_floating_point():
        return "classes"
    return "binary" if binary else "values"


def input_kind(tensor: Tensor) -> Kind:
    """What an input holds: whole numbers in floats are counts, unless they are shaped like images."""
    values = sampled(tensor)
    if not values.numel():
        return ""
    if bool(((values == 0) | (values == 1)).all()):
        rows = tensor[:256].flatten(1).sum(1) if tensor.ndim > 1 and tensor.dtype != torch.bool else values
        return "one-hot" if tensor.ndim > 1 and bool((rows == 1).all()) else "binary"
    if tensor.ndim == 4 or (tensor.ndim == 3 and tensor.dtype == torch.uint8):
        return "image"
    whole = not tensor.is_floating_point() or bool((values == values.round()).all())
    if whole and bool((values >= 0).all()):
        return "counts"
    return "series" if tensor.ndim == 3 else "values"


def all_differ(tensor: Tensor) -> bool:
    """Whether whole numbers are those of a running index."""
    return not tensor.is_floating_point() and len(tensor) > 7 and len(torch.unique(tensor)) == tensor.numel()


def come_again(tensor: Tensor) -> bool:
    """Whether a value stands for two samples at least, on average, as a class does; sorted ones are all alike at first.

    >>> come_again(torch.arange(8) % 3), come_again(torch.arange(8)), come_again(torch.zeros(8))
    (True, False, True)
    """
    return len(torch.unique(tensor)) <= tensor.numel() / 2


def are_lengths(lengths: Tensor, padded: Tensor) -> bool:
    """Whether whole numbers say how long the samples of another field are: what lies beyond is one value, padding.

    >>> steps = torch.tensor([[5, 2, 7], [4, 9, 0], [3, 0, 0]])
    >>> are_lengths(torch.tensor([3, 2, 1]), steps), are_lengths(torch.tensor([3, 1, 1]), steps)
    (True, False)
    """
    if lengths.is_floating_point() or lengths.ndim != 1 or padded.ndim < 2 or len(padded) != len(lengths):
        return False
    steps = padded.shape[1]
    if int(lengths.min()) < 1 or int(lengths.max()) != steps:
        return False
    beyond = padded[torch.arange(steps) >= lengths[:, None]]
    last = padded[torch.arange(len(padded)), lengths - 1]
    if not beyond.numel() or not bool((beyond == beyond.reshape(-1)[0]).all()):
        return False
    return bool((last != beyond.reshape(-1)[0]).reshape(len(last), -1).any(1).all())
