"""When the loss of one or two examples has come down far enough that nothing more need be asked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_debug.evidence.overfit import OverfitCall

NEAR = 0.4
"""Share of the way from the floor to what an uninformed model pays at which the answer is clear."""
FALLS = 0.2
"""Relative fall at which a loss that is not understood is said to come down."""


@dataclass(frozen=True)
class Goal:
    """A loss to come down to.

    Args:
        loss: The loss at which the answer is clear; NaN where there is none.
    """

    loss: float

    @classmethod
    def of(cls, start: float, calls: tuple[OverfitCall, ...], terms: int) -> Goal:
        """The goal for a loss made of ``calls`` (and of more, where it has more terms than these)."""
        known = [call for call in calls if call.floor is not None]
        if len(calls) == terms == len(known) == 1:
            (call,) = known
            room = call.headroom
            if call.value > 0 and room is not None:
                return cls(((call.floor or 0.0) + NEAR * room) * start / call.value)
        return cls(start - FALLS * abs(start))

    def reached(self, loss: float) -> bool:
        """Whether a loss is there."""
        return not math.isnan(self.loss) and loss <= self.loss
