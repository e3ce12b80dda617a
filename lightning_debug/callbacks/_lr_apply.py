"""Puts a learning rate to use everywhere that Lightning, a scheduler or the module keep the old one."""

from __future__ import annotations

import math
from typing import Any

from lightning_debug.callbacks._lightning import LightningModule, Trainer

_GROUP = ("lr", "initial_lr", "max_lr", "min_lr", "base_lr")
_SCHEDULER = ("base_lrs", "max_lrs", "min_lrs", "_last_lr", "base_lr", "max_lr", "min_lr", "eta_min", "eta_max")
_NAMES = ("lr", "learning_rate", "max_lr", "base_lr")


def apply_rate(trainer: Trainer, pl_module: LightningModule, optimizer: Any, in_use: float, wanted: float) -> list[str]:
    """Has the run go on with ``wanted`` where it had ``in_use``; groups and schedules keep their proportions.

    Args:
        trainer: The Trainer.
        pl_module: Its module: ``lr``, ``learning_rate``, ``max_lr``, ``base_lr`` and the same names in ``hparams`` are
            set where they hold a rate of this optimizer or of its schedule, if it is the only one.
        optimizer: The optimizer.
        in_use: The highest learning rate of its schedule.
        wanted: What is to take its place.

    Returns:
        What was changed, by name.
    """
    scale = wanted / in_use
    schedulers = [one.scheduler for one in trainer.lr_scheduler_configs]
    schedulers = [one for one in schedulers if getattr(one, "optimizer", None) is optimizer]
    before = {in_use} | _numbers([*optimizer.param_groups, optimizer.defaults], _GROUP)
    for scheduler in schedulers:
        before |= _numbers(list(map(vars, _every(scheduler, set()))), _SCHEDULER)
    changed: list[str] = []
    for index, group in enumerate(optimizer.param_groups):
        for name in _GROUP:
            if name in group:
                group[name] = _scaled(group[name], scale)
                changed.append(f"param_groups[{index}].{name}")
    optimizer.defaults["lr"] = _scaled(optimizer.defaults.get("lr"), scale)
    for scheduler in schedulers:
        for one in _every(scheduler, set()):
            changed += _reschedule(one, scale)
    if len(trainer.optimizers) == 1:
        changed += _rename(pl_module, before, scale)
    return changed


def _every(scheduler: Any, seen: set[int]) -> list[Any]:
    """A scheduler and those inside it."""
    if id(scheduler) in seen:
        return []
    seen.add(id(scheduler))
    return [scheduler, *(one for inner in getattr(scheduler, "_schedulers", []) for one in _every(inner, seen))]


def _numbers(holders: list[Any], names: tuple[str, ...]) -> set[float]:
    """The rates above 0 that are kept under these names."""
    found: set[float] = set()
    for holder in holders:
        for name in names:
            value = holder.get(name)
            for one in value if isinstance(value, (list, tuple)) else [value]:
                if hasattr(one, "item") or (isinstance(one, (int, float)) and not isinstance(one, bool)):
                    found.add(float(one))
    return {one for one in found if one > 0}


def _reschedule(scheduler: Any, scale: float) -> list[str]:
    changed = []
    for name in _SCHEDULER:
        if name in vars(scheduler):
            setattr(scheduler, name, _scaled(getattr(scheduler, name), scale))
            changed.append(f"{type(scheduler).__name__}.{name}")
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
