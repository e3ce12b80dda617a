"""Fingerprints of samples: 8 bytes that are equal where the values are."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_debug.probes.data_values import picked

try:
    import xxhash
except ImportError:  # an environment that is older than this dependency: slower, and as good
    xxhash = None  # type: ignore[assignment]

Keys = npt.NDArray[np.uint64]

MOST_VALUES = 1024
"""Values of a sample that are compared; of larger samples as many, evenly spread."""

WIDE, WHOLE = 2**8, 2**14
"""Bytes of a sample: from so many on, a key of one takes less time than its share of a key of many; up to so many, all
of them are read, and :data:`MOST_VALUES` of larger ones."""

_MIX = np.uint64(0x9E3779B97F4A7C15)


def fingerprints(tensors: Sequence[Tensor]) -> Keys:
    """One key for each sample of some tensors whose samples are in front.

    Two samples with equal values have equal keys; different values have the same key once in 2**60 pairs or so. Of wide
    samples (see :data:`WIDE`) the bits are read, where -0.0 is not 0.0: that spares a copy of each batch in each step.

    Args:
        tensors: On the CPU, of equally many samples.

    >>> rows = torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])
    >>> keys = fingerprints([rows, torch.tensor([7, 7, 7])])
    >>> (bool(keys[0] == keys[2]), bool(keys[0] == keys[1]))
    (True, False)
    >>> zero = torch.zeros(2, 3)
    >>> bool((fingerprints([zero]) == fingerprints([-zero])).all())
    True
    """
    size = len(tensors[0])
    keys = np.full(size, _MIX, np.uint64)
    for place, tensor in enumerate(tensors):
        values = _as_words(compact(tensor)) * _MIX
        values ^= values >> np.uint64(29)
        keys ^= keys >> np.uint64(31)
        keys *= _MIX
        keys += np.einsum("ij,j->i", values, _coefficients(place)[: values.shape[1]])
    keys ^= keys >> np.uint64(32)
    return keys


def compact(tensor: Tensor) -> Tensor:
    """``(samples, values)`` that make the same fingerprint: one number in place of a wide sample.

    >>> compact(torch.zeros(2, 3, 32, 32)).shape, compact(torch.zeros(2, 3)).shape
    (torch.Size([2, 1]), torch.Size([2, 3]))
    """
    if not tensor.nbytes or not digests(tensor):
        return spread(tensor, MOST_VALUES)
    return in_place_of(digested(_bits(telling(tensor))))


def digested(rows: npt.NDArray[Any]) -> Keys:
    """A key of each row's bytes; memory in one piece."""
    return np.fromiter(map(xxhash.xxh3_64_intdigest, rows), np.uint64, len(rows))


def in_place_of(keys: Keys) -> Tensor:
    """What :func:`compact` gives for samples with such keys."""
    return torch.from_numpy(keys.view(np.int64)).unsqueeze(1)


def digests(tensor: Tensor) -> bool:
    """Whether :func:`compact` makes one number of each sample, which no longer shares memory with the tensor."""
    return xxhash is not None and tensor.nbytes >= WIDE * max(1, tensor.shape[0])


def telling(tensor: Tensor) -> Tensor:
    """``(samples, values)``: all that fingerprints look at; on any device."""
    whole = 0 < tensor.nbytes <= WHOLE * tensor.shape[0]
    return tensor.detach().reshape(tensor.shape[0], -1) if whole else spread(tensor, MOST_VALUES)


def spread(tensor: Tensor, most: int) -> Tensor:
    """``(samples, values)``: all values of each sample, or ``most`` of them, evenly spread.

    One by one: runs of neighbours cost fewer lines of the cache, but miss what is small on a plain background.
    """
    size = tensor.shape[0]
    if not tensor.numel():
        return tensor.new_zeros((size, 0))
    tensor = tensor.detach()
    values = math.prod(tensor.shape[1:])
    if values <= most:
        return tensor.reshape(size, -1)
    step = -(-values // most)
    step += step % 2 == 0  # an even step would visit the same columns of each row of an image
    if tensor.is_contiguous():
        return tensor.view(size, -1)[:, ::step]
    return picked(tensor, torch.arange(0, values, step, device=tensor.device)[:most], step)[:, :most]


def among(keys: Keys, others: Keys) -> npt.NDArray[np.bool_]:
    """Which keys are among others: by one sort, where ``numpy.isin`` hashes both first, slowly.

    >>> among(np.array([3, 1], dtype=np.uint64), np.array([2, 3], dtype=np.uint64)).tolist()
    [True, False]
    """
    if not others.size:
        return np.zeros(keys.shape, dtype=bool)
    known = np.sort(others, axis=None)
    found: npt.NDArray[np.bool_] = known[np.minimum(np.searchsorted(known, keys), known.size - 1)] == keys
    return found


def ordered(keys: Keys) -> int:
    """One number for keys in their order: equal for the same keys in the same order.

    >>> keys = np.arange(5, dtype=np.uint64)
    >>> ordered(keys) == ordered(keys.copy()), ordered(keys) == ordered(keys[::-1])
    (True, False)
    """
    places = np.arange(1, len(keys) + 1, dtype=np.uint64) * _MIX
    mixed = (keys ^ (keys >> np.uint64(30))) * (places | np.uint64(1))
    return int((mixed ^ (mixed >> np.uint64(27))).sum(dtype=np.uint64)) if len(keys) else 0


def _bits(rows: Tensor) -> npt.NDArray[Any]:
    """The rows in memory of one piece."""
    if rows.dtype == torch.bfloat16:
        rows = rows.float()
    if rows.is_complex():
        rows = torch.view_as_real(rows.resolve_conj()).flatten(1)
    return np.ascontiguousarray(rows.numpy())


def _plain(rows: Tensor) -> npt.NDArray[Any]:
    """The rows in memory of one piece, of a type whose bits are equal where the values are."""
    array = _bits(rows)
    return array + array.dtype.type(0) if array.dtype.kind == "f" else array  # -0.0 equals 0.0


def _as_words(rows: Tensor) -> Keys:
    """The rows' bits, eight bytes a word, which keeps passes over them few and short; may be a view."""
    array = _plain(rows)
    width = array.shape[1] * array.dtype.itemsize
    if width and width % 8 == 0:
        return array.view(np.uint64)
    words = np.zeros((len(array), -(-width // 8)), np.uint64)
    words.view(np.uint8)[:, :width] = array.view(np.uint8)
    return words


@functools.cache
def _coefficients(place: int) -> Keys:
    """Odd numbers, others for each tensor of a sample: as many as there may be words."""
    drawn = np.random.Generator(np.random.PCG64(5 + place)).integers(0, 2**63, 2 * MOST_VALUES, dtype=np.uint64)
    result: Keys = drawn * np.uint64(2) + np.uint64(1)
    return result
