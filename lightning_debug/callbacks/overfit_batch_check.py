"""OverfitBatchCheck: can the network fit two examples at all?"""

from __future__ import annotations

import dataclasses
from typing import Any

from lightning_debug.callbacks import _arguments
from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._experiment_budget import remaining, spending, spent
from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment
from lightning_debug.callbacks._look_budget import price
from lightning_debug.evidence import Hindrance
from lightning_debug.evidence.overfit import OverfitCheck
from lightning_debug.experiments.loss_experiments import NotJudged
from lightning_debug.experiments.overfit import overfit_batch

SECONDS = 5.0
"""For the experiment, by itself; as a part of Debugger it keeps to what the experiments share, if that is less."""
GRANTED = 2.0
"""Seconds that it has inside Debugger whatever is left of the share: only a net that is at fault takes so long."""
FEWEST_PASSES = 12
"""Inside Debugger it is not begun where it would not even have the seconds of so many passes."""


class OverfitBatchCheck(DebugCallback):
    """Drives the loss of one or two examples of a batch towards its floor, and says which check fails if it cannot.

    A network and a loss that are put together rightly fit two examples in some dozens of steps. The steps are
    made in isolation, before the run's own: with dropout off, an optimizer of their own and a few learning
    rates. They end as soon as the answer is clear, and everything is put back bit for bit.

    With several processes only the first one makes them, on its own batch.

    Records :class:`~lightning_debug.evidence.overfit.OverfitCheck`.

    Args:
        at_step: Before which batch of the fit to make them, counted from 0 where the fit begins.
        seconds: After which to give up. Default: 5; inside ``Debugger`` a share of what all experiments may take.

    Raises:
        ValueError: If ``at_step`` is no whole number from 0 on, or ``seconds`` not above 0.
    """

    produces = (OverfitCheck,)

    _batches: int = 0
    _found: OverfitCheck | None = None

    def __init__(self, at_step: int = 0, seconds: float | None = None) -> None:
        _arguments.whole(0, at_step=at_step)
        _arguments.positive(", or None for the default", seconds=seconds)
        self.at_step, self.seconds = at_step, seconds

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts counting."""
        self._batches, self._found = 0, None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Makes the experiment when its batch has come."""
        step, self._batches = self._batches, self._batches + 1
        if step != self.at_step:
            return
        if trainer.global_rank != 0:
            self.unavailable(OverfitCheck, "it is made on rank 0 only", trainer)
            return
        if self._seconds(0.0, 0.0) <= 0:
            told = Hindrance("the experiments of this fit have used up their seconds")
            self.unavailable(OverfitCheck, told, trainer)
            return
        pass_seconds = price(self.session) or 0.0
        if self._hosted and FEWEST_PASSES * pass_seconds > self._seconds(pass_seconds, 0.0):
            reason = f"one pass through the model takes {pass_seconds:.1f} s, too long for a run of this length"
            self.unavailable(OverfitCheck, reason, trainer)
            return
        began = spent(self.session)
        try:
            with spending(self.session):
                found = overfit_batch(
                    trainer,
                    pl_module,
                    batch,
                    batch_idx,
                    seconds=lambda step: self._seconds(step, spent(self.session) - began),
                )
        except NotJudged as error:
            self.unavailable(OverfitCheck, error.reason, trainer)
            return
        self._found = dataclasses.replace(found, at=moment(trainer))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tells what was found, together with what others have seen of that step: it may be the cause."""
        self._tell()
        if self._batches > self.at_step:
            self.rest("on_train_batch_start", "on_train_batch_end")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tells what was found, if the step raised."""
        self._tell()

    def _tell(self) -> None:
        if self._found is not None:
            found, self._found = self._found, None
            self.session.observe(found)

    def _seconds(self, step: float, gone: float) -> float:
        """How long the experiment may take, where one step takes ``step`` seconds (0: not known yet).

        ``gone`` is what it has taken already.
        """
        own = self.seconds or SECONDS
        if not self._hosted:
            return own
        granted = min(GRANTED, self.session.settings.experiment_seconds - spent(self.session) + gone)
        return min(own, max(granted, gone + remaining(self.session, step or None)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says so if the batch never came."""
        if self._batches <= self.at_step:
            self.unavailable(OverfitCheck, Hindrance(f"training ended before step {self.at_step}"), trainer)
