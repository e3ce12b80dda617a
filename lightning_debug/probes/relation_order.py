"""The order in which an epoch brought its labels, be they one number each or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_debug.probes.order_labels import alike, looks_like_series, rank_correlation, runs
from lightning_debug.probes.relation_several import MOST_BITS, SeveralLabels
from lightning_debug.probes.relation_stream import Samples

RARE_COUNT, RARE_SHARE = 16, 0.05
"""Of several classes, one with fewer samples is in blocks by chance, or by the nature of what was recorded."""


def order_of(samples: Samples) -> dict[str, Any]:
    """The fields of :class:`SampleOrder` that labels decide.

    >>> bits = np.repeat(np.array([1, 2, 3], dtype=np.uint64), 40)
    >>> several = SeveralLabels(kind="hot", marks=bits, numbers=2)
    >>> nothing = np.zeros((0, 0))
    >>> samples = Samples(keys=bits, labels=nothing, kind="", rows=nothing, several=several, field="y", sizes=[20] * 6)
    >>> found = order_of(samples)
    >>> found["runs"], found["field"], found["numbers"]
    (3, 'y', 2)
    """
    series = looks_like_series(samples.rows, samples.shape)
    if samples.several.kind:
        told = _of_several(samples.several, samples.field, samples.sizes)
        return {**told, "numbers": samples.several.numbers, "series": series or samples.several.series}
    if samples.kind == "classes":
        return {**_of_classes(samples.labels, samples.sizes), "field": samples.field, "series": series}
    within, overall, single = alike(samples.labels, samples.sizes)
    ranks = rank_correlation(samples.labels)
    alikeness = {"within": within, "overall": overall, "single": single}
    return {**alikeness, "rank_correlation": ranks, "field": samples.field, "series": series}


def _of_classes(labels: Any, sizes: Sequence[int]) -> dict[str, Any]:
    within, overall, single = alike(labels, sizes)
    count, expected, deviation = runs(labels)
    return {
        "classes": len(np.unique(labels)),
        "runs": count,
        "expected_runs": expected,
        "deviation": deviation,
        "within": within,
        "overall": overall,
        "single": single,
    }


def _of_several(labels: SeveralLabels, field: str, sizes: Sequence[int]) -> dict[str, Any]:
    """Of the set of classes, or of the one class, that come in blocks most."""
    if labels.kind == "amounts":
        ranks = [rank_correlation(column) for column in labels.marks.T]
        known = [(abs(value), place) for place, value in enumerate(ranks) if value is not None]
        best = max(known, default=(0.0, 0))[1]
        name = f"column {best} of {field}" if labels.numbers == len(ranks) else f"a column of {field}"
        return {"field": name, "rank_correlation": ranks[best]}
    candidates = [(field, labels.marks)]
    for place in range(min(labels.numbers, MOST_BITS)):
        column = (labels.marks >> np.uint64(place)) & np.uint64(1)
        rarer = min(int(column.sum()), len(column) - int(column.sum()))
        if rarer >= max(RARE_COUNT, RARE_SHARE * len(column)):
            candidates.append((f"column {place} of {field}", column))
    told = [{**_of_classes(given, sizes), "field": name} for name, given in candidates]
    return max(told, key=_excess)


def _excess(found: dict[str, Any]) -> float:
    """How much of the way from chance to one label a batch."""
    overall = found["overall"]
    return float((found["within"] - overall) / (1 - overall)) if overall < 1 else 0.0
