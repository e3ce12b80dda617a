"""Whether labels have anything to do with their inputs: tests against permuted labels, and against moved ones."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_debug.evidence.data_relations import LabelAlignment
from lightning_debug.probes.order_labels import runs
from lightning_debug.probes.relation_features import are_inputs, views
from lightning_debug.probes.relation_stream import Samples

Array = npt.NDArray[Any]

PERMUTATIONS = 199
NEIGHBOURS = 5
MOST_TESTED = 768
WEAK = 0.15
"""Of the way from chance to certainty: where neighbours tell more, no shift is looked for."""
MOST_SHIFTED = 8192
"""Rows by which labels are moved at most."""
ENOUGH = 0.01
"""A test with a smaller p-value ends the search: there is a dependence."""
FEWEST_PAIRS = 0.2
"""Share of the pairs of neighbours that a shift must leave; half of the rows leave a quarter by chance."""
MOST_COLUMNS = 512
"""Of targets that are multiplied at once."""
CONFIRMING = 999
"""Permutations that decide whether the small p-value of a later test is more than the luck of having tried many."""


def label_alignment(samples: Samples, order: str = "dataset") -> LabelAlignment | None:
    """Tests the first samples; ``None`` where labels are not one number a sample or do not vary.

    >>> random = np.random.Generator(np.random.PCG64(0))
    >>> rows = random.normal(size=(300, 8)).astype(np.float32)
    >>> labels = (rows[:, 0] > 0).astype(int)
    >>> keys = np.arange(300, dtype=np.uint64)
    >>> found = label_alignment(Samples(keys=keys, labels=np.roll(labels, 3), kind="classes", rows=rows, shape=(8,)))
    >>> found.shift, found.p_values["neighbours of values"] > 0.01
    (3, True)
    """
    count = min(len(samples.rows), len(samples.labels), MOST_TESTED)
    if count < 32 or not samples.rows.shape[1] or samples.kind not in ("classes", "amounts"):
        return None
    rows, given = samples.rows[:count], samples.labels
    if not np.isfinite(rows).all() or not np.isfinite(given.astype(float)).all():
        return None
    labels = _codes(given) if samples.kind == "classes" else _ranks(given)
    own, shift = labels[:count], Shift()
    if len(np.unique(own)) < 2:
        return None
    p_values, near, agreement, chance = _dependence(samples, rows, own)
    if near is None:
        return None
    if abs(agreement - chance) < WEAK * (1 - chance) and not _is_ordered(labels, samples.kind):
        best = best_shift(near, labels, count)
        shift = Shift() if are_inputs(rows, given, best.rows) else best
    return LabelAlignment(
        field=samples.field,
        kind=samples.kind,
        samples=count,
        classes=len(np.unique(own)) if samples.kind == "classes" else 0,
        p_values=p_values,
        agreement=agreement,
        by_chance=chance,
        shift=shift.rows,
        shifted_agreement=shift.agreement,
        shifted_p=shift.p_value,
        order=order,
    )


def _dependence(samples: Samples, rows: Array, own: Array) -> tuple[dict[str, float], _Neighbours | None, float, float]:
    """p-values of all tests up to the first that finds a dependence; the nearest samples, agreement, and by chance.

    Of nine tests one has a p-value below 0.01 by luck in one case of twelve. What a later test finds is therefore
    tested against more permutations, and its p-value corrected for the number of tests so far.
    """
    random = np.random.Generator(np.random.PCG64(0))

    def more(count: int) -> Array:
        return np.stack([own[random.permutation(len(own))] for _ in range(count)])

    permuted = more(PERMUTATIONS)
    p_values: dict[str, float] = {}
    first: _Neighbours | None = None
    agreement = chance = 0.0
    for name, table in views(rows, samples.shape, samples.tokens):
        if not table.shape[1]:
            continue
        near = _Neighbours(table, samples.kind)
        if first is None:
            first, agreement = near, float(near.agreement_of_all(own))
            chance = sum(float(near.agreement_of_all(labels)) for labels in permuted) / len(permuted)
        tests: dict[str, Callable[[Array], float]] = {
            "neighbours of": functools.partial(_neighbours, near, own),
            "columns of": functools.partial(_columns, table, own, kind=samples.kind),
            "ridge on": functools.partial(_ridge, table, own, kind=samples.kind),
        }
        for test, judged in tests.items():
            value = judged(permuted[:99] if test == "ridge on" else permuted)
            if value <= ENOUGH and p_values:
                value = min(1.0, judged(more(CONFIRMING)) * (len(p_values) + 1))
            p_values[f"{test} {name}"] = value
            if value <= ENOUGH:
                return p_values, first, agreement, chance
    return p_values, first, agreement, chance


@dataclass(frozen=True)
class Shift:
    """By how many rows labels have to be moved back; ``rows`` is 0 where none fits.

    Args:
        rows: Labels come so many rows after their inputs.
        agreement: As of the neighbours.
        p_value: Corrected for the number of shifts tried.
    """

    rows: int = 0
    agreement: float = 0.0
    p_value: float = 1.0


def best_shift(near: _Neighbours, labels: Array, count: int) -> Shift:
    """Tries every shift that leaves half of the rows, up to :data:`MOST_SHIFTED`.

    A shift that fits is far from all other shifts, and from the same labels permuted: where a few samples are the
    neighbours of most others, scores vary more than their number lets expect.
    """
    scores, moves = [], []
    furthest = min(MOST_SHIFTED, max(count // 2, len(labels) - count))
    for move in (*range(-(count // 2), 0), *range(1, furthest + 1)):
        low, high = max(0, -move), min(count, len(labels) - move)
        if high - low < max(32, count // 2):
            continue
        moved, whole = _moved(labels, count, move), high - low == count
        if whole or near.known(moved) >= FEWEST_PAIRS:
            scores.append(float(near.agreement_of_all(moved) if whole else near.agreement(moved)))
            moves.append(move)
    if len(scores) < 8:
        return Shift()
    values = np.asarray(scores)
    best = int(values.argmax())
    moved = _moved(labels, count, moves[best])
    at = np.flatnonzero(~np.isnan(moved))
    random, permuted = np.random.Generator(np.random.PCG64(0)), np.tile(moved, (PERMUTATIONS, 1))
    for row in permuted:
        row[at] = row[random.permutation(at)]
    deviations = [
        (values[best] - float(others.mean())) / max(float(others.std()), 1e-9)
        for others in (np.delete(values, best), near.agreement(permuted))
    ]
    p_value = min(1.0, len(scores) * 0.5 * math.erfc(min(deviations) / math.sqrt(2)))
    return Shift(moves[best], scores[best], p_value)


def _moved(labels: Array, count: int, move: int) -> Array:
    """The labels of so many rows on, ``NaN`` where there are none."""
    low, high = max(0, -move), min(count, len(labels) - move)
    moved = np.full(count, np.nan)
    moved[low:high] = labels[low + move : high + move]
    return moved


class _Neighbours:
    """The nearest other samples of each sample."""

    def __init__(self, table: Array, kind: str) -> None:
        self._classes = kind == "classes"
        squares = (table**2).sum(1)
        distance = squares[:, None] + squares[None] - 2 * table @ table.T
        np.fill_diagonal(distance, np.inf)
        most = min(NEIGHBOURS, len(table) - 1)
        self._nearest = np.argpartition(distance, most - 1, axis=1)[:, :most]

    def known(self, labels: Array) -> float:
        """Share of the pairs of neighbours whose labels are both known."""
        there = ~np.isnan(labels)
        return float((there[self._nearest] & there[:, None]).mean())

    def agreement_of_all(self, labels: Array) -> Any:
        """As :meth:`agreement`, of one row of labels that are all known: thousands of shifts are tried."""
        around = labels.take(self._nearest)
        if self._classes:
            return np.count_nonzero(around == labels[:, None]) / around.size
        one = around.mean(1)
        one -= one.mean()
        two = labels - labels.mean()
        return one @ two / max(math.sqrt((one @ one) * (two @ two)), 1e-12)

    def agreement(self, labels: Array) -> Any:
        """Share of equal labels, or the correlation with the neighbours' mean; ``NaN`` is not known."""
        around = labels[..., self._nearest]
        own = labels[..., None]
        if self._classes:
            known = ~np.isnan(around + own) if labels.dtype.kind == "f" else np.ones(around.shape, bool)
            return ((around == own) & known).sum((-1, -2)) / np.maximum(1, known.sum((-1, -2)))
        told = ~np.isnan(around)
        with np.errstate(all="ignore"):
            mean = np.where(told, around, 0).sum(-1) / told.sum(-1)
        known = ~np.isnan(mean + labels)
        return _correlation(np.where(known, mean, np.nan), np.where(known, labels, np.nan))


def _neighbours(near: _Neighbours, own: Array, permuted: Array) -> float:
    return _two_sided(near.agreement_of_all(own), np.array([near.agreement_of_all(labels) for labels in permuted]))


def _correlation(one: Array, two: Array) -> Any:
    one = one - np.nanmean(one, -1, keepdims=True)
    two = two - np.nanmean(two, -1, keepdims=True)
    scale = np.sqrt(np.nansum(one**2, -1) * np.nansum(two**2, -1))
    return np.nansum(one * two, -1) / np.maximum(scale, 1e-12)


def _columns(table: Array, own: Array, permuted: Array, kind: str) -> float:
    """The column that tells most: variance between the classes, or squared correlation."""

    def strongest(targets: Array) -> Array:
        sums = np.square(table.T @ targets.reshape(len(table), -1)).reshape(table.shape[1], *targets.shape[1:])
        weights = np.maximum((targets != 0).sum(0), 1) if kind == "classes" else np.maximum((targets**2).sum(0), 1e-12)
        result: Array = (sums / weights).sum(2).max(0)
        return result

    return _one_sided(*_of_each(strongest, own, permuted, kind))


def _ridge(table: Array, own: Array, permuted: Array, kind: str) -> float:
    """A linear guess of each label from all other samples."""
    count, width = table.shape
    strength = max(1.0, 0.1 * width * count / 100)
    known = np.concatenate([table, np.ones((count, 1))], 1)
    if width < count:  # the smaller of two equal systems
        hat = known @ np.linalg.solve(known.T @ known + np.eye(width + 1) * strength, known.T)
    else:
        gram = known @ known.T
        hat = np.linalg.solve(gram + np.eye(count) * strength, gram)
    diagonal = np.minimum(np.diag(hat), 1 - 1e-6)
    left_out = (hat - np.diag(diagonal)) / (1 - diagonal)[:, None]

    def score(targets: Array) -> Array:
        centred = targets - targets.mean(0)
        guessed = (left_out @ centred.reshape(count, -1)).reshape(centred.shape)
        if kind == "amounts":
            return np.asarray(_correlation(guessed[..., 0].T, centred[..., 0].T))
        result: Array = np.einsum("npc,npc->p", guessed, centred)
        return result

    return _one_sided(*_of_each(score, own, permuted, kind))


def _of_each(score: Callable[[Array], Array], own: Array, permuted: Array, kind: str) -> tuple[float, Array]:
    """The score of labels, and those of permuted labels, many at once: ``score`` takes (samples, rows, columns)."""
    values = np.unique(own) if kind == "classes" else np.zeros(0)
    share = max(1, MOST_COLUMNS // max(1, len(values)))
    rows = np.concatenate([own[None], permuted])
    parts = [rows[start : start + share].T for start in range(0, len(rows), share)]
    targets = ((part - part.mean(0))[..., None] if kind == "amounts" else _hot(part, values) for part in parts)
    scores = np.concatenate([score(item) for item in targets])
    return float(scores[0]), scores[1:]


def _hot(labels: Array, values: Array) -> Array:
    result: Array = (labels[..., None] == values).astype(np.float64)
    return result


def _one_sided(found: float, among: Array) -> float:
    return float((1 + (among >= found - 1e-12).sum()) / (len(among) + 1))


def _two_sided(found: Any, among: Array) -> float:
    centre = among.mean()
    return float((1 + (np.abs(among - centre) >= abs(found - centre) - 1e-12).sum()) / (len(among) + 1))


def _codes(labels: Array) -> Array:
    _, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.float64)


def _ranks(amounts: Array) -> Array:
    _, codes, counts = np.unique(amounts, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2)[codes]
    return ranks / len(ranks)


def _is_ordered(labels: Array, kind: str) -> bool:
    """Whether neighbouring labels are alike, so that a shift would fit by its own order."""
    if kind == "classes":
        return abs(runs(labels)[2]) > 5
    return abs(float(_correlation(labels[1:], labels[:-1]))) > 0.2
