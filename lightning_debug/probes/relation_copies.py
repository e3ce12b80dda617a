"""Samples that are equal to others: how many, and whether chance makes equal ones of such values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_debug.probes.relation_fingerprints import Keys
from lightning_debug.probes.relation_stream import Samples

Array = npt.NDArray[Any]

LOOKED_AT = 128
"""Samples with an equal that are compared with all kept rows."""
NEAR = 0.5
"""Two samples are near if they differ in no more than this share of the values that are not the most common one."""
ALPHABET = 128
"""With more distinct values than this, spread over the columns, samples are taken for continuous."""


@dataclass(frozen=True)
class Groups:
    """Groups of equal samples.

    Args:
        copies: Samples beyond the first of each group.
        largest: Samples in the largest group.
        twice: Groups of two samples.
        places: Pairs of places, the first of each group with another.
        grouped: For each sample, whether it has an equal.
        group: For each sample, the number of its group.
    """

    copies: int
    largest: int
    twice: int
    places: tuple[tuple[int, int], ...]
    grouped: npt.NDArray[np.bool_]
    group: npt.NDArray[np.int64]


def groups(keys: Keys, most: int = 5) -> Groups:
    """Finds equal keys.

    >>> found = groups(np.array([5, 7, 5, 5, 9], dtype=np.uint64))
    >>> found.copies, found.largest, found.places
    (2, 3, ((0, 2),))
    """
    ascending = np.sort(keys)
    if not (ascending[1:] == ascending[:-1]).any():  # as nearly always
        return Groups(0, 1, 0, (), np.zeros(len(keys), bool), np.arange(len(keys)))
    _, first, group, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    grouped = counts[group] > 1
    again = np.flatnonzero(grouped & (first[group] != np.arange(len(keys))))
    pairs: dict[int, tuple[int, int]] = {}
    for place in again[: 50 * most]:
        pairs.setdefault(int(group[place]), (int(first[group[place]]), int(place)))
    twice = int((counts == 2).sum())
    return Groups(
        len(keys) - len(first), int(counts.max(initial=1)), twice, tuple(pairs.values())[:most], grouped, group
    )


def conflicts(found: Groups, labels: Array) -> tuple[int, int]:
    """Samples in groups whose labels differ, and how many would have to change for all groups to agree.

    >>> conflicts(groups(np.array([5, 7, 5, 5, 9], dtype=np.uint64)), np.array([0, 1, 1, 0, 1]))
    (3, 1)
    """
    members = np.flatnonzero(found.grouped)
    if not len(members):
        return 0, 0
    _, codes = np.unique(labels[members], return_inverse=True)
    both, counts = np.unique(np.stack([found.group[members], codes], 1), axis=0, return_counts=True)
    of_group, place = np.unique(both[:, 0], return_inverse=True)
    total, most, kinds = (np.zeros(len(of_group), int) for _ in range(3))
    np.add.at(total, place, counts)
    np.maximum.at(most, place, counts)
    np.add.at(kinds, place, 1)
    return int(total[kinds > 1].sum()), int((total - most)[kinds > 1].sum())


def read_by_each(found: Groups, sizes: Sequence[int], workers: int) -> bool:
    """Whether each of several workers, which deliver batches in turn, delivered each sample once.

    Args:
        found: The groups of equal samples.
        sizes: Samples of each batch, in order.
        workers: How many there are.

    >>> keys = np.array([1, 2, 3, 1, 3, 2, 4, 4], dtype=np.uint64)
    >>> read_by_each(groups(keys), [3, 3, 1, 1], 2), read_by_each(groups(keys), [2, 2, 2, 2], 2)
    (True, False)
    """
    if workers < 2 or len(found.group) != sum(sizes) or found.largest != workers:
        return False
    reader = np.repeat(np.arange(len(sizes)) % workers, sizes)
    met = np.unique(np.stack([found.group, reader], 1), axis=0)
    return len(met) == len(found.group) == workers * (len(found.group) - found.copies)


def are_balancing(found: Groups, labels: Array) -> bool:
    """Whether copies make rare classes as frequent as others: oversampling on purpose.

    >>> keys = np.array([*range(90), *list(range(90, 100)) * 9], dtype=np.uint64)
    >>> are_balancing(groups(keys), (keys >= 90).astype(int))
    True
    """
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2 or not found.copies:
        return False
    _, first = np.unique(found.group, return_index=True)
    before, after = (np.bincount(item, minlength=len(classes)) for item in (codes[first], codes))
    untouched = bool((after == before).any())
    return untouched and bool(after.max() / max(1, after.min()) < 0.7 * before.max() / max(1, before.min()))


def chance(samples: Samples, places: Array) -> tuple[int, int, float]:
    """What chance would make of such values.

    Chance that makes equal samples makes many more that differ in a value or two; somebody who copies samples makes
    equal ones only.

    Args:
        samples: With their first rows.
        places: Places of samples that have an equal.

    Returns:
        Equal pairs and near pairs among the kept rows (each looked-at sample with every other), and how many equal
        pairs are expected from the values' entropy.
    """
    rows = samples.rows
    looked = places[places < len(rows)]
    if not len(looked) or not rows.shape[1]:
        return 0, 0, 0.0
    looked = looked[:: -(-len(looked) // LOOKED_AT)]
    if is_continuous(rows):
        return len(looked), 0, 0.0
    table = rows if rows.shape[1] <= 256 else rows[:, :: -(-rows.shape[1] // 256)]
    values, counts = np.unique(table, return_counts=True)
    common = values[counts.argmax()]
    exact = near = 0
    for place in looked:
        differs = table != table[place]
        told = (table != common) | (table[place] != common)
        many, unequal = told.sum(1), differs.sum(1)
        equal = unequal == 0
        exact += int(equal.sum()) - 1
        near += int(((unequal <= np.maximum(1, NEAR * many)) & ~equal).sum())
    return exact, near, _expected_pairs(table, len(samples))


def is_continuous(rows: Array) -> bool:
    """Whether some column hardly repeats a value among unequal samples."""
    if rows.shape[1] >= 64 and len(np.unique(rows[:, :64])) > ALPHABET:
        return True
    unlike = np.unique(rows, axis=0)
    columns = [_distinct(unlike[:, column]) for column in range(min(256, unlike.shape[1]))]
    return unlike.shape[1] > 1 and any(columns) and len(unlike) >= 8


def _distinct(column: Array) -> bool:
    """Whether values hardly come twice; numbers of users or items do, though there are as many as samples."""
    whole = bool((column == np.round(column)).all())
    return len(np.unique(column)) > (0.9 if whole else 0.5) * len(column)


def _expected_pairs(table: Array, count: int) -> float:
    """Equal pairs among ``count`` samples, from the entropy of values given the two before them, or of columns."""
    values: Array = np.unique(table, return_inverse=True)[1]
    codes: Array = values.reshape(table.shape).astype(np.int64)
    base = int(codes.max()) + 1
    bits = sum(_entropy(codes[:, column]) for column in range(codes.shape[1]))
    for order in (1, 2):
        if codes.shape[1] > order + 1:
            context = np.zeros_like(codes[:, order:])
            for back in range(1, order + 1):
                context = context * base + codes[:, order - back : codes.shape[1] - back]
            pairs = context * base + codes[:, order:]
            seen = len(np.unique(context))
            if seen * 5 > context.size:
                continue  # contexts that came a few times only tell nothing of what follows
            rate = _entropy(pairs) - _entropy(context)
            start = sum(_entropy(codes[:, column]) for column in range(order))
            bits = min(bits, start + rate * (codes.shape[1] - order))
    return float(count * (count - 1) / 2 * 2.0 ** (-0.7 * bits))


def _entropy(values: Array) -> float:
    """In bits."""
    _, counts = np.unique(values, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
