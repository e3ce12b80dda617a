"""The course of the training loss: where it starts and ends, whether it still moves, its stages and spikes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection

import numpy as np

from lightning_debug.curves.noise import Array
from lightning_debug.curves.series import Series, pooled
from lightning_debug.evidence.curves import Shift, Spike, TrainingCourse

BINS = 20
FEWEST = 8
"""A run of fewer steps has no course."""

SPIKE_WINDOW = 32
SPIKE_SIGMAS = 8.0
MOST_SPIKES = 32


def training_course(series: Series, partial: Collection[int] = ()) -> TrainingCourse | None:
    """Reads a training loss; ``None`` where there are too few finite values.

    Args:
        series: The losses.
        partial: Steps whose batch may hold fewer samples than others.

    >>> series = Series()
    >>> series.extend(range(100), [2.0 - 0.01 * step for step in range(100)])
    >>> course = training_course(series)
    >>> round(course.start, 2), round(course.end, 2), round(course.second_slope.amount, 2)
    (1.98, 1.05, -0.95)
    """
    counts, means, squares = series.counts, series.means, series.squares
    if len(means) < FEWEST:
        return None
    edges = np.linspace(0, len(means), min(BINS, len(means) // 2) + 1).round().astype(int)
    bins = [pooled(counts[a:b], means[a:b], squares[a:b]) for a, b in itertools.pairwise(edges)]
    levels = np.array([mean for mean, _, _ in bins])
    noise = batch_noise(means, counts, squares)
    errors = np.array([noise / math.sqrt(count) for _, _, count in bins])
    first = max(1, min(5, len(means) // 10))
    start = pooled(counts[:first], means[:first], squares[:first])
    last = max(3, len(means) // 10)
    end = pooled(counts[-last:], means[-last:], squares[-last:])
    where = np.linspace(0.0, 1.0, len(levels))
    half, quarter = len(levels) // 2, max(1, len(levels) // 4)
    lowest = int(levels.argmin())
    middle = (levels[lowest] + start[0]) / 2
    nearer = np.flatnonzero(levels < middle)
    steps, every = series.steps, _every(series)
    return TrainingCourse(
        steps=series.length,
        first_step=int(steps[0]),
        span=round(steps[-1] - steps[0] + counts[-1] * every),
        start=start[0],
        start_error=min(noise, _quarter(series, noise, 0)) / math.sqrt(max(1, start[2])),
        end=end[0],
        end_error=_quarter(series, noise, -1) / math.sqrt(max(1, end[2])),
        end_quartiles=tuple(np.quantile(means[-last:], [0.25, 0.5]).tolist()) if last >= FEWEST else (),
        lowest=float(levels[lowest]),
        lowest_at=float(where[lowest]),
        above_since=1.0 if not len(nearer) else float(1 - (nearer[-1] + 1) / len(levels)),
        late=_shift(levels[-2 * quarter : -quarter], levels[-quarter:], errors[-quarter:]),
        slope=_slope(where, levels, errors),
        first_slope=_slope(where[:half], levels[:half], errors[:half]),
        second_slope=_slope(where[half:], levels[half:], errors[half:]),
        settled_at=_settled(levels, end[0]),
        batch_noise=noise,
        nonfinite=series.nonfinite / max(1, series.length),
        spikes=spikes(series, partial),
    )


def _every(series: Series) -> float:
    """Steps from one value to the next: more than one where a log holds some of them only."""
    steps, counts = series.steps, series.counts
    gaps = np.diff(steps) / counts[:-1]
    return max(1.0, float(np.median(gaps))) if len(gaps) else 1.0


def batch_noise(means: Array, counts: Array, squares: Array) -> float:
    """Standard deviation of one batch's loss around the course, from the spread within windows or their differences."""
    inside = counts > 1
    if inside.sum() > len(counts) / 2:
        return float(math.sqrt(np.median(squares[inside] / (counts[inside] - 1))))
    jumps = np.abs(np.diff(means)) / math.sqrt(2)
    return float(max(1.4826 * np.median(jumps), np.quantile(jumps, 0.9) / 1.65))


def _quarter(series: Series, noise: float, which: int) -> float:
    """Noise of the first or last quarter: where a run diverges, the noise of its start is far below that of its end."""
    many = len(series.means) // 4
    if many < FEWEST:
        return noise
    part = slice(0, many) if which == 0 else slice(-many, None)
    return batch_noise(series.means[part], series.counts[part], series.squares[part])


def spikes(series: Series, partial: Collection[int] = ()) -> tuple[Spike, ...]:
    """Jumps far out of the noise of the :data:`SPIKE_WINDOW` windows before, beyond the first of them.

    Args:
        series: The losses.
        partial: Steps whose batch may hold fewer samples: their loss alone makes no jump, being noisier.

    >>> series = Series()
    >>> values = [1.0 + 0.01 * (step % 3) for step in range(100)]
    >>> values[60] = 9.0
    >>> series.extend(range(100), values)
    >>> [(spike.step, spike.value, spike.length) for spike in spikes(series)]
    [(60, 9.0, 1)]
    """
    steps, counts, means, highest = series.steps, series.counts, series.means, series.highest
    found: list[Spike] = []
    if len(means) <= SPIKE_WINDOW:
        return ()
    windows = np.lib.stride_tricks.sliding_window_view(means[:-1], SPIKE_WINDOW)  # those before each of the others
    levels = np.median(windows, axis=1)
    away = np.abs(windows - levels[:, None])
    noises = np.maximum(1.4826 * np.median(away, axis=1), np.quantile(away, 0.9, axis=1) / 1.65)
    noises = np.maximum(noises, 1e-12)
    high = ~(highest[SPIKE_WINDOW:] - levels < SPIKE_SIGMAS * noises)
    at = 0
    for start in (np.flatnonzero(high) + SPIKE_WINDOW).tolist():
        if start < at:
            continue
        at, level, noise = start, float(levels[start - SPIKE_WINDOW]), float(noises[start - SPIKE_WINDOW])
        top = float(highest[at])
        end = at + 1
        while end < len(means) and means[end] > (level + top) / 2:
            end += 1
        peak = float(highest[at:end].max())
        while end < len(means) and means[end] > level + (peak - level) / 2:
            end += 1
        alone = counts[at] == 1 and end == at + 1 and int(steps[at]) in partial
        if alone and len(partial) < len(means) / 2:
            at = end
            continue
        found.append(
            Spike(
                step=int(steps[at]),
                value=peak,
                before=level,
                noise=noise,
                length=int(counts[at:end].sum()),
                recovered=end < len(means),
            )
        )
        at = end
    kept = sorted(found, key=lambda spike: (spike.before - spike.value, spike.step))[:MOST_SPIKES]
    return tuple(sorted(kept, key=lambda spike: spike.step))


def _shift(before: Array, after: Array, errors: Array) -> Shift:
    if not len(before) or not len(after):
        return Shift()
    spread = _around_line(np.concatenate([before, after]))
    one = max(float(np.mean(errors)), spread)  # bins may differ by more than their batches' spread: drift
    return Shift(amount=float(after.mean() - before.mean()), error=one * math.sqrt(1 / len(before) + 1 / len(after)))


def _slope(where: Array, levels: Array, errors: Array) -> Shift:
    if len(levels) < 3:
        return Shift()
    centred = where - where.mean()
    square = float((centred**2).sum())
    slope = float((centred * levels).sum() / square)
    one = max(float(np.mean(errors)), _around_line(levels))
    return Shift(amount=slope, error=one / math.sqrt(square))


def _around_line(levels: Array) -> float:
    if len(levels) < 3:
        return 0.0
    where = np.arange(len(levels)) - (len(levels) - 1) / 2
    slope = float((where * levels).sum() / (where**2).sum())
    rest = levels - levels.mean() - slope * where
    return float(math.sqrt((rest**2).sum() / (len(levels) - 2)))


def _settled(levels: Array, end: float) -> float:
    fall = float(levels.max() - min(end, float(levels.min())))
    away = np.flatnonzero(np.abs(levels - end) > 0.1 * fall)
    return float((away[-1] + 1) / len(levels)) if len(away) else 0.0
