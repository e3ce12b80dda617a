"""Evidence about an optimizer that never steps beside others that do."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class IdleOptimizer(Evidence):
    """One of several optimizers whose gradients came, and were deleted, and whose parameters are as they were.

    Args:
        optimizer: Its class.
        index: Its place among the Trainer's; -1 for one that the Trainer does not know.
        optimizers: How many there are.
        parts: First names of the paths of its parameters.
        parameters: How many of its parameters were compared with their first values: all are equal to the last bit.
        lost: Batches whose gradient was deleted before a step took it, of those looked at.
        batches: Batches trained on.
        rate: Its highest learning rate; ``None`` when not known.
    """

    optimizer: str = ""
    index: int = -1
    optimizers: int = 0
    parts: tuple[str, ...] = ()
    parameters: int = 0
    lost: int = 0
    batches: int = 0
    rate: float | None = None
