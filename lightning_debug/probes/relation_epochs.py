"""Later epochs against the first: the same order, or the very same samples, and no more looks than that takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.relation_fingerprints import ordered
from lightning_debug.probes.relation_stream import Samples, SampleStream

ENOUGH = 256
"""Samples after which an epoch whose order differs from that of the first is read no further."""
ASKED = 64
"""So many of those are looked for among all samples of the first epoch."""


@dataclass(frozen=True)
class EpochMark:
    """What tells one epoch from another. Of one that is known to be unlike the first, what tells how it begins.

    Args:
        inputs: Of the inputs in their order.
        labels: Of the labels in their order.
        everything: Of all that was delivered, in any order; ``None`` where that is of no use.
        samples: Samples delivered.
    """

    inputs: int
    labels: int
    everything: int | None
    samples: int


def mark_of(samples: Samples, everything: int | None) -> EpochMark:
    """The mark of an epoch that was read to its end."""
    labels = ordered(samples.labels.astype(np.float64).view(np.uint64)) if samples.kind else 0
    return EpochMark(ordered(samples.keys), labels, everything, len(samples))


def again(values: Iterable[int | None]) -> int:
    """How many values came before.

    >>> again([3, 4, 3, None, None])
    1
    """
    known = [value for value in values if value is not None]
    return len(known) - len(set(known))


def entropy(values: npt.NDArray[Any]) -> float:
    """Bits in the order of what is partly equal.

    >>> entropy(np.array([1, 1, 2, 2]))
    4.0
    """
    shares = np.unique(values, return_counts=True)[1] / len(values)
    return float(-(shares * np.log2(shares)).sum() * len(values))


class LaterEpoch:
    """Reads an epoch after the first, until it is known to be another.

    Args:
        first: What the first epoch delivered.
        same: Whether to look for the very same samples in any order, rather than for the same order only.
    """

    def __init__(self, first: Samples, *, same: bool) -> None:
        self._first, self._same = first, same
        self._stream = SampleStream(rows=0)
        self._begun: EpochMark | None = None
        self.over = False

    @property
    def count(self) -> int:
        """Samples read."""
        return self._stream.count

    @property
    def asks_for_keys(self) -> bool:
        """As a :class:`~lightning_debug.probes.relation_stream.SampleStream` does."""
        return self._stream.asks_for_keys

    def add(self, fields: Sequence[Field], size: int) -> None:
        """Takes in one batch."""
        if self.over:
            return
        self._stream.add(fields, size)
        if self._begun is None and self._stream.count >= ENOUGH:
            begun = self._stream.samples()
            self._begun = replace(mark_of(begun, self._everything()), samples=len(self._first))
            self.over = not self._may_be_alike(begun)

    def _may_be_alike(self, begun: Samples) -> bool:
        first, count = self._first, len(begun)
        if np.array_equal(begun.keys, first.keys[:count]):
            return True
        if begun.kind and begun.kind == first.kind and np.array_equal(begun.labels, first.labels[:count]):
            return True
        return self._same and bool(np.isin(begun.keys[:ASKED], first.keys).all())

    def mark(self) -> EpochMark:
        """What is known of it in the end."""
        if self.over and self._begun is not None:
            return self._begun
        return mark_of(self._stream.samples(), self._everything())

    def _everything(self) -> int | None:
        return self._stream.everything if self._same else None
