"""In which order labels come: runs, and how much alike the labels of a batch are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

STRETCH, MOST_STRETCHES = 16, 2048
"""Labels of so many samples in a row are compared with all other such rows, of so many at most."""
SMALLEST_BATCH = 4
"""A batch of fewer samples may well hold one label."""


def runs(labels: Array) -> tuple[int, float, float]:
    """Stretches of equal labels: how many, how many a random order gives, and standard deviations from that.

    The mean and variance are those of the number of runs over all permutations of the labels.

    >>> runs(np.repeat([0, 1], 50))[0], round(runs(np.repeat([0, 1], 50))[1])
    (2, 51)
    """
    count = len(labels)
    if count < 2:
        return count, float(count), 0.0
    found = 1 + int((labels[1:] != labels[:-1]).sum())
    _, sizes = np.unique(labels, return_counts=True)
    counts = sizes.astype(float)
    squares, cubes = float((counts**2).sum()), float((counts**3).sum())
    expected = (count * (count + 1) - squares) / count
    variance = (squares * (squares + count * (count + 1)) - 2 * count * cubes - count**3) / (count**2 * (count - 1))
    return found, expected, (found - expected) / math.sqrt(variance) if variance > 1e-9 else 0.0


def alike(labels: Array, sizes: Sequence[int]) -> tuple[float, float, float]:
    """How much alike labels are: within batches, overall, and the share of batches that hold one label only.

    >>> alike(np.repeat([0, 1], 8), [8, 8])[0], alike(np.repeat([0, 1], 8), [8, 8])[2]
    (1.0, 1.0)
    """
    _, codes = np.unique(labels, return_inverse=True)
    pairs = same = 0.0
    single = large = start = 0
    for size in sizes:
        counts = np.bincount(codes[start : start + size])
        start += size
        if size >= 2:
            pairs += size * (size - 1)
            same += float((counts * (counts - 1)).sum())
        if size >= SMALLEST_BATCH:
            large += 1
            single += int(counts.max()) == size
    total = np.bincount(codes).astype(float)
    count = float(total.sum())
    overall = float((total * (total - 1)).sum()) / (count * (count - 1)) if count > 1 else 1.0
    return (same / pairs if pairs else overall), overall, (single / large if large else 0.0)


def is_irregular(labels: Array) -> bool:
    """Whether the order of labels is one of many, rather than a pattern that comes with every episode or round.

    >>> drawn = np.random.Generator(np.random.PCG64(0)).integers(0, 3, 999)
    >>> is_irregular(np.tile([0, 0, 1, 1, 2], 200)), is_irregular(drawn)
    (False, True)
    """
    if len(labels) < 2 * STRETCH:
        return False
    stretches = np.lib.stride_tricks.sliding_window_view(labels[:MOST_STRETCHES], STRETCH)
    return 2 * len(np.unique(stretches, axis=0)) > len(stretches)


def rank_correlation(amounts: Array) -> float | None:
    """Spearman's correlation of amounts with their place."""
    if len(amounts) < 3 or not np.isfinite(amounts).all() or np.ptp(amounts) == 0:
        return None
    return float(np.corrcoef(average_ranks(amounts), np.arange(len(amounts)))[0, 1])


def average_ranks(amounts: Array) -> Array:
    """Ranks from 1 on; equal amounts share the mean of theirs.

    >>> average_ranks(np.array([0.3, 0.1, 0.3]))
    array([2.5, 1. , 2.5])
    """
    _, codes, counts = np.unique(amounts, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2)[codes]
    return ranks


def looks_like_series(rows: Array, shape: tuple[int, ...]) -> bool:
    """Whether samples are stretches of time: each next one is the last one moved by a step, or steps are smooth.

    Args:
        rows: ``(samples, values)`` in the order of the dataset.
        shape: Shape of one sample.

    >>> wave = np.sin(np.arange(200) / 5)
    >>> looks_like_series(np.stack([wave[i : i + 16] for i in range(100)]), (16,))
    True
    """
    if len(shape) > 2 or len(rows) < 4 or not shape or min(shape, default=0) < 1:
        return False
    table = rows[:64].reshape(-1, *shape) if shape else rows[:64]
    for axis in range(1, table.ndim):
        series = np.moveaxis(table, axis, 1)
        length = series.shape[1]
        for step in range(1, max(2, length // 2)):
            if length - step >= 3 and np.allclose(series[1:, : length - step], series[:-1, step:], atol=1e-6):
                return True
    return False
