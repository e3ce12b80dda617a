"""What can be said of samples that differ in length: features that do not depend on it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]

MOST_ROWS = 1024
UNDECIDED = 4
MOST_BYTES = 2**22
"""So many batches, of so many bytes together, are kept until one of another length comes."""
BUCKETS = 256
"""Of the ids of tokens."""
BANDS = 24
MOST_CHANNELS = 32
MOST_STEPS = 4096
"""Of a sample, which the spectrum is told from."""


class PooledSamples:
    """Gathers features of the first samples, where their batches differ in length.

    >>> gathered = PooledSamples()
    >>> for length in (30, 40, 35):
    ...     gathered.add(torch.randn(8, length), tokens=False)
    >>> gathered.rows().shape
    (24, 33)
    """

    def __init__(self) -> None:
        self._first: list[Tensor] | None = []
        self._bytes = 0
        self._ragged: set[int] = set()
        self._rows: list[Array] = []
        self._count = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more is of use."""
        return self._first is None and (not self._ragged or self._count >= MOST_ROWS)

    @property
    def is_useless(self) -> bool:
        """Whether no sample will be told from another by this."""
        return self._first is None and not self._ragged

    def add(self, samples: Tensor, *, tokens: bool) -> None:
        """Takes in a batch.

        Args:
            samples: Samples in front; the dimension that differs from batch to batch is found out.
            tokens: Whether the values are ids.
        """
        if self.is_full:
            return
        if self._first is None:
            self._pool(samples, tokens)
            return
        known = self._first
        shape = known[0].shape if known else samples.shape
        if samples.ndim != len(shape) or samples.ndim < 2 or samples.is_complex():
            self._first = None
            return
        self._ragged = {dim for dim in range(1, samples.ndim) if samples.shape[dim] != shape[dim]}
        if self._ragged:
            self._first = None
            for batch in (*known, samples):
                self._pool(batch, tokens)
            return
        self._bytes += samples.numel() * samples.element_size()
        if len(known) >= UNDECIDED or self._bytes > MOST_BYTES:
            self._first = None
            return
        known.append(samples.clone())

    def _pool(self, samples: Tensor, tokens: bool) -> None:
        """``(channels, steps)`` of each sample become a row."""
        fixed = [dim for dim in range(1, samples.ndim) if dim not in self._ragged]
        table = samples.permute(0, *fixed, *sorted(self._ragged))
        table = table.reshape(len(samples), math.prod([samples.shape[dim] for dim in fixed]), -1)[:MOST_ROWS]
        if not table.shape[2] or table.shape[1] == 0:
            return self._give_up()
        if tokens:
            values = table.numpy()
            rows = np.stack([_of_ids(item[:, slice(*_ends(item))]) for item in values])
        else:
            step = -(-table.shape[1] // MOST_CHANNELS)
            values = table[:, ::step].to(torch.float32).numpy()
            rows = np.stack([_of_values(item[:, slice(*_ends(item))]) for item in values])
        if self._rows and self._rows[0].shape[1] != rows.shape[1]:
            return self._give_up()  # a second dimension differs in length
        self._rows.append(rows.astype(np.float32))
        self._count += len(rows)
        return None

    def _give_up(self) -> None:
        self._rows.clear()
        self._ragged.clear()

    def rows(self) -> Array:
        """``(samples, features)``; without columns where samples do not differ in length."""
        return np.concatenate(self._rows) if self._rows else np.zeros((0, 0), np.float32)


def _ends(sample: Array) -> tuple[int, int]:
    """Where a sample begins and ends: what is the same again and again at its end, or its begin, is padding."""
    changes = np.flatnonzero((sample[:, 1:] != sample[:, :-1]).any(0))
    if not len(changes):
        return 0, sample.shape[1]
    first, last = int(changes[0]), int(changes[-1])
    begin = first + 1 if first >= 1 else 0
    end = last + 1 if sample.shape[1] - last > 2 else sample.shape[1]
    return (begin, end) if end - begin >= 2 else (0, sample.shape[1])


def _of_ids(sample: Array) -> Array:
    """Which ids it holds, as shares; ids beyond the buckets are spread over them."""
    ids = sample.reshape(-1).astype(np.int64)
    counts = np.bincount(np.where(ids < BUCKETS, ids, ids * 40503 // 7) % BUCKETS, minlength=BUCKETS)
    result: Array = np.sqrt(counts / max(1, len(ids)))
    return result


def _of_values(sample: Array) -> Array:
    """Moments and roughness of each channel, quantiles and spectrum of all, and the length."""
    sample = sample.astype(np.float64)
    mean, spread = sample.mean(1), sample.std(1)
    rough = np.abs(np.diff(sample, axis=1)).mean(1) if sample.shape[1] > 1 else np.zeros(len(sample))
    ranks = np.sort(sample, axis=None)
    quantiles = ranks[[round(share * (len(ranks) - 1)) for share in (0.02, 0.25, 0.5, 0.75, 0.98)]]
    part = sample[:, :MOST_STEPS] - mean[:, None]
    power = np.abs(np.fft.rfft(part, n=max(2 * BANDS, part.shape[1]), axis=1)).mean(0)[1:] / math.sqrt(part.shape[1])
    edges = np.arange(BANDS) * len(power) // BANDS
    bands = np.log1p(np.add.reduceat(power, edges) / np.diff(np.append(edges, len(power))))
    return np.concatenate([mean, spread, rough, quantiles, bands, [math.log(sample.shape[1])]])
