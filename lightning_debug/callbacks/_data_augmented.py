"""Whose neighbours training samples are once they are augmented: by their dataset, or on their way to the net."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from lightning_debug.callbacks._data_part import DataContext, Source
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.data_augmentation import AugmentedNeighbours, MixedSamples, TurnedNeighbours
from lightning_debug.probes.relation_leak import augmented_neighbours
from lightning_debug.probes.relation_stream import Samples
from lightning_debug.probes.step_turns import turned


def augmentations(
    context: DataContext, train: Source, first: Samples, validation: Samples, *, fixed: bool
) -> Iterator[Evidence]:
    """Compares with the first validation.

    Args:
        context: The run.
        train: The training loader.
        first: What it delivered in its first epoch.
        validation: What the first validation loader delivered.
        fixed: Whether training samples are delivered as the dataset holds them.
    """
    now = context.moment()
    if not fixed:
        transform = type(train.transforms[0]).__name__ if train.transforms else ""
        yield AugmentedNeighbours(**augmented_neighbours(validation, first), transform=transform, at=now)
    made = context.turns.made() if first.shape and not first.tokens else []
    found: list[Evidence] = [
        TurnedNeighbours(**augmented_neighbours(validation, dataclasses.replace(first, rows=rows)), turn=name, at=now)
        for name in made
        if (rows := turned(name, first.rows, first.shape)) is not None
    ]
    looked, mixed, share = context.turns.mixed()
    if mixed:
        found.append(MixedSamples(samples=looked, mixed=mixed, share=share, at=now))
    if found and fixed:
        yield AugmentedNeighbours(at=now)  # of the dataset's own there are none
    yield from found
