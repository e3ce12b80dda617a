"""The learning rate in use: the highest that the schedule reaches, and how the schedule runs up to it and down."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lightning_debug.callbacks._lightning import Trainer
from lightning_debug.experiments._surroundings import silence

MOST_STEPS = 10_000
"""Steps of a schedule that are looked at."""

SECONDS = 0.3
"""Time that looking may take."""


@dataclass(frozen=True)
class Schedule:
    """A learning rate over a run.

    Args:
        peak: The highest learning rate, of the fastest parameter group.
        ratios: Every group's share of it.
        profile: Share of the peak over the run, at equal distances; one value where it is constant.
    """

    peak: float
    ratios: tuple[float, ...]
    profile: tuple[float, ...]

    def shape(self, share: float) -> float:
        """Share of the peak in use at a share of the run."""
        return self.profile[min(int(share * len(self.profile)), len(self.profile) - 1)]

    @property
    def constant(self) -> bool:
        """Whether the learning rate stays as it is."""
        return min(self.profile) == max(self.profile)


def rates(optimizer: Any) -> list[float]:
    """The learning rate of every group.

    Raises:
        ValueError: If a group has none.
    """
    found = []
    for group in getattr(optimizer, "param_groups", []):
        if not isinstance(group, dict) or group.get("lr") is None:
            raise ValueError("it has no learning rate")
        found.append(float(group["lr"]))
    if not found:
        raise ValueError("it has no parameter groups")
    return found


def set_rates(optimizer: Any, lr: float, ratios: tuple[float, ...]) -> None:
    """Sets the fastest group to ``lr`` and the others in proportion."""
    for group, ratio in zip(optimizer.param_groups, ratios, strict=False):
        if hasattr(group["lr"], "fill_"):
            group["lr"].fill_(lr * ratio)
        else:
            group["lr"] = lr * ratio


def planned_steps(trainer: Trainer) -> int | None:
    """Optimizer steps of the whole run; ``None`` when it is not bounded."""
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    steps: float = math.inf
    if epochs is not None and epochs >= 0 and math.isfinite(batches):
        steps = math.ceil(batches / trainer.accumulate_grad_batches) * epochs
    if trainer.max_steps >= 0:
        steps = min(steps, trainer.max_steps)
    return int(steps) if math.isfinite(steps) else None


def schedule(trainer: Trainer, optimizer: Any) -> Schedule:
    """Runs the optimizer's schedulers through the run that is planned. The caller puts them back."""
    now = rates(optimizer)
    rows = [now]
    planned = planned_steps(trainer)
    per_epoch = math.inf
    if math.isfinite(trainer.num_training_batches):
        per_epoch = max(1, math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches))
    for config in trainer.lr_scheduler_configs:
        if getattr(config.scheduler, "optimizer", None) is optimizer and not config.reduce_on_plateau:
            each = (1 if config.interval == "step" else per_epoch) * max(1, config.frequency)
            count = MOST_STEPS if planned is None else math.ceil(planned / each) - 1
            rows = _run(config.scheduler.step, optimizer, min(count, MOST_STEPS), now)
            break
    peak = max(max(row) for row in rows)
    if peak <= 0:
        raise ValueError("its learning rate is 0, so something else sets it")
    fastest = max(range(len(now)), key=lambda index: max(row[index] for row in rows))
    ratios = tuple(max(row[index] for row in rows) / peak for index in range(len(now)))
    profile = tuple(row[fastest] / peak for row in rows)
    if not trainer.lightning_module.automatic_optimization:
        profile = (1.0,)  # when the user's code steps the scheduler is not known
    return Schedule(peak, ratios, profile)


def _run(step: Callable[..., Any], optimizer: Any, count: int, now: list[float]) -> list[list[float]]:
    rows = [now]
    until = time.monotonic() + SECONDS
    with silence(), _unwarned(), contextlib.suppress(Exception):  # one that ends before the run, or wants an argument
        for done in range(count):
            step()
            rows.append(rates(optimizer))
            if done > 500 and time.monotonic() > until:
                break
    return rows


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """Has schedulers keep to themselves that no optimizer stepped, also where warnings are errors."""
    before = warnings.warn
    warnings.warn = lambda *_, **__: None
    try:
        yield
    finally:
        warnings.warn = before
