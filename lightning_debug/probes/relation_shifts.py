"""Labels that belong to other rows: by how many rows they have to be moved to agree with the nearest samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_debug.probes.relation_neighbours import Neighbours

Array = npt.NDArray[Any]

MOST_SHIFTED = 8192
"""Rows by which labels are moved at most."""
FEWEST_PAIRS = 0.2
"""Share of the pairs of neighbours that a shift must leave; half of the rows leave a quarter by chance."""
PERMUTATIONS = 199
SERIES = 0.05
"""With a larger share of the nearest samples at the distance of the shift, or twice that, none is claimed."""
FOLLOWS = 0.75
"""Likewise with a larger share of samples that are nearer to the one at that distance than to those beside it."""
CLEAR = 0.05
"""With a larger p-value against other shifts, permutations are not asked as well."""
AT_ONCE = 256
"""Shifts that are tried together."""


@dataclass(frozen=True)
class Shift:
    """By how many rows labels have to be moved back; ``rows`` is 0 where none fits.

    Args:
        rows: Labels come so many rows after their inputs.
        agreement: As of the neighbours.
        p_value: Corrected for the number of shifts tried.
    """

    rows: int = 0
    agreement: float = 0.0
    p_value: float = 1.0


def best_shift(near: Neighbours, labels: Array, count: int) -> Shift:
    """Tries every shift that leaves half of the rows, up to :data:`MOST_SHIFTED`.

    A shift that fits is far from all other shifts, and from the same labels permuted: where a few samples are the
    neighbours of most others, scores vary more than their number lets expect. Where the nearest samples are often
    those that many rows away, or samples are nearer to those than to the ones beside them, samples follow each other
    there (an agent's states), and may follow from labels.

    Args:
        near: The nearest of the first samples.
        labels: Whole numbers from 0 on for classes, or amounts from 0 on, or ``(samples, columns)`` of several
            numbers each; of those samples and of more.
        count: How many samples those are.
    """
    scores, moves = [], []
    columns = labels.reshape(len(labels), -1)
    columns = columns - columns.min(0) if labels.ndim == 2 else columns
    for parts in zip(*(_moved(column, count) for column in columns.T), strict=True):
        these = parts[0][1]
        if labels.ndim == 2:
            found, pairs = near.agreements_of_several([part for part, _ in parts], columns.mean(0))
        else:
            found, pairs = near.agreements(parts[0][0])
        usable = (these >= 0) & (these <= len(labels) - count) | (pairs >= FEWEST_PAIRS)
        scores.append(found[usable & (these != 0)])
        moves.append(these[usable & (these != 0)])
    values = np.concatenate(scores) if scores else np.zeros(0)
    if len(values) < 8:
        return Shift()
    best = int(values.argmax())
    rows = int(np.concatenate(moves)[best])
    low, high = max(0, -rows), min(count, len(labels) - rows)
    if near.lie_apart(rows) > SERIES or near.follow(rows) > FOLLOWS:
        return Shift()
    fits = Shift(rows, float(values[best]), _p_value(float(values[best]), np.delete(values, best), len(values)))
    if fits.p_value > CLEAR:
        return fits  # other shifts do as well
    own = np.full((count, columns.shape[1]), -1.0)
    own[low:high] = columns[low + rows : high + rows]
    at = np.arange(low, high)
    random, permuted = np.random.Generator(np.random.PCG64(0)), np.tile(own, (PERMUTATIONS, 1, 1))
    for row in permuted:
        row[at] = row[random.permutation(at)]
    if labels.ndim == 2:
        luck = near.agreements_of_several(list(permuted.transpose(2, 1, 0)), columns.mean(0))[0]
    else:
        luck = near.agreements(np.ascontiguousarray(permuted[..., 0].T))[0]
    p_value = max(fits.p_value, _p_value(fits.agreement, luck, len(values)))
    return Shift(rows, fits.agreement, p_value)


def _p_value(best: float, others: Array, tried: int) -> float:
    """How likely the best of so many is so far above others by luck."""
    deviation = (best - float(others.mean())) / max(float(others.std()), 1e-9)
    return min(1.0, tried * 0.5 * math.erfc(deviation / math.sqrt(2)))


def _moved(labels: Array, count: int) -> Iterator[tuple[Array, Array]]:
    """``(samples, shifts)``: the labels of so many rows on, -1 where there are none; and by how many rows."""
    fewest = max(32, count // 2)
    if len(labels) < fewest:
        return
    furthest = min(MOST_SHIFTED, max(count // 2, len(labels) - count), len(labels) - fewest)
    whole = bool((labels[: count + furthest] == labels[: count + furthest].round()).all())
    kind = np.float64 if not whole else np.int16 if labels.max() < 2**15 else np.int64
    before = count - fewest
    padded = np.full(before + furthest + count, -1, dtype=kind)
    known = labels[: furthest + count].astype(kind)
    padded[before : before + len(known)] = known
    windows: Any = np.lib.stride_tricks.sliding_window_view(padded, count)
    for start in range(0, len(windows), AT_ONCE):
        part = windows[start : start + AT_ONCE]
        yield np.ascontiguousarray(part.T), np.arange(start, start + len(part)) - before
