"""When NonFiniteGuard takes the norm of a large gradient that nothing but the log needs."""

from __future__ import annotations

import math
from collections import deque

from lightning_debug.callbacks._guard_step import Step

DENSE = 64
"""The first batches, of which every norm is taken; where the Trainer clips twice as many, by which that is judged."""

EVERY = 10
"""Batches from one norm to the next after that."""

SMALL = 2**15
"""A gradient of at most so many values costs less than deciding would save: its norm is always taken."""

JUMP = 4.0
"""How many times the largest of the last glimpses makes a norm be taken out of turn."""

REMEMBERED = 16
"""How many glimpses that are."""


class Cadence:
    """Decides, for one optimizer, at which steps the norm is taken; the same on all ranks that share gradients.

    In between only a glimpse is taken of each gradient. Where it is not finite, or jumps, so does the norm as a rule,
    and it is taken there and then.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._glimpses: deque[float] = deque(maxlen=REMEMBERED)

    def due(self, step: Step, count: int, *, clipped: bool) -> bool:
        """Whether to take the norm of this step.

        Args:
            step: The step.
            count: Batches of the fit so far.
            clipped: Whether the Trainer clips by the norm.
        """
        value = step.glimpse() if step.size > SMALL else None
        if value is None:
            return True
        usual = max(self._glimpses, default=math.inf)
        moved = not value <= JUMP * usual
        if math.isfinite(value):
            self._glimpses.append(value)
        planned = self._last is None or count >= self._last + EVERY or count < (2 * DENSE if clipped else DENSE)
        if planned:
            self._last = count
        return planned or moved
