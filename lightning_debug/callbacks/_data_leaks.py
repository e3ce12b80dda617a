"""What validation loaders share with training, and what loaders' attributes say."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Subset

from lightning_debug.callbacks._data_part import Source
from lightning_debug.evidence.data_relations import SharedSamples
from lightning_debug.probes.order_loader import delivered, ordering
from lightning_debug.probes.relation_copies import chance
from lightning_debug.probes.relation_leak import in_step, is_held, nearly_equal, overlapping, shared
from lightning_debug.probes.relation_raw import make_samples, raw_samples, rows_of
from lightning_debug.probes.relation_stream import Samples


def shared_samples(
    train: Source | None, source: Source | None, delivered_first: Samples, seen: Samples, **facts: Any
) -> SharedSamples | None:
    """What a validation loader shares with training.

    Args:
        train: The training loader, if there is one only.
        source: The validation loader.
        delivered_first: What training delivered in its first epoch.
        seen: What validation delivered.
        facts: Further fields of the evidence.

    Returns:
        ``None`` where nothing was delivered, or where both datasets are one item, whose rows are no samples.
    """
    at_hand = train is not None and source is not None and not train.streams and not source.streams
    if at_hand and train is not None and source is not None and train.length == source.length == 1 < len(seen):
        return None  # one graph, say: its nodes are no samples that a loader drew, and masks say which of them count
    pairs: list[tuple[Samples, Samples, Any, Any]] = [(delivered_first, seen, None, None)]
    same_indices, same_dataset = 0, False
    if at_hand:
        assert train is not None
        assert source is not None
        places = [_places(item) for item in (train, source)]
        raws = [raw_samples(item.dataset) if place is not None else None
                for item, place in zip((train, source), places, strict=True)]  # fmt: skip
        if raws[0] is not None and raws[1] is not None and not make_samples(raws[1], seen):
            pairs.insert(0, (_only(raws[0], places[0]), _only(raws[1], places[1]), places[0], places[1]))
        same_indices = _same_rows(train, source, places)
        same_dataset = source.dataset is train.dataset and same_indices == source.length
    best: SharedSamples | None = None
    for first, second, one, two in pairs:
        if not len(first) or not len(second):
            continue
        equal = shared(first.keys, second.keys)
        _, near, expected = chance(second, np.flatnonzero(equal)) if equal.any() else (0, 0, 0.0)
        if is_held(first, second, equal):
            near, expected = 0, 0.0
        looked = min(128, int(equal[: len(second.rows)].sum()))
        found = SharedSamples(
            samples=len(second),
            training=len(first),
            shared=int(equal.sum()),
            near=nearly_equal(first, second),
            overlapping=overlapping(first, second),
            same_indices=same_indices,
            same_dataset=same_dataset,
            places=_pairs(first, second, equal, one, two),
            in_dataset=one is not None,
            chance=bool(
                (2 * near >= max(1, looked) and not (one is not None and _were_copied(first, second)))
                or 10 * _across(expected, first, second) >= equal.sum()
            ),
            expected=_across(expected, first, second),
            compared=second.rows.shape[1],
            dataset=name_of(source),
            other_targets=_other_targets(delivered_first, seen),
            **facts,
        )
        if best is None or (found.shared, found.overlapping or 0) > (best.shared, best.overlapping or 0):
            best = found
    return best


def _places(source: Source) -> Any:
    """The places in its dataset that a loader delivers."""
    sampler, _ = ordering(source.sampler, source.batch_sampler)
    return delivered(sampler, source.length) if source.length else None


def _only(samples: Samples, places: Any) -> Samples:
    if len(places) == len(samples):
        return samples
    kept = places[places < len(samples.rows)]
    labels = samples.labels[places] if len(samples.labels) == len(samples) else samples.labels
    return dataclasses.replace(samples, keys=samples.keys[places], labels=labels, rows=samples.rows[kept])


def _same_rows(train: Source, source: Source, places: Sequence[Any]) -> int:
    """Validation samples that are the same rows of the same object as training samples."""
    one, two = rows_of(train.dataset), rows_of(source.dataset)
    if one.base is not two.base or places[0] is None or places[1] is None:
        return 0
    first, second = one.all(), two.all()
    if first is None or second is None:
        return 0
    return int(np.isin(second[places[1]], first[places[0]]).sum())


def _pairs(first: Samples, second: Samples, equal: Any, one: Any, two: Any) -> tuple[tuple[int, int], ...]:
    found = []
    for place in np.flatnonzero(equal)[:5]:
        other = int(np.flatnonzero(first.keys == second.keys[place])[0])
        found.append((int(place if two is None else two[place]), int(other if one is None else one[other])))
    return tuple(found)


def _were_copied(first: Samples, second: Samples) -> bool:
    """Whether equal samples stand in the same order in both datasets, as those do that one seed has drawn twice."""
    together, by_chance = in_step(first, second)
    return together >= max(16, 10 * by_chance) and 2 * together >= len(second)


def _other_targets(first: Samples, seen: Samples) -> bool:
    """Whether what is predicted of samples that both have is not the same: ratings that were held out, the next visit.

    A training set without targets learns its own inputs; validation may come with values of their shape besides.
    """
    held = seen.several
    if not first.kind and not first.several.kind and held.kind == "amounts" and held.numbers == seen.rows.shape[1] > 1:
        count, step = min(len(seen.rows), len(held.table)), math.ceil(held.numbers / held.table.shape[1])
        same = np.isclose(seen.rows[:count, ::step], held.table[:count]).all(1)
        return bool(same.mean() < 0.1)
    if first.kind != seen.kind or first.several.kind != held.kind or not (first.kind or held.kind):
        return False
    if held.kind and first.several.numbers != held.numbers:
        return False
    order = np.argsort(first.keys, kind="stable")
    spots = order[np.minimum(np.searchsorted(first.keys, seen.keys, sorter=order), len(first) - 1)]
    known = first.keys[spots] == seen.keys
    if held.kind:
        known = known[: len(held.table)] & (spots[: len(held.table)] < len(first.several.table))
        places = np.flatnonzero(known)
        unequal = (first.several.table[spots[places]] != held.table[places]).any(1)
    else:
        unequal = (first.labels[spots] != seen.labels)[known]
    return len(unequal) >= 5 and float(unequal.mean()) > 0.9


def _across(expected: float, first: Samples, second: Samples) -> float:
    """Validation samples that equal a training sample by chance, from the pairs expected within validation."""
    within = len(second) * (len(second) - 1) / 2
    return expected / within * len(first) * len(second) if within else 0.0


def ordering_of(source: Source | None) -> tuple[Any, bool | None]:
    """What orders the samples of a loader, and whether that shuffles."""
    if source is None or source.streams:
        return None, None
    return ordering(source.sampler, source.batch_sampler)


def name_of(source: Source | None) -> str:
    """Class of a loader's dataset, past every ``Subset``."""
    dataset = source.dataset if source is not None else None
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return type(dataset).__name__
