"""Whether labels have anything to do with their inputs: tests against permuted labels, and against moved ones."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_debug.evidence.data_relations import LabelAlignment
from lightning_debug.probes.order_labels import average_ranks, runs
from lightning_debug.probes.relation_features import are_inputs, views
from lightning_debug.probes.relation_neighbours import Neighbours, correlation
from lightning_debug.probes.relation_several import are_columns_of_inputs, is_ordered, principal, targets_of
from lightning_debug.probes.relation_shifts import MOST_SHIFTED, Shift, best_shift
from lightning_debug.probes.relation_stream import Samples

Array = npt.NDArray[Any]

PERMUTATIONS = 199
FIRST: tuple[tuple[int, float], ...] = ((19, 0.25), (59, 0.1))
"""Permutations that are tried first; where the p-value is larger than this, they are enough.

A dependence that all would call significant has a fifth of the first 19 above it once in 10**8 times.
"""
FEW = 39
"""Permutations that tell by how much neighbours agree by chance."""
MOST_TESTED = 768
WEAK = 0.15
"""Of the way from chance to certainty: where neighbours tell more, no shift is looked for."""
ENOUGH = 0.01
"""A test with a smaller p-value ends the search: there is a dependence."""
MOST_COLUMNS = 512
"""Of targets that are multiplied at once."""
CONFIRMING = 999
"""Permutations that decide whether the small p-value of a later test is more than the luck of having tried many."""


def label_alignment(samples: Samples, order: str = "dataset") -> LabelAlignment | None:
    """Tests the first samples; ``None`` where labels are no numbers or do not vary.

    >>> random = np.random.Generator(np.random.PCG64(0))
    >>> rows = random.normal(size=(300, 8)).astype(np.float32)
    >>> labels = (rows[:, 0] > 0).astype(int)
    >>> keys = np.arange(300, dtype=np.uint64)
    >>> found = label_alignment(Samples(keys=keys, labels=np.roll(labels, 3), kind="classes", rows=rows, shape=(8,)))
    >>> found.shift, found.p_values["neighbours of values"] > 0.01
    (3, True)
    """
    pooled = not samples.rows.shape[1] and bool(samples.pooled.shape[1])
    if pooled:
        samples = dataclasses.replace(samples, rows=samples.pooled, shape=(), tokens=False)
    count = min(len(samples.rows), len(samples.labels), MOST_TESTED)
    several = samples.several if not samples.kind and samples.several.kind else None
    if several is not None:
        count = min(len(samples.rows), len(several.table), MOST_TESTED)
    if count < 32 or not samples.rows.shape[1] or (samples.kind not in ("classes", "amounts") and several is None):
        return None
    given = samples.labels if several is None else several.table
    rows, given = samples.rows[:count], given[: count + MOST_SHIFTED]
    if not np.isfinite(rows).all() or not np.isfinite(given.astype(float)).all():
        return None
    if several is not None:
        labels = targets_of(several, count)
    else:
        labels = _codes(given) if samples.kind == "classes" else average_ranks(given) / len(given)
    own, shift = labels[:count], Shift()
    if not own.size or len(np.unique(own, axis=0)) < 2:
        return None
    kind = samples.kind or "several"
    p_values, near, agreement, chance = _dependence(samples, rows, own, kind)
    if near is None:
        return None
    if abs(agreement - chance) < WEAK * (1 - chance) and not _is_ordered(labels, kind):
        best = best_shift(near, labels if several is None else principal(labels), count)
        are_inside = are_inputs if several is None else are_columns_of_inputs
        shift = Shift() if are_inside(rows, given, best.rows) else best
    return LabelAlignment(
        field=samples.field,
        kind=kind,
        samples=count,
        classes=len(np.unique(own)) if samples.kind == "classes" else 0,
        p_values=p_values,
        agreement=agreement,
        by_chance=chance,
        shift=shift.rows,
        shifted_agreement=shift.agreement,
        shifted_p=shift.p_value,
        order=order,
        pooled=pooled,
    )


def _dependence(
    samples: Samples, rows: Array, own: Array, kind: str
) -> tuple[dict[str, float], Neighbours | None, float, float]:
    """p-values of all tests up to the first that finds a dependence; the nearest samples, agreement, and by chance.

    Where a few permutations do as well, no more are tried (Besag and Clifford 1991). Of nine tests one has a p-value
    below 0.01 by luck in one case of twelve. What a later test finds is therefore tested against more permutations,
    and its p-value corrected for the number of tests so far.
    """
    permuted = _Permuted(own)
    p_values: dict[str, float] = {}
    first: Neighbours | None = None
    agreement = chance = 0.0
    for name, table in views(rows, samples.shape, samples.tokens):
        if not table.shape[1]:
            continue
        near = Neighbours(table, kind)
        if first is None:
            first, agreement = near, float(near.agreements_of_all(own[None])[0])
            chance = float(near.agreements_of_all(permuted.first(FEW)).mean())
        tests: dict[str, Callable[[], Callable[[Array], float]]] = {
            "neighbours of": functools.partial(functools.partial, _neighbours, near, own),
            "columns of": functools.partial(_columns, table, own, kind=kind),
            "ridge on": functools.partial(_ridge, table, own, kind=kind),
        }
        for test, made in tests.items():
            judged = made()
            for count, clear in (*FIRST, (99 if test == "ridge on" else PERMUTATIONS, 0.0)):
                value = judged(permuted.first(count))
                if value > clear:
                    break
            if value <= ENOUGH and p_values:
                value = min(1.0, judged(permuted.others(CONFIRMING)) * (len(p_values) + 1))
            p_values[f"{test} {name}"] = value
            if value <= ENOUGH:
                return p_values, first, agreement, chance
    return p_values, first, agreement, chance


class _Permuted:
    """Labels in other orders, drawn as they are asked for."""

    def __init__(self, own: Array) -> None:
        self._own, self._drawn = own, own[None][:0]
        self._random = np.random.Generator(np.random.PCG64(0))

    def first(self, count: int) -> Array:
        """So many; the same ones each time."""
        if len(self._drawn) < count:
            self._drawn = np.concatenate([self._drawn, self.others(count - len(self._drawn))])
        return self._drawn[:count]

    def others(self, count: int) -> Array:
        """So many that were not drawn before."""
        return np.stack([self._own[self._random.permutation(len(self._own))] for _ in range(count)])


def _neighbours(near: Neighbours, own: Array, permuted: Array) -> float:
    return _two_sided(near.agreements_of_all(own[None])[0], near.agreements_of_all(permuted))


def _columns(table: Array, own: Array, kind: str) -> Callable[[Array], float]:
    """The column that tells most: variance between the classes, or squared correlation."""

    def strongest(targets: Array) -> Array:
        sums = np.square(table.T @ targets.reshape(len(table), -1)).reshape(table.shape[1], *targets.shape[1:])
        weights = np.maximum((targets != 0).sum(0), 1) if kind == "classes" else np.maximum((targets**2).sum(0), 1e-12)
        result: Array = (sums / weights).sum(2).max(0)
        return result

    return lambda permuted: _one_sided(*_of_each(strongest, own, permuted, kind))


def _ridge(table: Array, own: Array, kind: str) -> Callable[[Array], float]:
    """A linear guess of each label from all other samples."""
    count, width = table.shape
    strength = max(1.0, 0.1 * width * count / 100)
    known = np.concatenate([table, np.ones((count, 1))], 1)
    if width < count:  # the smaller of two equal systems
        solved = np.linalg.solve(known.T @ known + np.eye(width + 1) * strength, known.T)
        leverage = np.einsum("nw,wn->n", known, solved)
    else:
        gram = known @ known.T
        known, solved = np.eye(0), np.linalg.solve(gram + np.eye(count) * strength, gram)
        leverage = np.diag(solved)
    leverage = np.minimum(leverage, 1 - 1e-6)[:, None]

    def score(targets: Array) -> Array:
        centred = targets - targets.mean(0)
        flat = centred.reshape(count, -1)
        guessed = solved @ flat
        guessed = known @ guessed if len(known) else guessed
        guessed = ((guessed - leverage * flat) / (1 - leverage)).reshape(centred.shape)
        if kind == "amounts":
            return np.asarray(correlation(guessed[..., 0].T, centred[..., 0].T))
        result: Array = np.einsum("npc,npc->p", guessed, centred)
        return result

    return lambda permuted: _one_sided(*_of_each(score, own, permuted, kind))


def _of_each(score: Callable[[Array], Array], own: Array, permuted: Array, kind: str) -> tuple[float, Array]:
    """The score of labels, and those of permuted labels, many at once: ``score`` takes (samples, rows, columns)."""
    values = np.unique(own) if kind == "classes" else np.zeros(0)
    share = max(1, MOST_COLUMNS // max(1, len(values) if own.ndim == 1 else own.shape[1]))
    rows = np.concatenate([own[None], permuted])
    parts = [rows[start : start + share].swapaxes(0, 1) for start in range(0, len(rows), share)]
    targets = (_hot(part, values) if kind == "classes" else (part - part.mean(0)).reshape(*part.shape[:2], -1)
               for part in parts)  # fmt: skip
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


def _is_ordered(labels: Array, kind: str) -> bool:
    """Whether neighbouring labels are alike, so that a shift would fit by its own order."""
    if kind == "several":
        return is_ordered(labels)
    if kind == "classes":
        return abs(runs(labels)[2]) > 5
    return abs(float(correlation(labels[1:], labels[:-1]))) > 0.2
