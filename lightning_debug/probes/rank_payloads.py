"""What one rank can tell the others of its batches and its weights in a few numbers."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.batch_slicing import Uncuttable, batch_size
from lightning_debug.probes.relation_fingerprints import fingerprints

MOST_SAMPLES = 16
"""Samples of a batch that are fingerprinted."""

PLACES = 4
"""Values of a parameter that are told besides its checksum."""

PER_PARAMETER = PLACES + 2

_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_KNOWN = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16}
_KNOWN |= {torch.float32, torch.float64, torch.complex64, torch.complex128}


@dataclass(frozen=True)
class BatchKeys:
    """Fingerprints of one batch.

    Args:
        keys: One for each sample, or one for the batch where samples cannot be told apart; below 2**53.
        values: Numbers a sample is made of.
        floating: Whether some of them are no whole numbers by type.
    """

    keys: tuple[float, ...]
    values: int
    floating: bool


def batch_keys(batch: Any) -> BatchKeys | None:
    """Fingerprints of the first samples of a batch; ``None`` where no tensor of it is in host memory.

    >>> one, other = batch_keys([torch.eye(3), torch.arange(3)]), batch_keys([torch.eye(3), torch.arange(3)])
    >>> one == other, len(set(one.keys)), one.values, one.floating
    (True, 3, 4, True)
    """
    fields = [
        item for _, item in batch_fields(batch)
        if item.device.type == "cpu" and item.layout is torch.strided and item.dtype in _KNOWN and item.numel()
    ]  # fmt: skip
    if not fields:
        return None
    try:
        samples = batch_size(batch)
        rows = [item[:MOST_SAMPLES] for item in fields if item.ndim and len(item) == samples]
    except Uncuttable:
        rows = [item.reshape(1, -1) for item in fields]
    if not rows:
        return None
    keys = tuple(float(int(key) >> 11) for key in fingerprints(rows))
    values = sum(item[0].numel() for item in rows)
    return BatchKeys(keys, values, any(item.is_floating_point() or item.is_complex() for item in rows))


def signature(names: Iterable[str]) -> float:
    """A number that is the same for the same names in the same order."""
    return float(zlib.crc32("\n".join(names).encode()))


def chosen_parameters(root: nn.Module, most: int, turn: int = 0) -> list[tuple[str, nn.Parameter]]:
    """Trainable parameters, evenly spread where there are more than ``most``; others of them at each turn."""
    found = [
        (name, item)
        for name, item in root.named_parameters()
        if item.requires_grad and not is_lazy(item) and item.numel() and type(item.data) in (Tensor, nn.Parameter)
    ]
    step = -(-len(found) // most)
    return found[turn % step :: step] if found else []


@torch.no_grad()
def weight_numbers(parameters: Sequence[Tensor]) -> list[Tensor]:
    """For each parameter a checksum of its bits, its mean magnitude and values at a few places, on its device.

    The checksum is a sum of whole numbers: exact, whatever the order in which a device adds.

    >>> weight_numbers([torch.tensor([1.0, -3.0])])[1:3]
    [tensor(2., dtype=torch.float64), tensor(1., dtype=torch.float64)]
    """
    numbers: list[Tensor] = []
    for item in parameters:
        weight = torch.view_as_real(item.detach()) if item.is_complex() else item.detach()
        bits = weight.reshape(-1).view(_WHOLE[weight.element_size()])
        checksum = bits.sum(dtype=torch.int64) & (2**52 - 1)
        count = weight.numel()
        at = [place * (count - 1) // max(1, PLACES - 1) for place in range(PLACES)]
        values = weight.reshape(-1)
        numbers.append(checksum.double())
        numbers.append(values.abs().mean(dtype=torch.float64) if values.is_floating_point() else checksum.double())
        numbers += [values[place].double() for place in at]
    return numbers


def distinct(keys: Sequence[float]) -> int:
    """How many different keys there are."""
    return len(np.unique(np.asarray(keys)))
