"""The loss that a step made by hand logs, where it returns none and lets none be heard on its way backward."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_debug.callbacks._lightning import LightningModule, Trainer, logged_by_step


class LoggedLoss:
    """Takes the one value with ``loss`` in its name that each batch logs by itself (``on_step``).

    ``loss.backward()`` in the place of ``self.manual_backward(loss)`` calls no hook. Of several losses, as those of
    two players, none is taken, and none of a value that is logged for an epoch alone.

    Args:
        pl_module: The module; with automatic optimization nothing is ever taken.
    """

    def __init__(self, pl_module: LightningModule) -> None:
        self._by_hand = not pl_module.automatic_optimization
        self._last: Any = None

    def take(self, trainer: Trainer) -> list[Tensor]:
        """What the batch that ends now has logged, on its device; nothing where that is not one value."""
        if not self._by_hand:
            return []
        fresh = [value for name, value in logged_by_step(trainer).items() if "loss" in name.lower()]
        if len(fresh) != 1 or fresh[0] is self._last or not isinstance(fresh[0], Tensor):
            return []
        self._last = fresh[0]
        return [self._last.detach()] if self._last.numel() == 1 else []
