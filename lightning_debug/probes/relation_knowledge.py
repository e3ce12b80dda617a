"""What a net's outputs tell of labels, against permuted labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_debug.probes.order_labels import average_ranks

Array = npt.NDArray[Any]

PERMUTATIONS = 499
MOST = 4096
"""Rows that are looked at: of pixels there may be a hundred thousand, each of which is permuted as often."""


def knowledge(pairs: Sequence[tuple[Array, Array]]) -> tuple[int, float, float, float] | None:
    """Rows compared, p-value of no dependence, agreement, and the same by chance; ``None`` for nothing to compare.

    Args:
        pairs: Outputs ``(samples, units)`` and labels ``(samples,)`` of each batch. Several units and whole labels
            are classes, whose outputs are compared among each other; one unit is compared by rank. Labels of as
            many numbers as there are units are compared with these one by one, by rank.

    >>> random = np.random.Generator(np.random.PCG64(0))
    >>> labels = random.integers(0, 3, 200)
    >>> knowledge([(np.eye(3)[labels] + random.normal(size=(200, 3)), labels)])[1]
    0.002
    >>> knowledge([(np.eye(3)[labels.repeat(100)], labels.repeat(100))])[0]
    4096
    """
    if len({(outputs.shape[1], labels.ndim) for outputs, labels in pairs}) != 1:
        return None
    if pairs[0][1].ndim == 2:
        return _of_several(*(np.concatenate(parts).astype(np.float64) for parts in zip(*pairs, strict=True)))
    outputs, labels = (np.concatenate(parts).astype(np.float64) for parts in zip(*pairs, strict=True))
    usable = np.flatnonzero(np.isfinite(outputs).all(1) & np.isfinite(labels))
    random = np.random.Generator(np.random.PCG64(0))
    usable = np.sort(random.permutation(usable)[:MOST])
    outputs, labels = outputs[usable], labels[usable]
    if len(labels) < 16 or len(np.unique(labels)) < 2:
        return None
    permuted = [labels[random.permutation(len(labels))] for _ in range(PERMUTATIONS)]
    classes = outputs.shape[1] > 1 and bool((labels == labels.round()).all() and labels.min() >= 0)
    if classes and labels.max() < outputs.shape[1]:
        logs = outputs - outputs.max(1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(1, keepdims=True))
        guesses, rows = outputs.argmax(1), np.arange(len(labels))

        def score(given: Array) -> float:
            return float(logs[rows, given.astype(int)].mean())

        def agreement(given: Array) -> float:
            return float((guesses == given).mean())
    elif outputs.shape[1] == 1:
        ranks = average_ranks(outputs[:, 0])

        def agreement(given: Array) -> float:
            two = average_ranks(given)
            spread = ranks.std() * two.std()
            return float(((ranks - ranks.mean()) * (two - two.mean())).mean() / spread) if spread > 0 else 0.0

        score = agreement
    else:
        return None
    found, among = score(labels), np.array([score(item) for item in permuted])
    p_value = float((1 + (among >= found - 1e-12).sum()) / (len(among) + 1))
    if not classes:
        p_value = float((1 + (np.abs(among) >= abs(found) - 1e-12).sum()) / (len(among) + 1))
    return len(labels), p_value, agreement(labels), float(np.mean([agreement(item) for item in permuted[:99]]))


def _of_several(outputs: Array, labels: Array) -> tuple[int, float, float, float] | None:
    """The net knows something if it does of all units together, or of any one of them."""
    usable = np.flatnonzero(np.isfinite(outputs).all(1) & np.isfinite(labels).all(1))[:MOST]
    outputs, labels = outputs[usable], labels[usable]
    varied = (np.ptp(labels, axis=0) > 0) & (np.ptp(outputs, axis=0) > 0) if len(usable) else np.zeros(0, bool)
    if len(labels) < 16 or not varied.any():
        return None
    one, two = (
        _standard(np.stack([average_ranks(column) for column in part[:, varied].T], 1)) for part in (outputs, labels)
    )
    random = np.random.Generator(np.random.PCG64(0))
    orders = [np.arange(len(two)), *(random.permutation(len(two)) for _ in range(PERMUTATIONS))]
    each = np.stack([(one * two[order]).mean(0) for order in orders])
    together, best = each.mean(1), np.abs(each).max(1)
    p_values = [float((scores >= scores[0] - 1e-12).mean()) for scores in (np.abs(together), best)]
    return len(labels), min(p_values), float(together[0]), float(together[1:].mean())


def _standard(table: Array) -> Array:
    centred: Array = table - table.mean(0)
    result: Array = centred / np.maximum(centred.std(0), 1e-12)
    return result
