"""The nearest samples of each sample, and how well their labels agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NEIGHBOURS = 5


class Neighbours:
    """The nearest other samples of each sample.

    Args:
        table: ``(samples, columns)``, of like scale.
        kind: ``"classes"``, ``"amounts"`` or ``"several"``: what the labels are.
    """

    def __init__(self, table: Array, kind: str) -> None:
        self._classes = kind == "classes"
        self._table = table = table.astype(np.float32)  # which are near, not how near
        distance = squared_distances(table, table)
        np.fill_diagonal(distance, np.inf)
        most = min(NEIGHBOURS, len(table) - 1)
        self._nearest = np.argpartition(distance, most - 1, axis=1)[:, :most]

    def agreements_of_all(self, rows: Array) -> Array:
        """Of many rows of labels that are all known: the share of equal labels, or the correlation with their mean.

        Args:
            rows: ``(rows, samples)``, or ``(rows, samples, columns)`` of several numbers each.

        >>> near = Neighbours(np.array([[0.0], [0.1], [5.0], [5.1]]), "classes")
        >>> near._nearest = near._nearest[:, :1]
        >>> near.agreements_of_all(np.array([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]])).tolist()
        [1.0, 0.5]
        """
        if rows.ndim == 3:
            return np.array([_together(labels[self._nearest].mean(1), labels) for labels in rows])
        labels = np.ascontiguousarray(rows.T)
        if self._classes:
            labels = labels.astype(np.int16)
            equal = np.zeros(labels.shape, np.uint8)
            for places in self._nearest.T:
                equal += labels[places] == labels
            shares: Array = equal.sum(0, dtype=np.int64) / self._nearest.size
            return shares
        around = np.zeros(labels.shape)
        for places in self._nearest.T:
            around += labels[places]
        found: Array = correlation(around.T, labels.T)
        return found

    def lie_apart(self, rows: int) -> float:
        """Share of the nearest samples that lie once or twice so many rows away: samples of a series, taken in turn.

        >>> Neighbours(np.arange(12.0).reshape(6, 2, order="F").reshape(-1, 1), "classes").lie_apart(2) > 0.5
        True
        """
        apart = np.abs(self._nearest - np.arange(len(self._nearest))[:, None])
        return float(np.isin(apart, (abs(rows), 2 * abs(rows))).mean())

    def follow(self, rows: int) -> float:
        """Share of the samples that are nearer to the one so many rows on than to those before and behind that one.

        Half of them, where order says nothing; nearly all, where samples of several series come in turn.

        >>> turns = np.random.Generator(np.random.PCG64(0)).normal(size=(60, 3)).cumsum(0).reshape(-1, 1)
        >>> near = Neighbours(turns, "classes")
        >>> near.follow(3) > 0.7, near.follow(4) < 0.5
        (True, True)
        """
        lag = abs(rows)
        beside = [other for other in (lag - 1, lag + 1) if 0 < other < len(self._table) - 1]
        if not beside or lag >= len(self._table) - 1:
            return 0.0
        known = len(self._table) - max(lag, *beside)
        first = self._table[:known]
        there, *others = (((first - self._table[one : one + known]) ** 2).sum(1) for one in (lag, *beside))
        return float(min((there < other).mean() for other in others))

    def agreements(self, moved: Array) -> tuple[Array, Array]:
        """:meth:`agreement` of many rows of labels at once, and the share of pairs whose labels are both known.

        Args:
            moved: ``(samples, rows)``: whole numbers from 0 on, or amounts; below 0 where nothing is known.

        >>> near = Neighbours(np.array([[0.0], [0.1], [5.0], [5.1]]), "classes")
        >>> near._nearest = near._nearest[:, :1]
        >>> [part.tolist() for part in near.agreements(np.array([[0, 0], [0, 1], [1, 1], [1, -1]]))]
        [[1.0, 0.0], [1.0, 0.5]]
        """
        there = moved >= 0
        pairs = np.zeros(moved.shape, np.uint8)
        total = np.zeros(moved.shape, np.uint8 if self._classes else np.float64)
        for places in self._nearest.T:
            around = moved[places]
            both = there[places] & there
            pairs += both
            total += ((around == moved) & both) if self._classes else np.where(both, around, 0.0)
        known = pairs.sum(0, dtype=np.int64)
        share = known / self._nearest.size
        if self._classes:
            return total.sum(0, dtype=np.int64) / np.maximum(1, known), share
        mean = total / np.maximum(1, pairs)
        with_pairs = pairs > 0
        return correlation(np.where(with_pairs, mean, np.nan).T, np.where(with_pairs, moved, np.nan).T), share

    def agreements_of_several(self, parts: Sequence[Array], means: Array) -> tuple[Array, Array]:
        """:meth:`agreements` where a label is several numbers, whose products are summed.

        Args:
            parts: Of each column ``(samples, rows)``, below 0 where nothing is known.
            means: Of each column.
        """
        pairs = np.zeros(parts[0].shape, np.uint8)
        there = parts[0] >= 0
        for places in self._nearest.T:
            pairs += there[places] & there
        products, squares, own = (np.zeros(parts[0].shape[1]) for _ in range(3))
        for part, mean in zip(parts, means, strict=True):
            given = np.where(there, part - mean, 0.0)
            around = np.zeros(given.shape)
            for places in self._nearest.T:
                around += given[places]
            around = np.where(there, around / np.maximum(1, pairs), 0.0)
            products += (around * given).sum(0)
            squares += (around**2).sum(0)
            own += (given**2).sum(0)
        share = pairs.sum(0, dtype=np.int64) / self._nearest.size
        return products / np.maximum(np.sqrt(squares * own), 1e-12), share


def squared_distances(one: Array, two: Array) -> Array:
    """``(rows of one, rows of two)``, up to rounding, which may take it below 0."""
    found: Array = one @ two.T
    found *= -2
    found += np.einsum("ij,ij->i", one, one)[:, None]
    found += np.einsum("ij,ij->i", two, two)
    return found


def _together(one: Array, two: Array) -> Any:
    """One correlation of all columns, the more a column varies the more it counts."""
    one, two = one - one.mean(0), two - two.mean(0)
    return (one * two).sum() / max(math.sqrt((one**2).sum() * (two**2).sum()), 1e-12)


def correlation(one: Array, two: Array) -> Any:
    """Of rows; ``NaN`` is not known."""
    one = one - np.nanmean(one, -1, keepdims=True)
    two = two - np.nanmean(two, -1, keepdims=True)
    scale = np.sqrt(np.nansum(one**2, -1) * np.nansum(two**2, -1))
    return np.nansum(one * two, -1) / np.maximum(scale, 1e-12)
