"""Validation samples that come close to training samples: equal, nearly equal, or stretches moved in time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lightning_debug.probes.relation_copies import is_continuous
from lightning_debug.probes.relation_features import standardised
from lightning_debug.probes.relation_fingerprints import Keys, among, fingerprints
from lightning_debug.probes.relation_neighbours import squared_distances
from lightning_debug.probes.relation_stream import Samples

Array = npt.NDArray[Any]

NEXT_TO_NOTHING = 0.02
"""Of the median distance between nearest neighbours."""
VERY_NEAR, NEARER, WIDE, APART = 0.1, 0.25, 8, 3.0
"""Of that distance, and of the least there is in training, between samples of so many values: as samples of one kind
come as near to one another in training as to validation, chance puts none there. Few lie up to so many times as far."""
MOST_LOOKED_AT = 256
HELD, TIMES, FRACTIONS, SPACE = 0.9, 4, 3, 100
"""Share of validation that training holds, and how many times what chance may put there; columns that hold fractions;
combinations there may be for each sample."""
SHORTEST, LONGEST = 12, 2048
"""Lengths of series that are searched for stretches of others."""
MISSED = 5.0
"""So many raw samples would have a label, by its share, where none has it: labels that ask for something else."""
PRECEDING = 0.25
"""Of the samples that hold a stretch of a training sample, the share that begin before one, at least, if drawn."""


def shared(training: Keys, validation: Keys) -> npt.NDArray[np.bool_]:
    """Which validation samples equal a training sample.

    >>> shared(np.array([1, 2], dtype=np.uint64), np.array([2, 3], dtype=np.uint64)).tolist()
    [True, False]
    """
    return among(validation, training)


def in_step(training: Samples, validation: Samples) -> tuple[int, float]:
    """Validation samples that equal the training sample at one and the same distance, and how many chance puts there.

    Chance makes equal samples of few discrete values, but not in the same order: whoever draws both datasets with the
    same seed does. Samples whose labels differ are not counted.

    >>> keys, labels = np.arange(40, dtype=np.uint64) % 20, np.zeros(40)
    >>> cuts, rows = (slice(0, 30), slice(5, 15)), np.zeros((0, 1))
    >>> in_step(*(Samples(keys=keys[cut], labels=labels[cut], kind="", rows=rows) for cut in cuts))
    (10, 0.5)
    """
    one, two = training.keys, validation.keys
    order = np.argsort(one, kind="stable")
    ranked = one[order]
    first, last = np.searchsorted(ranked, two), np.searchsorted(ranked, two, side="right")
    expected = float((last - first).sum() / len(one)) if len(one) else 0.0
    asked = np.flatnonzero(last > first)[:MOST_LOOKED_AT]
    if not len(asked):
        return 0, expected
    distances = np.concatenate([order[first[place] : last[place]][:MOST_LOOKED_AT] - place for place in asked])
    known, counts = np.unique(distances, return_counts=True)
    distance = int(known[counts.argmax()])
    here = np.arange(max(0, -distance), min(len(two), len(one) - distance))
    same = two[here] == one[here + distance]
    if len(training.labels) == len(one) and len(validation.labels) == len(two):
        same &= validation.labels[here] == training.labels[here + distance]
    return int(same.sum()), expected


def is_held(training: Samples, validation: Samples, equal: npt.NDArray[np.bool_]) -> bool:
    """Whether training holds validation, of rounded measurements: equal to it, where training seldom equals itself.

    If chance put nearly every sample of the one into the other, it would put as many into it twice. So it is with
    samples that are drawn, not with a grid or a table of all there is, nor with pairs of ids that are listed once.

    Args:
        training: Samples with their first rows.
        validation: Likewise.
        equal: Which of validation equal one of training.

    >>> table = np.round(np.random.Generator(np.random.PCG64(0)).normal(5, 1, (150, 4)), 1)
    >>> keys = np.arange(150, dtype=np.uint64)
    >>> parts = [Samples(keys=keys[:end], labels=keys[:end], kind="", rows=table[:end]) for end in (150, 40)]
    >>> is_held(*parts, np.ones(40, dtype=bool)), is_held(*parts, np.arange(40) < 30)
    (True, False)
    """
    rows, count = training.rows, len(training)
    if len(equal) < 16 or equal.mean() < HELD or int((rows != np.round(rows)).any(0).sum()) < FRACTIONS:
        return False
    space = sum(math.log(len(np.unique(column))) for column in rows.T)
    if space < math.log(SPACE * count):
        return False
    times = np.unique(training.keys, return_counts=True)[1].astype(float)
    pairs = float((times * (times - 1)).sum()) / 2
    most = (pairs + 2 * math.sqrt(pairs) + 3) / (count * (count - 1) / 2)  # 3: what none may stand for, 95 % sure
    return bool(TIMES * most * count * len(validation) < equal.sum())


def nearly_equal(training: Samples, validation: Samples) -> int:
    """How many of the first validation samples lie next to a training sample, without being equal to any."""
    one, two = training.rows, validation.rows[:MOST_LOOKED_AT]
    if len(one) < 16 or not len(two) or one.shape[1] != two.shape[1] or one.shape[1] < 3 or training.tokens:
        return 0
    if not is_continuous(one) or not (np.isfinite(one).all() and np.isfinite(two).all()):
        return 0
    table = standardised(np.concatenate([one, two]))
    first, second = table[: len(one)], table[len(one) :]
    among_them = _nearest(first[:MOST_LOOKED_AT], first, but_itself=True)
    usual, least = _median(among_them), float(among_them.min())
    if not usual > 0:
        return 0
    unequal = ~shared(training.keys, validation.keys[: len(two)])
    nearest = _nearest(second, first)[unequal]
    limit = min(VERY_NEAR * usual, NEARER * least)
    near, next_to_them = int((nearest < limit).sum()), int((nearest < APART * limit).sum())
    certain = int((nearest < NEXT_TO_NOTHING * usual).sum())
    # where distances run on, samples of a fine grid are parted: places between its points are near to some of them
    return max(certain, near) if one.shape[1] >= WIDE and next_to_them - near <= near / 5 else certain


def overlapping(training: Samples, validation: Samples) -> float | None:
    """Share of the first validation samples that hold a stretch of a training sample, at another place.

    A stretch that comes back at the same place of two unequal training samples is common (a phrase, a period, a
    generated pattern): finding it again says nothing of where a sample was cut. Where validation samples only go on
    from training samples and none precedes one, they were cut off at the end (the last item of each history, the
    last part of a series with its past as context), and not split at random.

    ``None`` where samples are no series that are long and diverse enough.

    >>> wave = np.random.Generator(np.random.PCG64(0)).normal(size=300).cumsum().astype(np.float32)
    >>> windows = np.stack([wave[i : i + 24] for i in range(270)])
    >>> keys = np.arange(270, dtype=np.uint64)
    >>> parts = [Samples(keys=keys[i::2], labels=keys[i::2], kind="", rows=windows[i::2], shape=(24,)) for i in (0, 1)]
    >>> overlapping(*parts)
    1.0
    """
    shape = training.shape
    if shape != validation.shape or not 1 <= len(shape) <= 2 or not len(training.rows) or not len(validation.rows):
        return None
    axis = int(np.argmax(shape))
    length = shape[axis]
    if not SHORTEST <= length <= LONGEST:
        return None
    stretch = max(8, length // 2) if training.tokens else max(6, length // 4)
    most = max(1, min(1024, 2**22 // (length * stretch)))
    second = _stretches(validation.rows[: min(most, 128)], shape, axis, stretch)
    diverse = None if second is None else _diverse(second)
    if second is None or diverse is None or np.any(diverse, axis=1).mean() < 0.5:
        return None
    first = _stretches(training.rows[:most], shape, axis, stretch)
    if first is None:
        return None
    known, there = _keys(second), _keys(first)
    told: Array = among(known, there) & diverse
    if told.any():
        told &= ~among(known, _common(there, training.keys))
    found, earlier = np.any(told, axis=1), np.any(told & _precede(known, there), axis=1)
    if earlier.mean() < PRECEDING * found.mean():
        return 0.0
    same = shared(training.keys, validation.keys[: len(found)])
    return float((found & ~same).sum() / len(found))


def _precede(stretches: Keys, training: Keys) -> Array:
    """Whether each stretch stands further back in its sample than in some training sample: that one begins later."""
    asked = among(training, stretches)
    values, places = training[asked], np.nonzero(asked)[1]
    order = np.lexsort((places, values))
    known, begins = np.unique(values[order], return_index=True)
    if not len(known):
        return np.zeros(stretches.shape, dtype=bool)
    nearest = places[order][begins][np.minimum(np.searchsorted(known, stretches), len(known) - 1)]
    here: Array = nearest < np.arange(stretches.shape[1])
    return here


def _common(stretches: Keys, samples: Keys) -> Keys:
    """Stretches that two unequal samples hold at the same place."""
    unequal = stretches[np.unique(samples[: len(stretches)], return_index=True)[1]]
    ordered = np.sort(unequal, axis=0)
    result: Keys = ordered[1:][ordered[1:] == ordered[:-1]]
    return result


def _stretches(rows: Array, shape: tuple[int, ...], axis: int, stretch: int) -> torch.Tensor | None:
    """``(samples, places, channels, stretch)``: a view of every stretch of each sample."""
    if not np.isfinite(rows).all():
        return None
    table = np.moveaxis(rows.reshape(-1, *shape), axis + 1, 1).reshape(len(rows), shape[axis], -1)
    return torch.from_numpy(np.ascontiguousarray(table, dtype=np.float32)).unfold(1, stretch, 1)


def _keys(cut: torch.Tensor) -> Keys:
    """A key for each stretch of each sample."""
    return fingerprints([cut.reshape(cut.shape[0] * cut.shape[1], -1)]).reshape(cut.shape[:2])


def _diverse(cut: torch.Tensor) -> Array:
    """Whether the values of each stretch are diverse enough to tell it from others."""
    flat = cut.reshape(cut.shape[0] * cut.shape[1], -1)
    ranks = flat[:, : min(flat.shape[1], 64)].sort(1).values
    distinct = 1 + (ranks[:, 1:] != ranks[:, :-1]).sum(1)
    result: Array = (distinct >= max(5, int(0.6 * ranks.shape[1] / cut.shape[2]))).numpy().reshape(cut.shape[:2])
    return result


def _nearest(some: Array, all_of_them: Array, *, but_itself: bool = False) -> Array:
    """How far from each row the nearest of the others is: found with half of the digits, measured with all."""
    distances = squared_distances(some.astype(np.float32), all_of_them.astype(np.float32))
    if but_itself:
        np.fill_diagonal(distances, np.inf)
    apart = some - all_of_them[distances.argmin(1)]
    found: Array = np.sqrt(np.einsum("ij,ij->i", apart, apart))
    return found


def _median(values: Array) -> float:
    """As NumPy's, which imports a tenth of a second of masked arrays for it."""
    return float(np.sort(values)[(len(values) - 1) // 2])


def labels_in(labels: Array, others: Array) -> tuple[list[float], npt.NDArray[np.bool_]]:
    """The shares of those labels that others lack, and which samples have a label that others have.

    >>> labels_in(np.array([0, 0, 1, 2]), np.array([1, 2, 3]))
    ([0.5], array([False, False,  True,  True]))
    """
    known = np.isin(labels, others)
    return [float((labels == one).mean()) for one in np.unique(labels[~known])], known


def augmented_neighbours(raw: Samples, augmented: Samples) -> dict[str, Any]:
    """Whose neighbours augmented samples are, of those that lie as near to raw samples as raw ones to each other.

    Nothing of samples of another make, or where raw samples lack a label that is no rare one: one of 16 people is
    another question than whether two voices are of one, and a cluster's number another than a class's.

    Returns:
        The fields of :class:`AugmentedNeighbours` that samples alone decide.
    """
    nothing = {"raw_samples": len(raw.rows)}
    one, two = raw.rows, augmented.rows
    if min(len(one), len(two)) < 32 or one.shape[1] != two.shape[1] or raw.kind != "classes" or raw.tokens:
        return nothing
    if augmented.kind != "classes" or not (np.isfinite(one).all() and np.isfinite(two).all()):
        return nothing
    shares, known = labels_in(augmented.kept_labels, raw.kept_labels)
    if raw.shape != augmented.shape or any(share * len(one) >= MISSED for share in shares):
        return nothing
    centre = one.mean(0)
    one, two = (part - centre for part in (one, two))  # which leaves more digits for what differs
    own = squared_distances(one, one)
    np.fill_diagonal(own, np.inf)
    raw_labels = raw.kept_labels
    usual = _median(own.min(1))
    among_raw = np.stack([raw_labels, raw_labels[own.argmin(1)]], 1)
    across = squared_distances(two, one)
    at_home = known & (across.min(1) <= usual)
    if not at_home.any():
        return nothing
    among = np.stack([augmented.kept_labels, raw_labels[across.argmin(1)]], 1)[at_home]
    wrong, raw_wrong = (part[:, 0] != part[:, 1] for part in (among, among_raw))
    found = {
        "samples": int(at_home.sum()),
        "wrong": float(wrong.mean()),
        "raw_samples": len(one),
        "raw_wrong": float(raw_wrong.mean()),
    }
    if not wrong.any():
        return found
    pairs, counts = np.unique(np.sort(among[wrong], 1), axis=0, return_counts=True)
    best = pairs[counts.argmax()]
    inside, raw_inside = (np.isin(part, best).all(1) for part in (among, among_raw))
    return {
        **found,
        "pair": (str(int(best[0])), str(int(best[1]))),
        "pair_share": float(counts.max() / wrong.sum()),
        "pair_samples": int(inside.sum()),
        "pair_wrong": float(wrong[inside].mean()),
        "raw_pair_samples": int(raw_inside.sum()),
        "raw_pair_wrong": float(raw_wrong[raw_inside].mean()) if raw_inside.any() else 0.0,
    }
