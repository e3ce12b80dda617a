"""Losses of steps made by hand: heard on their way backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.callbacks._logged_loss import LoggedLoss
from lightning_debug.curves.kind import loss_kind_by_hand
from lightning_debug.evidence.curves import LossKind
from lightning_debug.evidence.loss import LossGraph
from lightning_debug.experiments.steps_by_hand import mean_of

MOST_PASSES = 256
"""Backward passes of one batch that are heard."""

FEWEST_WATCHED = 2
"""Steps that have to be watched before they count as alike."""


class Heard:
    """What goes backward in each batch, without a wait for the device."""

    def __init__(self, pl_module: LightningModule) -> None:
        self._logged = LoggedLoss(pl_module)
        self._losses: list[Tensor] = []
        self._usual = 0
        self._varies = self._returned = False

    def hear(self, loss: Any) -> None:
        """Takes a loss that goes backward."""
        plain = isinstance(loss, Tensor) and loss.numel() == 1 and not loss.is_complex()
        if plain and len(self._losses) < MOST_PASSES:
            self._losses.append(loss.detach().clone())

    def take(self, returned: Tensor | None, trainer: Trainer) -> Tensor | None:
        """Ends a batch: the loss that it returned, else the mean of those that went backward; ``None`` without any.

        Args:
            returned: The loss that the step returned.
            trainer: Where it was logged, if it was not heard; the last batch of an epoch may be cut into fewer parts.
        """
        losses, self._losses = self._losses, []
        count = len(losses)
        self._usual = self._usual or count
        self._varies = self._varies or not (count == self._usual or (trainer.is_last_batch and count < self._usual))
        if returned is not None:
            self._returned = True
            return returned.detach().clone()
        return mean_of(losses or self._logged.take(trainer))

    @property
    def returned(self) -> bool:
        """Whether steps return a loss."""
        return self._returned

    def kind(self, graphs: Sequence[LossGraph], trainer: Trainer) -> LossKind | None:
        """What the losses are, as far as they were watched; ``None`` where that is not enough yet."""
        if any(group.get("maximize") for item in trainer.optimizers for group in getattr(item, "param_groups", [])):
            return LossKind(reason="an optimizer makes its loss as large as it can")
        if len(graphs) < FEWEST_WATCHED:
            return None
        searches = any("lbfgs" in type(item).__name__.lower() for item in trainer.optimizers)
        if self._varies and not searches:
            return LossKind(reason="the optimization is manual, and some batches go backward more often than others")
        return loss_kind_by_hand(graphs, returned=self._returned)
