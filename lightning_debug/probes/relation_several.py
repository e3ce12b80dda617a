"""Labels of more than one number a sample: several classes at once, vectors that are regressed, small maps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.order_labels import average_ranks, looks_like_series

Array = npt.NDArray[Any]
SeveralKind = Literal["hot", "amounts", ""]

MOST_ROWS = 1024 + 8192
"""Of so many samples the numbers are kept, for the tests of alignment."""
MOST_COLUMNS, MOST_MARKS, MOST_BITS = 16, 4, 64
"""Numbers of a sample that are kept of those; and of all samples: amounts, or as many yes and no as a word has."""
MOST_NUMBERS = 4096
"""Larger labels, such as whole images, are not looked at."""
CLASSES, TASKS = 8, 8
"""Whole numbers up to so many columns are labels of as many tasks; below so many they are classes, not amounts."""
HEAD = 64
"""Of so many samples all numbers are kept, which show whether labels are stretches of a series."""


@dataclass(frozen=True)
class SeveralLabels:
    """Labels of some samples in the order in which they came.

    Args:
        kind: ``"hot"`` for yes and no, ``"amounts"``, or ``""`` where labels are something else.
        table: ``(samples, columns)`` of the first samples.
        marks: Of every sample: a word whose bits are the first classes, or ``(samples, columns)`` of a few amounts.
        series: Whether labels are stretches of a series, each the last one moved by a step.
        numbers: Numbers a sample.
    """

    kind: SeveralKind = ""
    table: Array = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.float32))
    marks: Array = dataclasses.field(default_factory=lambda: np.zeros(0, np.uint64))
    series: bool = False
    numbers: int = 0

    def taken(self, places: Array) -> SeveralLabels:
        """Of some of the samples only."""
        kept = places[places < len(self.table)]
        return dataclasses.replace(self, table=self.table[kept], marks=self.marks[places])

    def differs(self, places: Array, other: SeveralLabels) -> Array:
        """For each sample, whether its label is not that of another set's sample at a place."""
        unequal = self.marks != other.marks[places]
        result: Array = unequal.any(1) if unequal.ndim == 2 else unequal
        return result


def several_of(fields: Sequence[Field], size: int) -> tuple[str, SeveralKind, Tensor] | None:
    """Name, kind and ``(samples, numbers)``, where the first labels have that.

    >>> from lightning_debug.probes.batch_roles import batch_roles
    >>> batch = {"image": torch.rand(4, 3, 8, 8), "labels": torch.tensor([[0, 1], [1, 1], [0, 0], [1, 0]])}
    >>> several_of(batch_roles(batch), 4)[:2]
    ("batch['labels']", 'hot')
    """
    for item in fields:
        if item.role != "label" or item.size != size or not size:
            continue
        values = item.samples
        count = values.numel() // size
        if not 1 < count <= MOST_NUMBERS:
            return None
        if item.kind in ("multi-hot", "one-hot", "binary") and values.ndim == 2:
            return item.path, "hot", values
        if item.kind == "classes" and values.ndim == 2 and count <= TASKS:
            if int(values.max()) >= CLASSES:
                return item.path, "amounts", values.float()
            classes = torch.arange(CLASSES, dtype=values.dtype)  # what is below 0 is left out of a loss: none of them
            return item.path, "hot", (values.unsqueeze(2) == classes).flatten(1)
        if item.kind == "values" and values.is_floating_point():
            if values.ndim > 2:  # a map: where in it something is, coarsely
                values = values.reshape(size, -1, *values.shape[-2:]).float()
                values = adaptive_avg_pool2d(values, (min(4, values.shape[-2]), min(4, values.shape[-1])))
            return item.path, "amounts", values.reshape(size, -1)
        return None
    return None


class SeveralStream:
    """Gathers :class:`SeveralLabels` batch by batch."""

    def __init__(self) -> None:
        self.field = ""
        self._table: list[Array] = []
        self._marks: list[Array] = []
        self._head: list[Array] = []
        self._kept = 0
        self._made: set[tuple[SeveralKind, int]] = set()

    @property
    def is_over(self) -> bool:
        """Whether labels are of several kinds or sizes."""
        return len(self._made) > 1 or ("", 0) in self._made

    def add(self, found: tuple[str, SeveralKind, Tensor] | None) -> None:
        """Takes in the labels of one batch."""
        self._made.add(("", 0) if found is None else (found[1], found[2].shape[1]))
        if found is None or self.is_over:
            self._table, self._marks, self._head = [], [], []
            return
        self.field, kind, values = found
        self._marks.append(_bits(values) if kind == "hot" else _thinned(values, MOST_MARKS))
        if self._kept < HEAD and kind == "amounts":
            self._head.append(values[:HEAD].to(torch.float32).numpy().copy())
        if self._kept < MOST_ROWS:
            self._table.append(_thinned(values[: MOST_ROWS - self._kept], MOST_COLUMNS))
            self._kept += len(values)

    def labels(self) -> SeveralLabels:
        """All that was gathered so far."""
        if self.is_over or not self._marks:
            return SeveralLabels()
        kind, numbers = next(iter(self._made))
        head = np.concatenate(self._head) if self._head else np.zeros((0, 0))
        return SeveralLabels(
            kind=kind,
            table=np.concatenate(self._table),
            marks=np.concatenate(self._marks),
            series=looks_like_series(head[:HEAD], head.shape[1:]),
            numbers=numbers,
        )


def targets_of(labels: SeveralLabels, count: int) -> Array:
    """``(samples, columns)`` to compare: yes and no as they are, amounts as ranks; columns without any change left out.

    Args:
        labels: Of those samples and of more.
        count: How many samples have inputs that are known.
    """
    table: Array = labels.table.astype(np.float64)
    table = table[:, np.ptp(table[:count], axis=0) > 0]
    if labels.kind == "hot" or not table.shape[1]:
        return table
    ranks: Array = np.stack([average_ranks(column) / len(column) for column in table.T], 1)
    return ranks


def principal(table: Array, most: int = MOST_MARKS) -> Array:
    """The directions in which rows vary most; what is tried with thousands of shifts are no more than these."""
    centred: Array = table - table.mean(0)
    if centred.shape[1] <= most:
        return centred
    directions = np.linalg.eigh(centred.T @ centred)[1]
    result: Array = centred @ directions[:, -most:]
    return result


def is_ordered(table: Array) -> bool:
    """Whether neighbouring rows are alike, so that a shift would fit by its own order."""
    centred = table - table.mean(0)
    scale = np.maximum((centred**2).sum(0), 1e-12)
    lagged = (centred[1:] * centred[:-1]).sum(0)
    return bool(abs(lagged.sum() / scale.sum()) > 0.2 or (np.abs(lagged / scale) > 0.4).any())


def are_columns_of_inputs(rows: Array, table: Array, move: int) -> bool:
    """Whether labels of so many rows on are what a column of the inputs holds, in another unit at most.

    The next basket, or the next values of a series: the label of one sample is in the inputs of another.

    >>> rows = np.random.default_rng(0).normal(size=(50, 3))
    >>> are_columns_of_inputs(rows, np.roll(2 * rows[:, 1:], 1, axis=0), 1)
    True
    """
    low, high = max(0, -move), min(len(rows), len(table) - move)
    if high - low < 8:
        return False
    moved, inputs = (
        (part - part.mean(0)) / np.maximum(part.std(0), 1e-12)
        for part in (table[low + move : high + move].astype(np.float64), rows[low:high].astype(np.float64))
    )
    found: Array = np.abs(moved.T @ inputs) / (high - low)
    return bool((found > 0.98).any())


def _bits(values: Tensor) -> Array:
    bits = np.zeros((len(values), MOST_BITS), np.uint8)
    bits[:, : values.shape[1]] = (values[:, :MOST_BITS] > 0).numpy()
    words: Array = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)[:, 0].copy()
    return words


def _thinned(values: Tensor, most: int) -> Array:
    step = math.ceil(values.shape[1] / most)
    thin: Array = values[:, ::step].to(torch.float32).numpy().copy()
    return thin
