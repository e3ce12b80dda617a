"""A long series in bounded memory: neighbouring values are merged when there are too many."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lightning_debug.curves.noise import Array

MOST = 4096


class Series:
    """Values in order, kept as windows: mean, highest, sum of squared deviations, count and first step of each.

    Windows hold one value each until there are more than ``most``; then neighbours are merged two by two, and all
    windows from then on are that much longer. Values that are NaN or infinite are counted and left out;
    ``broken_since`` is the step from which on there are no others, ``broken_with`` the first of them.

    Args:
        most: How many windows to keep; even.

    >>> series = Series(most=4)
    >>> series.extend(range(6), [0, 1, 2, 3, 4, 5])
    >>> series.means.tolist(), series.counts.tolist(), series.length
    ([0.5, 2.5, 4.5], [2.0, 2.0, 2.0], 6)
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._size = 1
        self._rows: list[tuple[int, int, float, float, float]] = []  # step, count, mean, squares, highest
        self._open: list[tuple[int, float]] = []
        self.length = 0
        self.nonfinite = 0
        self.broken_since: int | None = None
        self.broken_with = math.nan
        self.broken_count = 0

    def extend(self, steps: Iterable[int], values: Iterable[float]) -> None:
        """Appends values with their steps."""
        places = np.fromiter(steps, np.int64) if not isinstance(steps, np.ndarray) else steps.astype(np.int64)
        numbers = np.fromiter(values, np.float64) if not isinstance(values, np.ndarray) else values.astype(np.float64)
        if len(places) != len(numbers):
            raise ValueError(f"{len(places)} steps and {len(numbers)} values")
        good = np.isfinite(numbers)
        self.length += len(numbers)
        self.nonfinite += int(len(numbers) - good.sum())
        self._note_tail(places, numbers, good)
        places, numbers = places[good], numbers[good]
        at = 0
        while at < len(numbers):
            room = self._size * (self._most - len(self._rows)) - len(self._open)
            part = slice(at, at + room)
            at += room
            self._append(places[part], numbers[part])
            if len(self._rows) >= self._most:
                pairs = zip(self._rows[::2], self._rows[1::2], strict=True)
                self._rows = [_merged(one, two) for one, two in pairs]
                self._size *= 2

    def _append(self, places: NDArray[np.int64], numbers: Array) -> None:
        if self._open:
            places = np.concatenate([[step for step, _ in self._open], places])
            numbers = np.concatenate([[value for _, value in self._open], numbers])
        many = len(numbers) // self._size
        whole = many * self._size
        if many:
            windows = numbers[:whole].reshape(many, self._size)
            means = windows.mean(axis=1)
            squares = ((windows - means[:, None]) ** 2).sum(axis=1)
            columns = (means.tolist(), squares.tolist(), windows.max(axis=1).tolist())
            steps = places[: whole : self._size].tolist()
            self._rows += [
                (step, self._size, mean, square, top) for step, mean, square, top in zip(steps, *columns, strict=True)
            ]
        self._open = list(zip(places[whole:].tolist(), numbers[whole:].tolist(), strict=True))

    def _note_tail(self, places: NDArray[np.int64], numbers: Array, good: NDArray[np.bool_]) -> None:
        if not len(good):
            return
        if good.any():
            self.broken_since, self.broken_count = None, 0
        if good[-1]:
            return
        since = int(np.flatnonzero(good)[-1]) + 1 if good.any() else 0
        self.broken_count += len(good) - since
        if self.broken_since is None:
            self.broken_since, self.broken_with = int(places[since]), float(numbers[since])

    def cut(self, step: int) -> int:
        """Forgets the values from a step on, as far as whole windows go; returns how many that are."""
        kept = [row for row in self._rows if row[0] < step]
        left = [item for item in self._open if item[0] < step]
        gone = sum(row[1] for row in self._rows[len(kept) :]) + len(self._open) - len(left)
        self._rows, self._open = kept, left
        self.length -= gone
        return gone

    def _column(self, index: int) -> Array:
        rows = [*self._rows, *([_row(self._open)] if self._open else [])]
        return np.array([row[index] for row in rows], dtype=np.float64)

    @property
    def steps(self) -> Array:
        """First step of each window."""
        return self._column(0)

    @property
    def counts(self) -> Array:
        """Values in each window."""
        return self._column(1)

    @property
    def means(self) -> Array:
        """Mean of each window."""
        return self._column(2)

    @property
    def squares(self) -> Array:
        """Sum of squared deviations from the mean of each window."""
        return self._column(3)

    @property
    def highest(self) -> Array:
        """Highest value of each window."""
        return self._column(4)

    def between(self, first: int, last: int) -> tuple[float, float, int]:
        """Mean, standard error and count of the values whose window begins in ``first <= step < last``."""
        steps = self.steps
        chosen = (steps >= first) & (steps < last)
        return pooled(self.counts[chosen], self.means[chosen], self.squares[chosen])


def pooled(counts: Array, means: Array, squares: Array) -> tuple[float, float, int]:
    """Mean, standard error and count of windows taken together; NaN for none."""
    total = float(counts.sum())
    if not total:
        return float("nan"), float("nan"), 0
    mean = float((counts * means).sum() / total)
    spread = float(squares.sum() + (counts * (means - mean) ** 2).sum())
    error = (spread / (total - 1) / total) ** 0.5 if total > 1 else float("nan")
    return mean, error, int(total)


def _row(values: list[tuple[int, float]]) -> tuple[int, int, float, float, float]:
    if len(values) == 1:
        step, value = values[0]
        return step, 1, value, 0.0, value
    array = np.array([value for _, value in values])
    return values[0][0], len(array), float(array.mean()), float(((array - array.mean()) ** 2).sum()), float(array.max())


def _merged(
    one: tuple[int, int, float, float, float], two: tuple[int, int, float, float, float]
) -> tuple[int, int, float, float, float]:
    count = one[1] + two[1]
    gap = two[2] - one[2]
    mean = one[2] + gap * two[1] / count
    return one[0], count, mean, one[3] + two[3] + gap * gap * one[1] * two[1] / count, max(one[4], two[4])
