"""Compares what ranks have told of themselves. Plain numbers in, evidence out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_debug.evidence.ranks import RankBatches, RankValue, RankWeights, UnequalParameter
from lightning_debug.probes.rank_payloads import PER_PARAMETER, distinct

Told = Sequence[Sequence[float]]
"""What each rank has told, in the order of ranks."""

MOST_NAMED = 8


def rank_batches(told: Told, groups: Sequence[float]) -> RankBatches:
    """Which ranks have the samples of another.

    Args:
        told: For each rank: values a sample, whether floating, and for each batch the number of keys and the keys.
        groups: For each rank, the number of its share of the data: ranks of one share see the same by design.

    >>> rank_batches([[2, 1, 2, 7.0, 8.0], [2, 1, 2, 7.0, 8.0]], [0, 1]).share
    1.0
    >>> rank_batches([[2, 1, 2, 7.0, 8.0], [2, 1, 2, 7.0, 8.0]], [0, 0]).share
    0.0
    """
    owners: dict[tuple[int, int, float], int] = {}
    best, twins = (0.0, 0, 0), 0
    sizes, differing, batches = [], [], 0
    for rank, numbers in enumerate(told):
        placed = _placed(numbers)
        keys = [key for _, _, key in placed]
        sizes.append(len(keys))
        differing.append(distinct(keys))
        batches = max([batches, *(batch + 1 for batch, _, _ in placed)])
        found: dict[int, int] = {}
        for place in placed:
            owner = owners.setdefault(place, rank)
            if groups[owner] != groups[rank]:
                found[owner] = found.get(owner, 0) + 1
        if found:
            other = max(found, key=lambda one: found[one])
            share = found[other] / len(placed)
            twins += share > 0.5
            best = max(best, (share, rank, other), key=lambda item: item[0])
    share, rank, other = best
    return RankBatches(
        ranks=len(told),
        batches=batches,
        samples=min(sizes),
        distinct=min(differing),
        twins=twins,
        rank=rank,
        other=other,
        share=share,
        values=int(told[0][0]),
        floating=bool(told[0][1]),
    )


def _placed(numbers: Sequence[float]) -> list[tuple[int, int, float]]:
    """Batch, place in it and key of every sample."""
    found, start, batch = [], 2, 0
    while start < len(numbers):
        size = int(numbers[start])
        found += [(batch, place, key) for place, key in enumerate(numbers[start + 1 : start + 1 + size])]
        start, batch = start + 1 + size, batch + 1
    return found


def rank_weights(told: Told, names: Sequence[str]) -> RankWeights:
    """Which parameters differ between ranks.

    Args:
        told: For each rank, the numbers of :func:`~lightning_debug.probes.rank_payloads.weight_numbers`.
        names: The parameters' paths.
    """
    found = []
    for index, name in enumerate(names):
        parts = [numbers[index * PER_PARAMETER : (index + 1) * PER_PARAMETER] for numbers in told]
        first = parts[0]
        if all(part[0] == first[0] for part in parts):
            continue
        scale = max(abs(first[1]), 1e-12)
        apart = [
            max(abs(one - other) for one, other in zip(part[1:], first[1:], strict=True)) / scale for part in parts
        ]
        apart = [item if math.isfinite(item) else 0.0 for item in apart]  # NaN is for other rules
        furthest = max(range(len(parts)), key=lambda rank: apart[rank])
        found.append(UnequalParameter(name=name, rank=furthest, difference=apart[furthest]))
    found.sort(key=lambda item: -item.difference)
    return RankWeights(ranks=len(told), parameters=len(names), unequal=tuple(found[:MOST_NAMED]), count=len(found))


def rank_value(name: str, values: Sequence[float], users: tuple[str, ...]) -> RankValue:
    """One logged value over ranks.

    >>> rank_value("val_loss", [0.5, 0.25], ()).low_rank
    1
    """
    missing = [rank for rank, value in enumerate(values) if math.isnan(value)]
    if missing and len(missing) < len(values):
        other = next(rank for rank in range(len(values)) if rank not in missing)
        return RankValue(name=name, low=math.nan, high=values[other], low_rank=missing[0], high_rank=other,
                         users=users)  # fmt: skip
    if missing:
        return RankValue(name=name, users=users)
    low, high = (pick(range(len(values)), key=lambda rank: values[rank]) for pick in (min, max))
    return RankValue(name=name, low=values[low], high=values[high], low_rank=low, high_rank=high,
                     users=users)  # fmt: skip
