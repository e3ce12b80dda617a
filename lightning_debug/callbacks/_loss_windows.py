"""Watches a few accumulation windows: over how many targets each micro-batch's loss is a mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment
from lightning_debug.callbacks._taps import Shadow
from lightning_debug.evidence import Moment
from lightning_debug.evidence.loss_checks import UnevenCounts
from lightning_debug.probes.batch_slicing import Uncuttable, batch_size
from lightning_debug.probes.loss_tap import LossTap, MeanOver

WINDOWS = frozenset({0, 1, 2, 3, 32, 128, 512, 2048})
"""The windows that are watched, counted from 0."""

MOST_BATCHES = 12
"""Micro-batches watched of one window: a sample tells how far counts differ."""


@dataclass
class _Seen:
    mean: MeanOver
    loss: Tensor
    samples: int | None


class LossWindows:
    """Watches ``training_step`` in a few accumulation windows, and reads nothing back before a window ends.

    Args:
        callback: The callback whose session takes the evidence.
    """

    def __init__(self, callback: DebugCallback) -> None:
        self._callback = callback
        self._shadow: Shadow | None = None
        self._count = 0
        self._begin()

    def _begin(self, at: Moment | None = None, accumulate: int = 1) -> None:
        self._at, self._accumulate = at, accumulate
        self._seen: list[_Seen] = []
        self._wanted = False
        self._whole = True

    def start_batch(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Watches this micro-batch if its window is one of those wanted.

        Args:
            trainer: The Trainer.
            pl_module: Its module.
            batch: The micro-batch.
            batch_idx: Its index in the epoch.
        """
        accumulate = trainer.accumulate_grad_batches
        place = batch_idx % accumulate
        if place == 0:
            self._begin(moment(trainer), accumulate)
            self._wanted = self._count in WINDOWS
            self._count += 1
        if not self._wanted or place >= MOST_BATCHES:
            return
        self._shadow = Shadow(pl_module, "training_step", self._watch(pl_module, batch))

    def _watch(self, pl_module: LightningModule, batch: Any) -> Callable[..., Any]:
        def step(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            tap = LossTap(pl_module)
            with tap:
                output = original(*args, **kwargs)
            loss = output if isinstance(output, Tensor) else _entry(output)
            with torch.no_grad():
                mean = tap.mean_over(loss) if loss is not None and loss.numel() == 1 else None
            if mean is None or loss is None:
                self._whole = False
            else:
                self._seen.append(_Seen(mean, loss.detach().clone().reshape(()), _samples(batch)))
            return output

        return step

    def end_batch(self, batch_idx: int, *, last: bool) -> None:
        """Ends the watch; at the end of a window reads what was seen.

        Args:
            batch_idx: Index of the micro-batch in the epoch.
            last: Whether the window ends here.
        """
        self.close()
        full = batch_idx % self._accumulate == self._accumulate - 1
        if not last or not self._wanted:
            return
        if full and self._whole and len(self._seen) > 1 and self._at is not None:
            self._callback.session.observe(self._evidence(self._at))
        self._begin()

    def close(self) -> None:
        """Takes the watch off."""
        if self._shadow is not None:
            self._shadow.remove()
            self._shadow = None

    def _evidence(self, at: Moment) -> UnevenCounts:
        first = self._seen[0].mean
        counts = torch.stack([item.mean.count.double() for item in self._seen]).tolist()
        losses = torch.stack([item.loss.double() for item in self._seen]).tolist()
        masked = bool(torch.stack([item.mean.masked for item in self._seen]).any())
        return UnevenCounts(
            at=at,
            accumulate=self._accumulate,
            counts=tuple(float(count) for count in counts),
            losses=tuple(float(loss) for loss in losses),
            samples=tuple(item.samples for item in self._seen),
            masked=masked,
            function=first.function,
            line=first.line,
        )


def _entry(output: Any) -> Tensor | None:
    found = output.get("loss") if hasattr(output, "get") else None
    return found if isinstance(found, Tensor) else None


def _samples(batch: Any) -> int | None:
    try:
        return batch_size(batch)
    except Uncuttable:
        return None
