"""When NonFiniteGuard takes the norm of a large gradient that nothing but the log needs."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from torch import Tensor

from lightning_debug.callbacks._guard_step import Step
from lightning_debug.probes.gradient_glimpse import WHOLE, Glimpses
from lightning_debug.probes.gradient_norms import parameters_of
from lightning_debug.probes.gradient_paths import Paths

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


class Exposure:
    """Knows the parameters whose gradients may have single bad values, from the graphs of a few batches' losses."""

    def __init__(self) -> None:
        self._paths = Paths()
        self._looked, self._next = -1, 0
        self._known: dict[int, list[Tensor]] = {}

    def look(self, loss: Tensor, count: int) -> None:
        """A loss is about to go backward; at batches 0, 1, 3, 7, 15 and so on its graph is followed."""
        if count != self._looked and count < self._next:
            return
        self._looked, self._next = count, 2 * count + 1
        self._paths.follow(loss)
        self._known.clear()

    def of(self, optimizer: Any) -> list[Tensor]:
        """Those of an optimizer; those that no graph led to as well, as in a checkpointed part."""
        paths, found = self._paths, self._known.get(id(optimizer))
        if found is None:
            found = self._known[id(optimizer)] = [
                item
                for item in parameters_of(optimizer)
                if paths.reached and paths.whole and item.dim() > 1 and item.numel() > WHOLE
                if id(item) in paths.exposed or id(item) not in paths.reached
            ]
        return found


class Cadence:
    """Decides, for one optimizer, at which steps the norm is taken; the same on all ranks that share gradients.

    In between only a glimpse is taken of each gradient, and all of those in which single values may be bad. Where that
    is not finite, or jumps, so does the norm as a rule, and it is taken there and then.

    Args:
        exposure: In which parameters' gradients a glimpse may miss what is bad.
    """

    def __init__(self, exposure: Exposure) -> None:
        self._exposure = exposure
        self._last: int | None = None
        self._seen: deque[float] = deque(maxlen=REMEMBERED)
        self._glimpses: Glimpses | None = None
        self._optimizer: Any = None

    def is_calm(self, optimizer: Any, count: int, *, clipped: bool) -> bool:
        """Whether a step needs nothing but the glimpse, and that is as usual: so it is with most.

        False does not say the contrary: :meth:`due` is to be asked then. Takes as little as it can, for what is done
        in each step is run from a cold cache.
        """
        known = self._glimpses if optimizer is self._optimizer else None
        if known is None or self._is_planned(count, clipped=clipped) or self._exposure.of(optimizer):
            return False
        if sum(len(group["params"]) for group in optimizer.param_groups) != known.parameters:
            return False
        value = known.norm()
        if value is None or not value <= JUMP * max(self._seen, default=0.0):
            return False
        self._seen.append(value)
        return True

    def due(self, step: Step, count: int, *, clipped: bool) -> bool:
        """Whether to take the norm of this step.

        Args:
            step: The step.
            count: Batches of the fit so far.
            clipped: Whether the Trainer clips by the norm.
        """
        large = step.size > SMALL
        value = step.glimpse(self._exposure.of(step.optimizer)) if large else None
        if value is None:
            self._glimpses = None
            return True
        usual = max(self._seen, default=math.inf)
        moved = not value <= JUMP * usual
        if math.isfinite(value):
            self._seen.append(value)
        planned = self._is_planned(count, clipped=clipped)
        if planned:
            self._last = count
            self._optimizer, self._glimpses = step.optimizer, Glimpses(parameters_of(step.optimizer))
        return planned or moved

    def _is_planned(self, count: int, *, clipped: bool) -> bool:
        return self._last is None or count >= self._last + EVERY or count < (2 * DENSE if clipped else DENSE)
