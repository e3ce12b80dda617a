"""Losses of steps made by hand: heard on their way backward, in the run and in steps that are run again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.curves.kind import loss_kind_by_hand
from lightning_debug.evidence.curves import LossKind
from lightning_debug.evidence.loss import LossGraph
from lightning_debug.experiments.isolation import Sandbox
from lightning_debug.experiments.model_runs import unstepped

MOST_PASSES = 256
"""Backward passes of one batch that are heard."""

FEWEST_WATCHED = 2
"""Steps that have to be watched before they count as alike."""


class Heard:
    """What goes backward in each batch, without a wait for the device."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._usual = 0
        self._varies = self._returned = False

    def hear(self, loss: Any) -> None:
        """Takes a loss that goes backward."""
        plain = isinstance(loss, Tensor) and loss.numel() == 1 and not loss.is_complex()
        if plain and len(self._losses) < MOST_PASSES:
            self._losses.append(loss.detach().clone())

    def take(self, returned: Tensor | None, *, last: bool) -> Tensor | None:
        """Ends a batch: the loss that it returned, else the mean of those that went backward; ``None`` without any.

        Args:
            returned: The loss that the step returned.
            last: Whether it was the last batch of an epoch, which may be cut into fewer parts.
        """
        losses, self._losses = self._losses, []
        count = len(losses)
        self._usual = self._usual or count
        self._varies = self._varies or not (count == self._usual or (last and count < self._usual))
        if returned is not None:
            self._returned = True
            return returned.detach().clone()
        return _mean(losses)

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


def heard_again(
    sandbox: Sandbox, pl_module: LightningModule, batch: Any, index: int, *, evaluating: bool
) -> Tensor | None:
    """The loss of a step made by hand that is run again, its optimizers at rest; ``None`` where there is none.

    Each run begins with the weights and modes as they are in training, but for eval mode where that is asked for.
    """
    sandbox.rewind()
    losses: list[Tensor] = []
    mode: contextlib.AbstractContextManager[Any] = sandbox.mode(False) if evaluating else contextlib.nullcontext()
    with mode, _listening(pl_module, losses), unstepped(pl_module):
        output = sandbox.training_step(batch, index)
    returned = sandbox.loss(output)
    return _mean(losses) if returned is None else returned


@contextlib.contextmanager
def _listening(pl_module: LightningModule, losses: list[Tensor]) -> Iterator[None]:
    original = pl_module.manual_backward
    before = vars(pl_module).get("manual_backward")

    def manual_backward(loss: Tensor, *args: Any, **kwargs: Any) -> Any:
        losses.append(loss.detach())
        return original(loss, *args, **kwargs)

    vars(pl_module)["manual_backward"] = manual_backward
    try:
        yield
    finally:
        del vars(pl_module)["manual_backward"]
        vars(pl_module).update({} if before is None else {"manual_backward": before})


def _mean(losses: list[Tensor]) -> Tensor | None:
    if len(losses) < 2:
        return losses[0] if losses else None
    return torch.stack([loss.reshape(()).float() for loss in losses]).mean()
