"""Whether a batch will fit: what a few samples keep for the backward pass, carried on to the whole batch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

EVEN = 1.1
"""How far the slopes between measurements may differ for a step to count as linear in its samples."""


@dataclass(frozen=True)
class MemoryNeed:
    """What a training step is sure to need at one moment, in bytes.

    Args:
        per_sample: What one more sample keeps for the backward pass.
        activations: What the whole batch keeps.
        held: What is in use whatever the batch: now, and by the optimizer after its first step.
        total: The least that must be there at once.
    """

    per_sample: int
    activations: int
    held: int
    total: int


def samples_to_try(batch_size: int) -> tuple[int, ...]:
    """Sizes of the slices to measure; none where the batch is too small to tell.

    >>> samples_to_try(64), samples_to_try(6), samples_to_try(3)
    ((2, 4, 8), (1, 2), ())
    """
    return (2, 4, 8) if batch_size >= 16 else (1, 2) if batch_size >= 4 else ()


def memory_need(
    measured: Sequence[tuple[int, int]], batch_size: int, used: int, state_to_come: int
) -> MemoryNeed | None:
    """The least memory that training with a batch needs, from measurements on slices of it.

    What is kept for the backward pass is all there when the forward pass ends, beside what is in use and, from the
    second step on, the optimizer's state. Gradients come while that is given back; they, workspaces, and what a step
    keeps whatever its batch are left out: the true need is higher.

    Args:
        measured: Samples and bytes kept for the backward pass, of a few slices.
        batch_size: Samples of the batch.
        used: Bytes in use before the step.
        state_to_come: Bytes that the optimizer will add.

    Returns:
        The need; ``None`` where it does not grow with the samples, or not evenly.

    >>> memory_need([(1, 15), (2, 25)], 100, used=40, state_to_come=10)
    MemoryNeed(per_sample=10, activations=1000, held=50, total=1050)
    >>> memory_need([(2, 10), (4, 30), (8, 110)], 100, 0, 0)  # every pair of samples
    """
    ordered = sorted(measured)
    slopes = [
        (bytes_ - before) / (count - fewer)
        for (fewer, before), (count, bytes_) in itertools.pairwise(ordered)
        if count > fewer
    ]
    if not slopes or min(slopes) <= 0 or max(slopes) > EVEN * min(slopes):
        return None
    each = int(min(slopes))
    held = used + state_to_come
    return MemoryNeed(each, each * batch_size, held, held + each * batch_size)
