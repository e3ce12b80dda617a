"""Schedules: the part of OptimizerInspector that foresees learning rates, and follows how often schedulers step."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._lightning import LightningModule, Trainer, is_fast_dev_run, moment
from lightning_debug.evidence.schedules import AccumulationWindow, ScheduleForecast, ScheduleProgress
from lightning_debug.experiments._surroundings import random_state, set_random_state
from lightning_debug.probes import scheduler_forecast as forecast


class Schedules:
    """Called by a callback's hooks.

    Args:
        callback: The callback whose session takes the evidence.
        trainer: The Trainer, when training starts.
        pl_module: Its module.
    """

    def __init__(self, callback: DebugCallback, trainer: Trainer, pl_module: LightningModule) -> None:
        self._callback = callback
        self.future_rate: float | None = None
        self._line = forecast.place_of(pl_module.configure_optimizers)
        self._started: list[tuple[Any, int]] = []
        self._steps = trainer.global_step
        self._epoch = trainer.current_epoch
        self._manual: list[dict[str, ScheduleForecast]] = []
        self._looked = 0
        self._followed: set[int] = set()
        self._window(trainer, pl_module)
        configs = list(trainer.lr_scheduler_configs)
        self._started = [(item, _count(item.scheduler)) for item in configs]
        if not configs:
            self._refuse(trainer, "no scheduler is configured")
            self.future_rate = None
            return
        plan = self._plan(trainer)
        if isinstance(plan, str):
            self._refuse(trainer, plan)
            return
        self._foresee(trainer, pl_module, configs, plan)

    def _refuse(self, trainer: Trainer, reason: str) -> None:
        self._callback.unavailable(ScheduleForecast, reason, trainer)

    def _window(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batches = trainer.num_training_batches
        if not pl_module.automatic_optimization or not math.isfinite(batches):
            reason = "the optimization is manual" if math.isfinite(batches) else "the length of an epoch is not known"
            self._callback.unavailable(AccumulationWindow, reason, trainer)
            return
        if is_fast_dev_run(trainer) or getattr(trainer, "overfit_batches", False) or trainer.limit_train_batches != 1.0:
            self._callback.unavailable(AccumulationWindow, "the epoch is cut short for a trial", trainer)
            return
        last = not trainer.strategy.handles_gradient_accumulation
        window = AccumulationWindow(accumulate=trainer.accumulate_grad_batches, batches=int(batches), last=last)
        self._callback.session.observe(dataclasses.replace(window, at=moment(trainer)))

    @staticmethod
    def _plan(trainer: Trainer) -> tuple[int, int, int, int] | str:
        """Epochs, optimizer steps an epoch, batches an epoch, optimizer steps; or why they are not known."""
        batches = trainer.num_training_batches
        if trainer.global_step > 0:
            return "training continues from a checkpoint"
        if not math.isfinite(batches) or not batches:
            return "the number of batches an epoch is not known"
        each = math.ceil(batches / trainer.accumulate_grad_batches)
        epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
        if epochs < 0 and trainer.max_steps < 0:
            return "the run is bounded neither by epochs nor by steps"
        steps = each * epochs if epochs >= 0 else trainer.max_steps
        if trainer.max_steps >= 0:
            steps = min(steps, trainer.max_steps)
        return max(1, math.ceil(steps / each)), each, int(batches), steps

    def _foresee(
        self, trainer: Trainer, pl_module: LightningModule, configs: list[Any], plan: tuple[int, int, int, int]
    ) -> None:
        keep = forecast.keepers(pl_module, trainer)
        words = forecast.words_of(pl_module.configure_optimizers)
        misplaced = forecast.misplaced_keys(pl_module.configure_optimizers)
        highest: list[float] = []
        state = random_state()
        for config in configs:
            try:
                both = {
                    interval: self._forecast(trainer, config, interval, plan, keep, words, misplaced)
                    for interval in ("step", "epoch")
                }
            except forecast.NotForeseen as refused:
                self._refuse(trainer, refused.reason)
                highest.append(math.nan)
                self._manual.append({})
                continue
            finally:
                set_random_state(state)
            both = {
                name: dataclasses.replace(item, other_rates=both["epoch" if name == "step" else "step"].rates)
                for name, item in both.items()
            }
            self._manual.append(both)
            if pl_module.automatic_optimization:
                self._callback.session.observe(both[config.interval])
                highest.append(max((rate for _, rate in both[config.interval].rates), default=math.nan))
        known = len(highest) == len(configs) and all(math.isfinite(item) for item in highest)
        self.future_rate = max(highest) if known and highest else None

    def _forecast(
        self,
        trainer: Trainer,
        config: Any,
        interval: str,
        plan: tuple[int, int, int, int],
        keep: tuple[Any, ...],
        words: tuple[str, ...],
        misplaced: Any,
    ) -> ScheduleForecast:
        epochs, each, batches, steps = plan
        scheduler = config.scheduler
        frequency = max(1, int(config.frequency)) if interval == config.interval else 1
        accumulate = trainer.accumulate_grad_batches

        def after_step(step: int) -> bool:
            place = step % each
            batch = batches if place == each - 1 else (place + 1) * accumulate
            return batch % frequency == 0

        def after_epoch(epoch: int) -> bool:
            return (epoch + 1) % frequency == 0

        if interval == "step":
            rates = forecast.simulate(scheduler, steps, after_step, keep)
            curve = forecast.thinned(rates)
            total = sum(after_step(step) for step in range(min(steps, 200_000)))
        else:
            rates = forecast.simulate(scheduler, epochs, after_epoch, keep)
            curve = tuple((epoch * each, rate) for epoch, rate in forecast.thinned(rates))
            total = epochs // frequency
        length, name = forecast.length_of(scheduler)
        return ScheduleForecast(
            at=moment(trainer),
            scheduler=type(scheduler).__name__,
            optimizer=type(scheduler.optimizer).__name__,
            interval=interval,
            frequency=frequency,
            epochs=epochs,
            steps_per_epoch=each,
            batches_per_epoch=batches,
            optimizer_steps=steps,
            scheduler_steps=total,
            length=length,
            length_name=name,
            milestones=forecast.milestones_of(scheduler),
            words=words,
            rates=curve,
            misplaced={key: value for key, value in misplaced.items() if value != str(getattr(config, key, value))},
            line=self._line,
        )

    def epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares how often schedulers stepped with how often Lightning steps them."""
        self._looked += 1
        if self._looked > 2:
            return
        automatic = pl_module.automatic_optimization
        for place, (config, count) in enumerate(self._started):
            made = _count(config.scheduler) - count
            if config.reduce_on_plateau or count < 0 or config.frequency != 1:
                continue
            expected = trainer.global_step - self._steps
            if config.interval == "epoch":
                expected = trainer.current_epoch - self._epoch + 1
            if not automatic:
                self._follow_manual(trainer, place, made)
                continue
            self._callback.session.observe(
                ScheduleProgress(
                    at=moment(trainer),
                    scheduler=type(config.scheduler).__name__,
                    interval=config.interval,
                    expected=expected,
                    made=made,
                    automatic=automatic,
                    batches=self._looked,
                    line=self._line,
                )
            )

    def _follow_manual(self, trainer: Trainer, place: int, made: int) -> None:
        """Where schedulers are stepped by hand: what their first epoch says of the interval."""
        both = self._manual[place] if place < len(self._manual) else {}
        if place in self._followed or not both:
            return
        each, looked = both["step"].steps_per_epoch, self._looked
        once = (
            made in (looked, looked - 1) and made > 0
        )  # a hook of the model's own at the epoch's end comes after ours
        interval = "step" if made == each * looked else "epoch" if once and each > 1 else ""
        if interval:
            self._followed.add(place)
            self._callback.session.observe(dataclasses.replace(both[interval], at=moment(trainer), misplaced={}))


def _count(scheduler: Any) -> int:
    count = getattr(scheduler, "last_epoch", None)
    return count if isinstance(count, int) and not isinstance(count, bool) else -1
