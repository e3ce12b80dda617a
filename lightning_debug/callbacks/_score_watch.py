"""Watches what a validation's classification loss receives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lightning_debug.callbacks._lightning import LightningModule
from lightning_debug.callbacks._taps import Shadow, may_be_traced
from lightning_debug.probes.answers import TEMPERATURES
from lightning_debug.probes.validation_scores import ValidationScores


class ScoreWatch:
    """Is in place from a validation's first batch to its last; the first loader's batches count."""

    def __init__(self) -> None:
        self._scores: ValidationScores | None = None
        self._shadow: Shadow | None = None
        self._counts = False

    def begin_batch(self, pl_module: LightningModule, batch_idx: int, dataloader_idx: int) -> None:
        """A validation batch begins."""
        self._counts = dataloader_idx == 0
        if batch_idx == dataloader_idx == 0:
            self.release()
            if may_be_traced(pl_module):
                self._scores = ValidationScores()
                self._shadow = Shadow(pl_module, "validation_step", self._step)

    def end(self) -> None:
        """The validation's batches are over."""
        if self._shadow is not None:
            self._shadow.remove()
            self._shadow = None

    def losses(self) -> list[float]:
        """The validation loss at each temperature; NaN where it is not known. Lets go of the scores."""
        scores, self._scores = self._scores, None
        return scores.losses() if scores is not None else [math.nan] * len(TEMPERATURES)

    def release(self) -> None:
        """Lets go of everything."""
        self.end()
        self._scores = None

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._scores is None or not self._counts:
            return original(*args, **kwargs)
        self._scores.begin_step()
        with self._scores:
            return original(*args, **kwargs)
