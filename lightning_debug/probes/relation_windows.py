"""Windows of a series whose label is their own last step, where the series goes on with another value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_debug.probes.relation_given import FEWEST_SAMPLES, holding_amounts, holding_classes
from lightning_debug.probes.relation_stream import Samples

Array = npt.NDArray[Any]

FEWEST_STEPS = 4
FEWEST_FOLLOWED = 8
"""So many windows must be seen to go on with another value than their label."""
COMING_AGAIN = 0.1
"""Share of windows that are there twice, from which on the series repeats: the label may lie a period ahead."""
DIGITS = 1e-4
"""Windows are one when they differ by less than so many deviations."""


@dataclass(frozen=True)
class LastStep:
    """The last step of windows that holds the label.

    Args:
        place: Where it is among the values of a sample, flat.
        step: The step, from 0.
        channel: The channel; -1 where windows have one and no dimension for it.
        followed: Windows whose next value is known from another window.
        otherwise: Those of them where it is another than the last.
    """

    place: int
    step: int
    channel: int
    followed: int
    otherwise: int


def last_step(rows: Array, labels: Array, shape: tuple[int, ...]) -> LastStep | None:
    """Where the label is the last step of a window that the series goes on after; ``None`` where that is not seen.

    Which dimension is time is told by the windows, of which one begins where another has gone on by some steps. Without
    such windows nothing is known of what follows, and a label that is the last step may be meant.

    Args:
        rows: ``(samples, values)``, as they were delivered.
        labels: One for each.
        shape: Shape of a sample: ``(steps,)``, ``(steps, channels)`` or ``(channels, steps)``.

    >>> series = np.random.default_rng(0).normal(size=120).astype(np.float32)
    >>> rows = np.stack([series[start : start + 8] for start in range(110)])
    >>> last_step(rows, series[7:117], (8,))
    LastStep(place=7, step=7, channel=-1, followed=109, otherwise=109)
    >>> last_step(rows, series[8:118], (8,))
    """
    if len(rows) < FEWEST_SAMPLES or len(labels) != len(rows) or len(shape) not in (1, 2):
        return None
    if not np.isfinite(rows).all() or not np.isfinite(labels.astype(np.float64)).all():
        return None
    places = np.arange(rows.shape[1]).reshape(shape)
    for axis in range(len(shape)):
        order = np.moveaxis(places, axis, 0).reshape(shape[axis], -1)
        if len(order) < FEWEST_STEPS:
            continue
        entries = rows[:, order[-1]].astype(np.float64)
        for channel in _holding(entries, labels):
            followed, otherwise = _followed(rows[:, order], int(channel))
            if otherwise >= FEWEST_FOLLOWED and not _comes_again(rows):
                named = int(channel) if len(shape) == 2 else -1
                return LastStep(int(order[-1][channel]), len(order) - 1, named, followed, otherwise)
    return None


def is_last(tokens: Array, samples: Samples) -> bool:
    """Whether the label of each sample is its last token, of many that there are.

    >>> tokens = np.random.default_rng(0).integers(1, 30, (96, 6))
    >>> keys = np.arange(96, dtype=np.uint64)
    >>> made = [Samples(keys=keys, labels=label, kind="classes", rows=tokens) for label in (tokens[:, 5], tokens[:, 0])]
    >>> [is_last(tokens, item) for item in made]
    [True, False]
    """
    labels = samples.kept_labels
    if len(tokens) < FEWEST_SAMPLES or len(labels) != len(tokens) or tokens.shape[1] < FEWEST_STEPS:
        return False
    many = samples.kind == "classes" and len(np.unique(labels)) >= FEWEST_FOLLOWED
    return many and bool((tokens[:, -1] == labels).all())


def _holding(entries: Array, labels: Array) -> Array:
    found = holding_classes(entries, labels)
    if found is not None:
        return found
    return holding_amounts(entries, labels)


def _followed(windows: Array, channel: int) -> tuple[int, int]:
    """How many windows are gone on with by another, and how many of these with another value of a channel.

    The shortest step between windows counts; parts that are there more than once do not.
    """
    steps = windows.shape[1]
    for stride in range(1, steps // 2 + 1):
        ends, begins = _once(windows[:, stride:]), _once(windows[:, : steps - stride])
        pairs = [(ends[part], begins[part]) for part in ends.keys() & begins.keys() if ends[part] != begins[part]]
        if len(pairs) >= FEWEST_FOLLOWED:
            one, other = (np.array(side) for side in zip(*pairs, strict=True))
            differ = windows[one, -1, channel] != windows[other, steps - stride, channel]
            return len(pairs), int(differ.sum())
    return 0, 0


def _once(parts: Array) -> dict[bytes, int]:
    """Which window each part is of, for those that are there once."""
    found: dict[bytes, int] = {}
    again = set()
    for index, part in enumerate(np.ascontiguousarray(parts).reshape(len(parts), -1)):
        key = part.tobytes()
        if key in found:
            again.add(key)
        found[key] = index
    return {key: index for key, index in found.items() if key not in again}


def _comes_again(rows: Array) -> bool:
    spread = rows.std() or 1.0
    alike = np.round(rows / (DIGITS * spread))
    return len(np.unique(alike, axis=0)) < (1 - COMING_AGAIN) * len(rows)
