"""How noisy a curve is, and whether it rises or falls by more than that.

A curve is a sequence of values in the order of its epochs (or steps); values that are NaN or infinite are left out
of every estimate. Two sources of noise: residuals, for any curve (:func:`residual_noise`), and the spread of the
batches within an epoch, for the training loss (:func:`standard_error`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[np.float64]
Array = NDArray[np.float64]

FEWEST = 5
"""A curve with fewer values gives no estimate of its own noise."""

SIGMAS = 3.0
"""How many standard deviations a change must have by default: chosen extremes lie two from the mean by chance."""

_MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class Change:
    """A difference between two parts of a curve, in the curve's units.

    Args:
        amount: Later part less earlier part; positive means that the curve rises.
        error: Standard error of ``amount``.
        start: Index at which the earlier part is centred.
        end: Index at which the later part is centred.

    >>> Change(0.5, 0.1, 3, 9).interval()
    (0.3, 0.7)
    """

    amount: float
    error: float
    start: int
    end: int

    @property
    def sigmas(self) -> float:
        """The amount in standard errors, with its sign; 0 where the noise is not known."""
        if not math.isfinite(self.error) or abs(self.amount) < 1e-12:
            return 0.0
        return self.amount / self.error if self.error > 0 else math.copysign(math.inf, self.amount)

    def interval(self, sigmas: float = 2.0) -> tuple[float, float]:
        """The amount with so many standard errors on either side."""
        return round(self.amount - sigmas * self.error, 12), round(self.amount + sigmas * self.error, 12)


def finite(values: Values) -> Array:
    """The finite values, in order."""
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def standard_error(batch_values: Values) -> float:
    """Standard error of an epoch's mean from its batches' values; NaN for fewer than two.

    >>> standard_error([1.0, 3.0])
    1.0
    """
    kept = finite(batch_values)
    return float(kept.std(ddof=1) / math.sqrt(len(kept))) if len(kept) > 1 else math.nan


def residual_noise(values: Values) -> float:
    """Standard deviation of a curve around its own smooth course, from its second differences, robustly.

    A straight line has no noise, and steps or single outliers hardly count. The estimate is the larger of a median
    and a trimmed mean: the median alone is 0 for curves that stand still most of the time.

    Returns:
        The noise of one value; ``inf`` for fewer than :data:`FEWEST` finite values, where nothing is significant.

    >>> residual_noise([1.0, 0.8, 0.6, 0.4, 0.2]) < 1e-9
    True
    >>> residual_noise([1.0, 0.9])
    inf
    """
    kept = finite(values)
    if len(kept) < FEWEST:
        return math.inf
    bends = np.sort(np.abs(kept[:-2] - 2 * kept[1:-1] + kept[2:])) / math.sqrt(6)
    median = float(np.median(bends)) * _MAD_TO_SD
    trimmed = bends[: max(2, round(0.8 * len(bends)))]
    return max(median, float(np.sqrt(np.mean(trimmed**2))) * 1.3 if len(trimmed) else 0.0)


def noise_of(values: Values, errors: Values | None = None) -> float:
    """Noise of one value of a curve: the larger of what its residuals and its values' own errors say.

    Args:
        values: The curve.
        errors: Standard error of each value (see :func:`standard_error`), where known; NaN where not.
    """
    residual = residual_noise(values)
    known = finite(errors) if errors is not None else np.empty(0)
    told = float(np.median(known)) if len(known) else 0.0
    if math.isinf(residual):
        return told if len(known) else residual
    return max(residual, told)


def smooth(values: Values, width: int = 5) -> Array:
    """Centred running mean of finite neighbours, narrower at the ends; NaN only where no neighbour is finite.

    >>> smooth([0.0, 3.0, 0.0], 3).tolist()
    [1.5, 1.0, 1.5]
    """
    array = np.asarray(values, dtype=np.float64)
    half = max(0, width // 2)
    known = np.isfinite(array)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, array, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    index = np.arange(len(array))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(array))
    with np.errstate(invalid="ignore"):
        result: Array = (sums[high] - sums[low]) / (counts[high] - counts[low])
    return result


def width_for(length: int) -> int:
    """A width of smoothing for a curve of that length: odd, 1 to 7."""
    return int(np.clip(2 * (length // 8) + 1, 1, 7))


def change(values: Values, start: int, end: int, *, width: int = 3, noise: float | None = None) -> Change:
    """The difference between the means of the values around two indices.

    Args:
        values: The curve.
        start: Index of the earlier part.
        end: Index of the later part; negative counts from the end.
        width: How many values each part has at most (fewer at the curve's ends, or where the parts would meet).
        noise: Noise of one value; by default :func:`residual_noise`.
    """
    array = np.asarray(values, dtype=np.float64)
    end = end + len(array) if end < 0 else end
    half = min(width // 2, max(0, (abs(end - start) - 1) // 2))
    parts = [finite(array[max(0, at - half) : at + half + 1]) for at in (start, end)]
    if not all(len(part) for part in parts):
        return Change(0.0, math.inf, start, end)
    one = residual_noise(array) if noise is None else noise
    error = one * math.sqrt(sum(1 / len(part) for part in parts))
    return Change(float(parts[1].mean() - parts[0].mean()), error, start, end)


def rise(values: Values, *, noise: float | None = None, width: int | None = None) -> Change:
    """How far a curve has risen from its lowest part to its end (smoothed): 0 where it ends at its lowest.

    Whether that is significant: ``rise(values).sigmas >= SIGMAS``. The noise of few values is itself uncertain: of
    settled curves of ten values some 4 % pass that, of twenty and more 1 % at most.

    >>> change = rise([3, 2, 1, 1, 1, 2, 3, 4, 5, 6.0])
    >>> change.start, change.sigmas > SIGMAS
    (3, True)
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).any():
        return Change(0.0, math.inf, 0, max(0, len(array) - 1))
    width = width_for(len(array)) if width is None else width
    course = smooth(array, width)
    start = int(np.nanargmin(course))
    return change(array, start, len(array) - 1 - min(width // 2, 1), width=width, noise=noise)


def fall(values: Values, *, noise: float | None = None, width: int | None = None) -> Change:
    """How far a curve has fallen from its highest part to its end (smoothed); a negative amount."""
    up = rise(-np.asarray(values, dtype=np.float64), noise=noise, width=width)
    return Change(-up.amount, up.error, up.start, up.end)
