"""The losses of a run's first steps and the size of its first update, for where no experiment can be made."""

from __future__ import annotations

import math
from typing import Any

import torch

from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.callbacks._logged_loss import LoggedLoss
from lightning_debug.callbacks._lr_schedule import rates
from lightning_debug.evidence.lr_range import EarlyLosses
from lightning_debug.experiments.isolation import Sandbox

STEPS = 60
"""Batches whose losses are noted."""

LARGE = 1 << 28
"""Bytes of parameters above which the first update is not measured: that takes a copy."""


class EarlyWatch:
    """Follows the first steps without a wait for the device; :meth:`evidence` reads all at once."""

    def __init__(self, pl_module: LightningModule) -> None:
        self._logged = LoggedLoss(pl_module)
        self._losses: list[torch.Tensor] = []
        self._heard: torch.Tensor | None = None
        self._before: list[torch.Tensor] | None = None
        self._ratio: torch.Tensor | None = None
        self._rate = math.nan
        self._batches = 0

    @property
    def done(self) -> bool:
        """Whether enough is noted."""
        return self._batches >= STEPS

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the weights before the first update."""
        if self._ratio is not None or self._before is not None or len(trainer.optimizers) != 1:
            return
        held = _parameters(trainer)
        if sum(item.numel() * item.element_size() for item in held) <= LARGE:
            self._before = [item.detach().clone() for item in held]

    def on_before_backward(self, loss: Any) -> None:
        """Notes the first loss of a batch that goes backward: what there is where steps made by hand return none."""
        if self._heard is None and isinstance(loss, torch.Tensor) and not loss.is_complex():
            self._heard = loss.detach().clone()

    def on_train_batch_end(self, trainer: Trainer, outputs: Any) -> None:
        """Notes the loss, and the first update."""
        self._batches += 1
        returned, heard, self._heard = Sandbox.loss(outputs), self._heard, None
        losses = [item for item in (returned, heard) if item is not None] or self._logged.take(trainer)
        for loss in losses[:1]:
            self._losses.append((loss.detach() * trainer.accumulate_grad_batches).float().mean())
        if self._before is not None and trainer.global_step > 0:
            now = _parameters(trainer)
            if len(now) == len(self._before) > 0:
                weights = torch.stack([item.float().norm() for item in self._before]).norm()
                changes = [new.detach() - old for new, old in zip(now, self._before, strict=True)]
                self._ratio = torch.stack([item.float().norm() for item in changes]).norm() / (weights + 1e-12)
                self._rate = max(rates(trainer.optimizers[0]))
            self._before = None

    def evidence(self, trainer: Trainer) -> EarlyLosses | None:
        """What was noted; ``None`` if nothing was."""
        self._before = None
        if not self._losses:
            return None
        values = torch.stack([item.to(self._losses[0].device) for item in self._losses]).cpu().tolist()
        self._losses = []
        return EarlyLosses(
            losses=tuple(values),
            update_ratio=math.nan if self._ratio is None else float(self._ratio),
            in_use=self._rate,
            name=type(trainer.optimizers[0]).__name__ if trainer.optimizers else "",
            optimizers=len(trainer.optimizers),
        )


def _parameters(trainer: Trainer) -> list[torch.Tensor]:
    groups = getattr(trainer.optimizers[0], "param_groups", [])
    held = [item for group in groups for item in group["params"] if item.requires_grad]
    return [item for item in held if type(item).__name__ in ("Parameter", "Tensor") and item.is_floating_point()]
