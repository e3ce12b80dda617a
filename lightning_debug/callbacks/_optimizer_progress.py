"""How schedulers are driven: their steps counted, and the values read that plateaus wait for."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from torch import Tensor

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment
from lightning_debug.curves.names import better
from lightning_debug.evidence.schedules import PlateauWatch, ScheduleForecast, ScheduleProgress
from lightning_debug.probes.stated_intent import written
from lightning_debug.probes.update_ratio import rate_in_use

MOST_EPOCHS = 3
"""Epochs that are followed."""

FEWEST_EPOCHS = 2
"""Epochs after which a scheduler that has made no step is told of."""

NAMES_TOLD = 24
STEPS = re.compile(r"sch\w*(\(\))?(\[\w+\])?\.step\(|lr_scheduler_step|last_epoch")
"""How code steps a scheduler: perhaps in a phase that this run has not come to."""
_MISSING = "conditioned on metric"
_RESTARTS = ("CosineAnnealingWarmRestarts", "SWALR")  # documented to be set to an epoch


class Following:
    """Called by a callback's hooks.

    Args:
        callback: The callback whose session takes the evidence.
        configs: The schedulers as Lightning holds them.
        foreseen: What is foreseen of each of them, by interval; empty where nothing is.
        line: ``file.py:31`` of ``configure_optimizers``.
    """

    def __init__(
        self, callback: DebugCallback, configs: list[Any], foreseen: list[dict[str, ScheduleForecast]], line: str
    ) -> None:
        self._callback, self._configs, self._foreseen, self._line = callback, configs, foreseen, line
        self._counts: list[int] | None = None
        self._steps = self._epoch = self._looked = 0
        self._followed: set[int] = set()
        self._released: set[int] = set()
        self._told: set[int] = set()

    def batch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts, at the first batch of an epoch: by then every hook of the epoch before has run."""
        epoch = trainer.current_epoch
        if self._looked > MOST_EPOCHS:
            return
        if self._counts is None:
            self._counts = [count_of(config.scheduler) for config in self._configs]
            self._steps, self._epoch = trainer.global_step, epoch
        elif pl_module.automatic_optimization:
            self._compare(trainer, pl_module, "epoch", epoch - self._epoch)

    def epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts, and reads the values that plateaus wait for."""
        self._looked += 1
        if self._counts is None or self._looked > MOST_EPOCHS:
            return
        if pl_module.automatic_optimization:
            self._compare(trainer, pl_module, "step", trainer.global_step - self._steps)
            self._read_plateaus(trainer)
        else:
            for place, config in enumerate(self._configs):
                self._follow_manual(trainer, place, count_of(config.scheduler) - self._counts[place])

    def ended(self, trainer: Trainer, pl_module: LightningModule, error: BaseException | None) -> None:
        """The last look, when training ended or raised."""
        if self._counts is None:
            return
        if not pl_module.automatic_optimization:
            if error is None and self._looked >= FEWEST_EPOCHS and not _steps_one(written(pl_module)):
                self._note_idle(trainer)
            return
        if error is not None:
            if _MISSING in str(error):
                self._read_plateaus(trainer, str(error))
        elif self._looked <= MOST_EPOCHS:
            self._compare(trainer, pl_module, "epoch", self._looked)

    def _compare(self, trainer: Trainer, pl_module: LightningModule, interval: str, expected: int) -> None:
        ours = [id(config.scheduler) for config in trainer.lr_scheduler_configs]
        stepped_by = str(getattr(type(pl_module).lr_scheduler_step, "__module__", "")).partition(".")[0]
        usual = stepped_by in ("pytorch_lightning", "lightning")  # not the user's own way
        for place, (config, count) in enumerate(zip(self._configs, self._counts or (), strict=True)):
            kind = type(config.scheduler)
            if interval == "epoch" and expected and may_be_stepped(pl_module, config):
                self._release(trainer, place, count_of(config.scheduler) - count - expected * usual, expected)
            if config.interval != interval or config.reduce_on_plateau or count < 0 or config.frequency != 1:
                continue
            if id(config.scheduler) not in ours:  # another has taken its place (averaging does that)
                continue
            plain = kind.__module__ == "torch.optim.lr_scheduler" and kind.__name__ not in _RESTARTS
            self._callback.session.observe(
                ScheduleProgress(
                    at=moment(trainer),
                    scheduler=kind.__name__,
                    interval=interval,
                    expected=expected,
                    made=count_of(config.scheduler) - count,
                    automatic=True,
                    batches=self._looked,
                    plain=plain and usual,
                    line=self._line,
                )
            )

    def _release(self, trainer: Trainer, place: int, more: int, epochs: int) -> None:
        """Tells what is foreseen of a scheduler, now that it is known whether the model's code steps it."""
        both = self._foreseen[place] if place < len(self._foreseen) else {}
        if place in self._released or not both:
            return
        self._released.add(place)
        each = both["step"].steps_per_epoch
        found = dataclasses.replace(both["epoch"], by_hand=each > 1 and more >= each * epochs)
        self._callback.session.observe(dataclasses.replace(found, at=moment(trainer)))

    def _note_idle(self, trainer: Trainer) -> None:
        """Tells of schedulers that the whole run has not stepped, where its steps are made by hand."""
        for place, (config, count) in enumerate(zip(self._configs, self._counts or (), strict=True)):
            both = self._foreseen[place] if place < len(self._foreseen) else {}
            ahead = both.get(config.interval)  # milestones may lie beyond the end of the run
            moves = config.reduce_on_plateau or (ahead is not None and _moves(ahead.rates))
            if count < 0 or count_of(config.scheduler) != count or not moves:
                continue
            self._callback.session.observe(
                ScheduleProgress(
                    at=moment(trainer),
                    scheduler=type(config.scheduler).__name__,
                    interval="step" if _counts_batches(ahead, self._looked) else config.interval,
                    automatic=False,
                    batches=self._looked,
                    line=self._line,
                    idle=True,
                    rate=rate_in_use([config.scheduler.optimizer]),
                )
            )

    def _read_plateaus(self, trainer: Trainer, error: str = "") -> None:
        names = tuple(trainer.callback_metrics)
        for place, config in enumerate(self._configs):
            monitor = config.monitor
            if not config.reduce_on_plateau or not monitor or place in self._told:
                continue
            if error and f"metric {monitor} " not in error:
                continue
            value = _number(trainer.callback_metrics.get(monitor))
            waits = self._looked <= max(1, _every(trainer))  # a hook of the model's own may log it after ours
            if value is None and waits and not error:
                continue
            self._told.add(place)
            self._callback.session.observe(
                PlateauWatch(
                    at=moment(trainer),
                    scheduler=type(config.scheduler).__name__,
                    monitor=monitor,
                    mode=str(getattr(config.scheduler, "mode", "")),
                    direction=better(monitor) or "",
                    value=value,
                    logged=names[:NAMES_TOLD],
                    interval=config.interval,
                    epochs=self._looked,
                    raised=bool(error),
                    line=self._line,
                )
            )

    def _follow_manual(self, trainer: Trainer, place: int, made: int) -> None:
        """Where schedulers are stepped by hand: what their first epoch says of the interval."""
        both = self._foreseen[place] if place < len(self._foreseen) else {}
        if place in self._followed or not both or self._looked >= MOST_EPOCHS:
            return
        each, looked = both["step"].steps_per_epoch, self._looked
        once = made in (looked, looked - 1) and made > 0  # a hook of the model's own at the epoch's end comes after
        interval = "step" if made == each * looked else "epoch" if once and each > 1 else ""
        if interval:
            self._followed.add(place)
            self._callback.session.observe(dataclasses.replace(both[interval], at=moment(trainer), misplaced={}))


def _moves(rates: tuple[tuple[int, float], ...]) -> bool:
    """Whether a course of learning rates changes by a tenth."""
    values = [rate for _, rate in rates]
    return bool(values) and max(values) > 1.1 * min(values)


def _steps_one(source: str) -> bool:
    held = "lr_schedulers(" in source and "get_last_lr(" not in source  # else to log the rate
    return held or STEPS.search(source) is not None


def may_be_stepped(pl_module: LightningModule, config: Any) -> bool:
    """Whether the model's code may step a scheduler that Lightning steps after each epoch."""
    counts = count_of(config.scheduler) >= 0 and config.frequency == 1 and not config.reduce_on_plateau
    return counts and config.interval == "epoch" and _steps_one(written(pl_module))


def _every(trainer: Trainer) -> int:
    every = trainer.check_val_every_n_epoch
    return every if isinstance(every, int) else 1


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    return float(value) if isinstance(value, (int, float)) else None


def count_of(scheduler: Any) -> int:
    """How many steps a scheduler counts; -1 where it does not say."""
    count = getattr(scheduler, "last_epoch", None)
    return count if isinstance(count, int) and not isinstance(count, bool) else -1


def _counts_batches(ahead: ScheduleForecast | None, epochs: int) -> bool:
    """Whether a schedule was built for about as many steps as the optimizer makes, and not for epochs."""
    built = ahead.length if ahead is not None else None
    return built is not None and ahead is not None and built > 2 * epochs and 2 * built >= ahead.optimizer_steps
