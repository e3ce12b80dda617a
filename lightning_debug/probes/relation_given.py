"""Columns of a table that hold the label itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_debug.probes.relation_stream import Samples

Array = npt.NDArray[Any]

FEWEST_SAMPLES, FEWEST_COLUMNS = 64, 3
FEWEST_OF_A_CLASS = 3
EXACT = 1e-9
"""How far a correlation may be from 1, by rounding of 32 bits."""


def given_by(samples: Samples, asked: Array) -> tuple[int, int] | None:
    """The first column that holds the label, and how many do; ``None`` where that cannot be asked.

    Of classes: a column with one value for each class and another for each other. Of amounts: a column that is a
    multiple of the amount, moved by a constant; not where other columns are such of one another, as in windows of what
    repeats.

    Args:
        samples: Rows of tables, as they were delivered.
        asked: The columns to look at.

    >>> rows = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    >>> rows[:, 2] = 5 - 2 * (np.arange(80) % 3)
    >>> samples = Samples(keys=np.arange(80, dtype=np.uint64), labels=np.arange(80) % 3, kind="classes", rows=rows)
    >>> given_by(samples, np.arange(4))
    (2, 1)
    """
    rows, labels = samples.rows[:, asked].astype(np.float64), samples.kept_labels
    if not samples.kind or samples.rows.shape[1] < FEWEST_COLUMNS or not rows.shape[1]:
        return None
    if len(rows) < FEWEST_SAMPLES or len(labels) != len(rows) or not (np.isfinite(rows).all()):
        return None
    found = holding_classes(rows, labels) if samples.kind == "classes" else _of_amounts(rows, labels)
    if found is None:
        return None
    return (int(asked[found[0]]) if len(found) else -1), len(found)


def holding_classes(rows: Array, labels: Array) -> Array | None:
    """Columns with one value for each class and another for each other; ``None`` where labels are no classes."""
    classes, first, which, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    if not 2 <= len(classes) <= len(rows) // 8 or counts.min() < FEWEST_OF_A_CLASS:
        return None
    values = rows[first]
    constant = (rows == values[which]).all(0)
    other = np.diff(np.sort(values, axis=0), axis=0).min(0) > 0
    return np.flatnonzero(constant & other)


def holding_amounts(rows: Array, labels: Array) -> Array:
    """Columns that are a multiple of the amount, moved by a constant.

    >>> amounts = np.arange(40.0)
    >>> holding_amounts(np.stack([amounts**2, 3 - 2 * amounts, 0 * amounts], 1), amounts)
    array([1])
    """
    spread = np.flatnonzero(np.ptp(rows, axis=0) > 0)
    if not len(spread) or len(np.unique(labels)) < FEWEST_SAMPLES // 2:
        return spread[:0]
    centred = rows[:, spread] - rows[:, spread].mean(0)
    amounts = labels - labels.astype(np.float64).mean()
    alike = np.abs(amounts @ centred) >= (1 - EXACT) * np.linalg.norm(amounts) * np.linalg.norm(centred, axis=0)
    found: Array = spread[alike]
    return found


def _of_amounts(rows: Array, labels: Array) -> Array | None:
    if len(np.unique(labels)) < FEWEST_SAMPLES // 2:
        return None
    spread = np.ptp(rows, axis=0) > 0
    if not spread.any():
        return None
    same = np.abs(np.atleast_2d(np.corrcoef(rows[:, spread], rowvar=False))) >= 1 - EXACT
    np.fill_diagonal(same, False)
    return None if same.any() else holding_amounts(rows, labels)
