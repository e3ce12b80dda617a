"""Whether gradients are clipped before a gradient scaler unscales them: watched over the first steps of a fit."""

from __future__ import annotations

from typing import Any

from lightning_debug.callbacks._guard_step import scaler_of
from lightning_debug.callbacks._lightning import LightningModule, Trainer, is_compiled, moment
from lightning_debug.probes.scaled_gradients import STEPS, ScaledGradients, clipping_line, own_scalers
from lightning_debug.session import Session


class ScalingWatch:
    """Watches the scalers of one fit until enough steps are seen.

    Args:
        trainer: The Trainer.
        module: Its module.
        session: Where evidence goes.
    """

    def __init__(self, trainer: Trainer, module: LightningModule, session: Session) -> None:
        self._trainer, self._module, self._session = trainer, module, session
        self._watched: list[tuple[bool, ScaledGradients]] = []
        if trainer.world_size > 1 or is_compiled(module):
            return  # gradients are averaged in between; a hook on a parameter may compile anew
        theirs = scaler_of(trainer)
        scalers: list[tuple[bool, Any]] = [(False, theirs)] if theirs is not None else []
        scalers += [(True, item) for item in own_scalers(module) if item is not theirs]
        for own, scaler in scalers:
            self._watched.append((own, ScaledGradients(scaler, module.parameters())))

    def end(self) -> None:
        """A batch was trained on."""
        for own, seen in list(self._watched):
            if len(seen) >= STEPS:
                self._conclude(own, seen)

    def finish(self) -> None:
        """Says what was seen, and takes the hooks away."""
        for own, seen in list(self._watched):
            self._conclude(own, seen)

    def _conclude(self, own: bool, seen: ScaledGradients) -> None:
        seen.remove()
        self._watched.remove((own, seen))
        how = {"automatic": self._module.automatic_optimization, "own": own, "line": clipping_line(self._module)}
        for event in seen.evidence(self._trainer.optimizers, at=moment(self._trainer), **how):
            self._session.observe(event)
