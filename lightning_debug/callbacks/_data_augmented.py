"""Whose neighbours training samples are once they are augmented: by their dataset, or on their way to the net."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from lightning_debug.callbacks._data_part import DataContext, Source
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.data_augmentation import AugmentedNeighbours, MixedSamples
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
    for name in made:
        if (rows := turned(name, first.rows, first.shape)) is not None:
            near = augmented_neighbours(validation, dataclasses.replace(first, rows=rows))
            yield AugmentedNeighbours(**near, turn=name, at=now)
    looked, mixed, share = context.turns.mixed()
    if mixed:
        yield MixedSamples(samples=looked, mixed=mixed, share=share, at=now)
        if fixed and not made:
            yield AugmentedNeighbours(at=now)  # which the rule waits for: of the dataset's own there are none
