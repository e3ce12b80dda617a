"""Schedules: the part of OptimizerInspector that foresees learning rates."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._lightning import LightningModule, Trainer, callbacks_of, is_fast_dev_run, moment
from lightning_debug.callbacks._optimizer_progress import Following, count_of, may_be_stepped
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.schedules import AccumulationWindow, ScheduleForecast, ScheduleInUse
from lightning_debug.experiments.asking import Traceable, put_back
from lightning_debug.probes import scheduler_forecast as forecast


@dataclass(frozen=True)
class Plan:
    """The steps that will happen.

    Args:
        epochs: Epochs of the whole run.
        each: Optimizer steps an epoch.
        batches: Batches an epoch.
        steps: Optimizer steps of the whole run.
        done: Optimizer steps made before, where training continues.
        past: Epochs made before.
    """

    epochs: int
    each: int
    batches: int
    steps: int
    done: int = 0
    past: int = 0


class Schedules:
    """Called by a callback's hooks.

    Args:
        callback: The callback whose session takes the evidence.
        trainer: The Trainer, when training starts.
        pl_module: Its module.
        built: The lengths that ``configure_optimizers`` gave the schedulers, before a checkpoint was read.
    """

    def __init__(
        self,
        callback: DebugCallback,
        trainer: Trainer,
        pl_module: LightningModule,
        built: tuple[int | None, ...] = (),
    ) -> None:
        self._callback = callback
        self._built = built
        self.future_rate: float | None = None
        self._line = forecast.place_of(pl_module.configure_optimizers)
        self._foreseen: list[dict[str, ScheduleForecast]] = []
        self._following: Following | None = None
        self._held: list[ScheduleForecast] = []
        self._window(trainer, pl_module)
        configs = list(trainer.lr_scheduler_configs)
        if not configs:
            for kind in (ScheduleForecast, ScheduleInUse):
                self._refuse(trainer, "no scheduler is configured", kind)
            return
        plan = self._plan(trainer)
        if isinstance(plan, str):
            self._refuse(trainer, plan)
            for config in configs:
                self._in_use(trainer, config, plan)
            if math.isinf(trainer.num_training_batches) and trainer.max_steps > 0 and not trainer.global_step:
                steps = trainer.max_steps  # of one epoch, where the stream turns out to have no end before
                self._foresee(trainer, pl_module, configs, Plan(1, steps, steps, steps), held=True)
        else:
            self._foresee(trainer, pl_module, configs, plan)
        self._following = Following(callback, configs, self._foreseen, self._line)

    def _refuse(self, trainer: Trainer, reason: str, kind: type[Evidence] = ScheduleForecast) -> None:
        self._callback.unavailable(kind, reason, trainer)

    def _in_use(self, trainer: Trainer, config: Any, unforeseen: str = "") -> None:
        name = type(config.scheduler).__name__
        found = ScheduleInUse(scheduler=name, interval=config.interval, unforeseen=unforeseen, line=self._line)
        self._callback.session.observe(dataclasses.replace(found, at=moment(trainer)))

    def _window(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batches = trainer.num_training_batches
        if not pl_module.automatic_optimization or not math.isfinite(batches):
            reason = "the optimization is manual" if math.isfinite(batches) else "the length of an epoch is not known"
            self._callback.unavailable(AccumulationWindow, reason, trainer)
            return
        if _is_trial(trainer):
            self._callback.unavailable(AccumulationWindow, "the epoch is cut short for a trial", trainer)
            return
        last = not trainer.strategy.handles_gradient_accumulation
        window = AccumulationWindow(accumulate=trainer.accumulate_grad_batches, batches=int(batches), last=last)
        self._callback.session.observe(dataclasses.replace(window, at=moment(trainer)))

    @staticmethod
    def _plan(trainer: Trainer) -> Plan | str:
        """The steps that will happen, or why they are not known."""
        batches = trainer.num_training_batches
        if not math.isfinite(batches) or not batches:
            return "the number of batches an epoch is not known"
        epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
        each = math.ceil(batches / trainer.accumulate_grad_batches)
        if _changes_windows(trainer):
            mean = _mean_window(trainer, epochs)
            if mean is None or any(config.interval != "epoch" for config in trainer.lr_scheduler_configs):
                return "gradient accumulation changes during the run"
            each = math.ceil(batches / mean)  # schedules of epochs are stepped as often, whatever an epoch has of steps
        if epochs < 0 and trainer.max_steps < 0:
            return "the run is bounded neither by epochs nor by steps"
        steps = each * epochs if epochs >= 0 else trainer.max_steps
        if trainer.max_steps >= 0:
            steps = min(steps, trainer.max_steps)
        done = trainer.global_step
        if done >= steps:
            return "no step is left to be made"
        past = min(trainer.current_epoch, max(1, math.ceil(steps / each)))
        return Plan(max(1, math.ceil(steps / each)), each, int(batches), steps, done, past)

    def _foresee(
        self, trainer: Trainer, pl_module: LightningModule, configs: list[Any], plan: Plan, held: bool = False
    ) -> None:
        keep = forecast.keepers(pl_module, trainer)
        words = forecast.words_of(pl_module.configure_optimizers)
        misplaced = forecast.misplaced_keys(pl_module.configure_optimizers)
        own = forecast.decides_itself(pl_module.lr_scheduler_step)
        highest: list[float] = []
        for place, config in enumerate(configs):
            try:
                if own:
                    raise forecast.NotForeseen("lr_scheduler_step of the model decides when it steps them")
                with put_back(copied=config.scheduler):
                    both = {
                        interval: self._forecast(trainer, config, interval, plan, keep, words, misplaced)
                        for interval in ("step", "epoch")
                    }
            except (forecast.NotForeseen, Traceable) as refused:
                if held:
                    continue
                self._refuse(trainer, refused.reason)
                self._in_use(trainer, config, refused.reason)
                highest.append(math.nan)
                self._foreseen.append({})
                continue
            built = self._built[place] if place < len(self._built) else None
            both = {
                name: dataclasses.replace(
                    item,
                    other_rates=both["epoch" if name == "step" else "step"].rates,
                    built=built if item.done and built != item.length else None,
                )
                for name, item in both.items()
            }
            if held:
                self._held += [both["epoch"]] if config.interval == "epoch" and pl_module.automatic_optimization else []
                continue
            self._foreseen.append(both)
            self._in_use(trainer, config)
            if pl_module.automatic_optimization:
                if not may_be_stepped(pl_module, config):  # else the first epoch tells how it is
                    self._callback.session.observe(both[config.interval])
                highest.append(max((rate for _, rate in both[config.interval].rates), default=math.nan))
        known = len(highest) == len(configs) and all(math.isfinite(item) for item in highest)
        self.future_rate = max(highest) if known and highest else None

    def _forecast(
        self,
        trainer: Trainer,
        config: Any,
        interval: str,
        plan: Plan,
        keep: tuple[Any, ...],
        words: tuple[str, ...],
        misplaced: Any,
    ) -> ScheduleForecast:
        scheduler, each = config.scheduler, plan.each
        frequency = max(1, int(config.frequency)) if interval == config.interval else 1
        accumulate = trainer.accumulate_grad_batches

        def after_step(step: int) -> bool:
            place = (plan.done + step) % each
            batch = plan.batches if place == each - 1 else (place + 1) * accumulate
            return batch % frequency == 0

        def after_epoch(epoch: int) -> bool:
            return (plan.past + epoch + 1) % frequency == 0

        if interval == "step":
            ahead = plan.steps - plan.done
            rates = forecast.simulate(scheduler, ahead, after_step, keep)
            curve = tuple((plan.done + step, rate) for step, rate in forecast.thinned(rates))
            total = sum(after_step(step) for step in range(min(ahead, 200_000)))
        else:
            ahead = max(1, plan.epochs - plan.past)
            rates = forecast.simulate(scheduler, ahead, after_epoch, keep)
            curve = tuple(((plan.past + epoch) * each, rate) for epoch, rate in forecast.thinned(rates))
            total = sum(after_epoch(epoch) for epoch in range(ahead))
        length, name = forecast.length_of(scheduler)
        return ScheduleForecast(
            at=moment(trainer),
            scheduler=type(scheduler).__name__,
            optimizer=type(scheduler.optimizer).__name__,
            interval=interval,
            frequency=frequency,
            epochs=plan.epochs,
            steps_per_epoch=each,
            batches_per_epoch=plan.batches,
            optimizer_steps=plan.steps,
            scheduler_steps=total,
            length=length,
            length_name=name,
            milestones=forecast.milestones_of(scheduler),
            words=words,
            rates=curve,
            misplaced={key: value for key, value in misplaced.items() if value != str(getattr(config, key, value))},
            line=self._line,
            done=plan.done,
            counted=max(0, count_of(scheduler)),
            base=forecast.base_of(scheduler),
            gamma=forecast.gamma_of(scheduler),
            trial=_is_trial(trainer),
        )

    def batch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts the schedulers' steps, at the first batch of an epoch."""
        if self._following is not None:
            self._following.batch_start(trainer, pl_module)

    def epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares how often schedulers stepped with how often Lightning steps them."""
        if not trainer.current_epoch and trainer.global_step >= trainer.max_steps:
            for item in self._held:  # the first epoch was the whole run
                self._callback.session.observe(dataclasses.replace(item, at=moment(trainer)))
        self._held = []
        if self._following is not None:
            self._following.epoch_end(trainer, pl_module)

    def ended(self, trainer: Trainer, pl_module: LightningModule, error: BaseException | None = None) -> None:
        """The last look, when training ended or raised."""
        if self._following is not None:
            self._following.ended(trainer, pl_module, error)


def _is_trial(trainer: Trainer) -> bool:
    short = bool(getattr(trainer, "overfit_batches", False)) or trainer.limit_train_batches != 1.0
    return short or is_fast_dev_run(trainer)


def _changes_windows(trainer: Trainer) -> bool:
    """Whether accumulation changes during the run (``GradientAccumulationScheduler``)."""
    return any(len(getattr(item, "scheduling", None) or ()) > 1 for item in callbacks_of(trainer))


def _mean_window(trainer: Trainer, epochs: int) -> float | None:
    """Batches to a step, over all epochs of the run; ``None`` where their number or the windows are not known."""
    asked = [item for item in callbacks_of(trainer) if len(getattr(item, "scheduling", None) or ()) > 1]
    if epochs <= 0 or trainer.max_steps >= 0 or len(asked) != 1:
        return None
    window = getattr(asked[0], "get_accumulate_grad_batches", None)
    if window is None:
        return None
    return epochs / sum(1.0 / int(window(epoch)) for epoch in range(epochs))


def lengths(trainer: Trainer) -> tuple[int | None, ...]:
    """What each scheduler was built for, as it is now."""
    return tuple(forecast.length_of(config.scheduler)[0] for config in trainer.lr_scheduler_configs)
