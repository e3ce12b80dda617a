"""A long series in bounded memory: neighbouring values are merged when there are too many."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lightning_debug.curves.noise import Array

MOST = 4096


class Series:
    """Values in order, kept as windows: mean, highest, sum of squared deviations, count and first step of each.

    Windows hold one value each until there are more than ``most``; then neighbours are merged two by two, and all
    windows from then on are that much longer. Values that are NaN or infinite are counted and left out.

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

    def extend(self, steps: Iterable[int], values: Iterable[float]) -> None:
        """Appends values with their steps."""
        for step, value in zip(steps, values, strict=True):
            self.length += 1
            if not np.isfinite(value):
                self.nonfinite += 1
                continue
            self._open.append((int(step), float(value)))
            if len(self._open) >= self._size:
                self._rows.append(_row(self._open))
                self._open = []
                if len(self._rows) >= self._most:
                    pairs = zip(self._rows[::2], self._rows[1::2], strict=True)
                    self._rows = [_merged(one, two) for one, two in pairs]
                    self._size *= 2

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
