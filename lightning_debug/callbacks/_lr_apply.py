"""Puts a learning rate to use everywhere that Lightning, a scheduler or the module keep the old one."""

from __future__ import annotations

import math
from typing import Any

from lightning_debug.callbacks._lightning import LightningModule, Trainer

_GROUP = ("lr", "initial_lr", "max_lr", "min_lr", "base_lr")
_SCHEDULER = ("base_lrs", "max_lrs", "min_lrs", "_last_lr", "base_lr", "max_lr", "min_lr", "eta_min", "eta_max")
_NAMES = ("lr", "learning_rate")


def apply_rate(trainer: Trainer, pl_module: LightningModule, optimizer: Any, in_use: float, wanted: float) -> list[str]:
    """Has the run go on with ``wanted`` where it had ``in_use``; groups and schedules keep their proportions.

    Args:
        trainer: The Trainer.
        pl_module: Its module: ``lr``, ``learning_rate`` and the same names in ``hparams`` are set where they hold a
            rate of this optimizer, if it is the only one.
        optimizer: The optimizer.
        in_use: The highest learning rate of its schedule.
        wanted: What is to take its place.

    Returns:
        What was changed, by name.
    """
    scale = wanted / in_use
    kept = ("lr", "initial_lr", "max_lr")
    before = {float(group[name]) for group in optimizer.param_groups for name in kept if name in group} | {in_use}
    changed: list[str] = []
    for index, group in enumerate(optimizer.param_groups):
        for name in _GROUP:
            if name in group:
                group[name] = _scaled(group[name], scale)
                changed.append(f"param_groups[{index}].{name}")
    optimizer.defaults["lr"] = _scaled(optimizer.defaults.get("lr"), scale)
    for config in trainer.lr_scheduler_configs:
        if getattr(config.scheduler, "optimizer", None) is optimizer:
            changed += _reschedule(config.scheduler, scale, set())
    if len(trainer.optimizers) == 1:
        changed += _rename(pl_module, before, scale)
    return changed


def _reschedule(scheduler: Any, scale: float, seen: set[int]) -> list[str]:
    if id(scheduler) in seen:
        return []
    seen.add(id(scheduler))
    changed = []
    for name in _SCHEDULER:
        if name in vars(scheduler):
            setattr(scheduler, name, _scaled(getattr(scheduler, name), scale))
            changed.append(f"{type(scheduler).__name__}.{name}")
    for inner in getattr(scheduler, "_schedulers", []):
        changed += _reschedule(inner, scale, seen)
    return changed


def _rename(pl_module: LightningModule, before: set[float], scale: float) -> list[str]:
    changed = []
    hparams = getattr(pl_module, "hparams", {})
    for name in _NAMES:
        if _holds(vars(pl_module).get(name), before):
            setattr(pl_module, name, getattr(pl_module, name) * scale)
            changed.append(name)
        if hasattr(hparams, "get") and _holds(hparams.get(name), before):
            hparams[name] *= scale
            changed.append(f"hparams.{name}")
    return changed


def _holds(value: Any, before: set[float]) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return any(math.isclose(value, one, rel_tol=1e-6) for one in before)


def _scaled(value: Any, scale: float) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_scaled(item, scale) for item in value)
    if hasattr(value, "mul_"):
        return value.mul_(scale)
    return value * scale if isinstance(value, (int, float)) else value
