"""Several views of a table of samples, in the hope that one of them shows what the labels are about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MOST_COLUMNS = 256
MOST_IDS = 256


def views(rows: Array, shape: tuple[int, ...], tokens: bool) -> Iterator[tuple[str, Array]]:
    """Names and standardised tables, the plainest first.

    Args:
        rows: ``(samples, values)``.
        shape: Shape of one sample, or empty where that is not known.
        tokens: Whether the values are ids.

    >>> rows = np.random.Generator(np.random.PCG64(0)).normal(size=(50, 6))
    >>> [name for name, table in views(rows, (6,), tokens=False)]
    ['values', 'summary', 'products']
    """
    if tokens:
        yield from _of_tokens(rows)
        return
    values = standardised(thinned(rows, MOST_COLUMNS))
    yield "values", values
    yield "summary", standardised(_summary(rows, shape))
    if 2 <= values.shape[1] <= 24:
        first, second = np.triu_indices(values.shape[1])
        yield "products", standardised(values[:, first] * values[:, second])


def are_inputs(rows: Array, labels: Array, move: int, fewest: int = 8) -> bool:
    """Whether labels of so many rows on are, more often than by chance, what one column of the inputs holds.

    Pairs out of a window (a word and its neighbours, an item and the next) are like that, and not out of step.

    Args:
        rows: ``(samples, values)``.
        labels: At least as many labels.
        move: By how many rows labels are moved back.
        fewest: Different labels that make ids of them: two classes and a flag are often equal.

    >>> ids = np.arange(40) % 10
    >>> are_inputs(ids[:, None], np.roll(ids, 3), 3), are_inputs(ids[:, None], np.roll(ids, 3), 1)
    (True, False)
    """
    low, high = max(0, -move), min(len(rows), len(labels) - move)
    moved, inputs = labels[low + move : high + move], rows[low:high]
    values, counts = np.unique(moved, return_counts=True)
    if len(values) < fewest or high - low < fewest:
        return False
    equal = (inputs == moved[:, None]).mean(axis=0)
    chance = sum(
        count / len(moved) * (inputs == value).mean(axis=0) for value, count in zip(values, counts, strict=True)
    )
    return bool((equal > 2 * chance + 0.05).any())


def standardised(table: Array) -> Array:
    """Mean 0 and standard deviation 1 in each column; columns that hardly vary, or are not finite, are left out."""
    with np.errstate(all="ignore"):
        highest = np.maximum(table.max(0, initial=0), -table.min(0, initial=0)).astype(np.float64)
        result: Array = table.astype(np.float64)
        result -= result.mean(0)
        spread = np.sqrt(np.einsum("ij,ij->j", result, result) / max(1, len(result)))
        usable = np.isfinite(spread) & (spread > 1e-12 * (1 + highest))
        result = result if usable.all() else result[:, usable]
        result /= spread[usable]
    return result


def thinned(rows: Array, most: int) -> Array:
    """So many columns, evenly spread."""
    step = max(1, -(-rows.shape[1] // most))
    return rows[:, :: step + (step % 2 == 0)]


def _summary(rows: Array, shape: tuple[int, ...]) -> Array:
    """What does not depend on where in a sample things are: moments, roughness, quantiles, the spectrum."""
    table = rows.astype(np.float64)
    parts = [table.mean(1), table.std(1), np.abs(np.diff(table, axis=1)).mean(1) if table.shape[1] > 1 else table[:, 0]]
    columns = [np.stack(parts, 1), _quantiles(rows)]  # half as wide, twice as fast
    if len(shape) == 3 and shape[1] >= 8 and shape[2] >= 8:
        image = table.reshape(-1, *shape).mean(1)
        columns.append(
            np.abs(np.fft.rfft2(image - image.mean((1, 2), keepdims=True)))[:, :8, :8].reshape(len(rows), -1)
        )
    elif table.shape[1] >= 8:
        series = table.reshape(-1, *shape) if len(shape) == 2 else table[:, :, None]
        series = np.moveaxis(series, 2, 1) if series.shape[2] <= series.shape[1] else series
        spectrum = np.abs(np.fft.rfft(series - series.mean(2, keepdims=True), axis=2))
        columns.append(np.log1p(spectrum[:, :8, :32]).reshape(len(rows), -1))
    return np.concatenate(columns, 1)


def _quantiles(table: Array) -> Array:
    """The extremes, the median, quartiles and outer tenths of each row; NumPy's own imports masked arrays for it."""
    places = [round(share * (table.shape[1] - 1)) for share in (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)]
    result: Array = np.sort(table, axis=1)[:, places]
    return result.astype(np.float64)


def _of_tokens(rows: Array) -> Iterator[tuple[str, Array]]:
    """How often each id occurs, and which id stands where."""
    ids, counts = np.unique(rows, return_counts=True)
    order = np.argsort(-counts)[:MOST_IDS]
    frequent, column = ids[order], np.full(len(ids), len(order))
    column[order] = np.arange(len(order))
    wide = len(order) + 1  # what is rare goes into a last column
    places = column[np.searchsorted(ids, rows)] + wide * np.arange(len(rows))[:, None]
    bag = np.bincount(places.ravel(), minlength=wide * len(rows)).reshape(len(rows), wide)[:, :-1]
    yield "bag of tokens", standardised(bag)
    width = min(rows.shape[1], 16)
    ends = np.concatenate([rows[:, : width // 2 + width % 2], rows[:, rows.shape[1] - width // 2 :]], 1)
    equal = [(ends == one) for one in frequent[:16]]
    yield "tokens by place", standardised(np.concatenate([ends, *equal], 1))
