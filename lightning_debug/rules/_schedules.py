"""How a schedule that was foreseen can be at odds with the steps that will happen."""

from __future__ import annotations

import itertools
import statistics

from lightning_debug.evidence.schedules import ScheduleForecast
from lightning_debug.rules._schedules_course import (
    FREE,
    Fault,
    Limits,
    endless_rise,
    exceeded,
    growing,
    highest,
    near,
    outgrown,
)

PER_STEP = ("OneCycleLR", "CyclicLR")
"""Schedules that are made to be stepped after every optimizer step."""

STEPS = ("estimated_stepping_batches", "num_training_steps", "steps_per_epoch", "warmup_steps", "num_warmup_steps")
"""Words by which an author counts optimizer steps."""


def fault_of(seen: ScheduleForecast, limits: Limits) -> Fault | None:
    """The first fault found in a schedule, or ``None``."""
    if len(seen.rates) < 1 or seen.optimizer_steps < 2:
        return None
    for look in (_misplaced, exceeded, outgrown):
        fault = look(seen)
        if fault is not None:
            return fault
    if seen.done:  # what is left of a run is too little to tell a schedule's unit by
        return None
    if seen.gamma is not None and seen.gamma > 1.0:
        return growing(seen, limits)
    fault = None
    if seen.interval == "epoch" and seen.steps_per_epoch > 1:
        fault = _too_rarely(seen, limits)
    if seen.interval == "step" and seen.epochs > 1:
        fault = _too_often(seen, limits) or _too_long(seen, limits)
    return fault or endless_rise(seen, limits)


def _misplaced(seen: ScheduleForecast) -> Fault | None:
    if not seen.misplaced:
        return None
    keys = " and ".join(f'"{key}": {value!r}' for key, value in seen.misplaced.items())
    return Fault(
        f'{keys} stands beside "optimizer" at {seen.line or "configure_optimizers"}, where Lightning ignores it: '
        f"{seen.scheduler} is stepped every {seen.frequency if seen.frequency > 1 else ''}{seen.interval} "
        f"({seen.scheduler_steps} times in {seen.optimizer_steps} optimizer steps).",
        f'Write "lr_scheduler": {{"scheduler": scheduler, {keys}}}.',
        seen.misplaced.get("interval", ""),
    )


def _too_rarely(seen: ScheduleForecast, limits: Limits) -> Fault | None:
    """A schedule of steps that is stepped once an epoch."""
    per_step = 'Put it on steps: "lr_scheduler": {"scheduler": scheduler, "interval": "step"} (the default is "epoch").'
    told = f"{seen.scheduler} is stepped once an epoch, {seen.scheduler_steps} times"
    peak, other = highest(seen.rates), highest(seen.other_rates)
    if seen.length is not None and seen.scheduler not in ("ConstantLR", "StepLR", "CosineAnnealingWarmRestarts"):
        total = seen.batches_per_epoch * seen.epochs
        fits = near(seen.length, seen.optimizer_steps, limits.exact) or near(seen.length, total, limits.exact)
        long = (
            seen.length >= 200 and seen.length >= 10 * seen.epochs and 0.8 <= seen.length / seen.optimizer_steps <= 1.25
        )
        known = seen.scheduler in PER_STEP and seen.optimizer_steps >= limits.short * seen.length
        warms = seen.scheduler == "LinearLR" and peak < limits.warm * other
        if seen.scheduler_steps <= limits.short * seen.length and (fits or long or known or warms):
            return Fault(
                f"{told}, and was built for {seen.length_name}={seen.length}: it goes through "
                f"{seen.scheduler_steps / seen.length:.0%} of its course (learning rate {seen.rates[0][1]:.2g} to "
                f"{seen.rates[-1][1]:.2g}) while the optimizer makes {seen.optimizer_steps} steps.",
                per_step,
                "step",
            )
    typed = seen.scheduler == "ExponentialLR" and seen.gamma is not None and seen.gamma == round(seen.gamma, 3)
    says_steps = not typed and any(word in seen.words for word in STEPS)  # no count of steps made such a factor
    leads = seen.base is None or other <= 1.05 * seen.base  # to the rate that was asked for, not beyond it
    rising = all(one[1] <= two[1] for one, two in itertools.pairwise(seen.rates)) and len(seen.rates) > 2
    rising = rising and bool(seen.other_rates) and seen.other_rates[-1][1] <= 0.1 * other
    share = (0.8 if rising else 0.5) if says_steps else limits.warm
    if seen.scheduler not in FREE and leads and peak < share * other:
        return Fault(
            f"{told}: its warm-up never ends, and the learning rate reaches {peak:.2g}; stepped after each of the "
            f"{seen.optimizer_steps} optimizer steps it would reach {other:.2g}.",
            per_step,
            "step",
        )
    if says_steps and seen.other_rates and seen.scheduler not in FREE:
        stays, falls = seen.rates[-1][1] >= 0.5 * peak, seen.other_rates[-1][1] <= 0.05 * other
        early = [rate for step, rate in seen.other_rates if step <= limits.early * seen.optimizer_steps]
        lasts = bool(early) and early[-1] > 0.05 * other  # a course of steps does not vanish long before its end
        if stays and falls and lasts and seen.epochs > 1 and seen.other_rates[-1][0] >= seen.optimizer_steps - 1:
            return Fault(
                f"{told}, though configure_optimizers counts steps ({_said(seen)}): the learning rate falls only from "
                f"{peak:.2g} to {seen.rates[-1][1]:.2g} instead of to {seen.other_rates[-1][1]:.2g}.",
                per_step,
                "step",
            )
    return None


def _said(seen: ScheduleForecast) -> str:
    return ", ".join(word for word in seen.words if word in STEPS)


def _too_often(seen: ScheduleForecast, limits: Limits) -> Fault | None:
    """A schedule of epochs that is stepped after every optimizer step."""
    if seen.scheduler in FREE or not seen.rates:
        return None
    told = f"{seen.scheduler} is stepped after each of {seen.optimizer_steps} optimizer steps"
    per_epoch = 'Put it on epochs ("interval": "epoch", the default), or count its steps in batches.'
    end = limits.early * seen.optimizer_steps
    if seen.milestones and len(seen.milestones) > 1 and seen.milestones[-1] <= min(end, seen.epochs):
        return Fault(
            f"{told}, so that its milestones {list(seen.milestones)} pass within the first {seen.milestones[-1]} of "
            f"them, in {seen.epochs} epochs.",
            per_epoch,
            "epoch",
        )
    peak = highest(seen.rates)
    low = next((step for step, _ in seen.rates if _gone(seen, step, limits.collapse * 1.001 * peak)), None)
    planned = statistics.median_low(rate for _, rate in seen.other_rates) if seen.other_rates else 0.0
    if low is not None and low <= end and seen.rates[-1][0] >= 2 * low and planned > limits.collapse * peak:
        return Fault(
            f"{told}: the learning rate falls from {peak:.2g} to {seen.rates[-1][1]:.2g} and is below "
            f"{limits.collapse:g} of its start from step {low} on; stepped once an epoch it would end at "
            f"{seen.other_rates[-1][1]:.2g}.",
            per_epoch,
            "epoch",
        )
    cycles = seen.scheduler_steps / (2 * seen.length) if seen.length else 0.0
    ends = len(seen.other_rates) > 3 and seen.other_rates[-1][1] <= 0.3 * highest(seen.other_rates)
    if seen.length is None and ends and not _returns(seen.other_rates) and (swings := _returns(seen.rates)) >= 2:
        return Fault(
            f"{told}: the learning rate falls and comes back {swings} times in {seen.epochs} epochs, where by epochs "
            f"it would end its course at {seen.other_rates[-1][1]:.2g}.",
            per_epoch,
            "epoch",
        )
    if seen.scheduler != "CosineAnnealingLR" or not seen.length or cycles < 2:
        return None
    if near(seen.length, seen.epochs, limits.exact) or seen.length <= limits.exact * seen.scheduler_steps:
        return Fault(
            f"{told} and was built for T_max={seen.length}: the learning rate swings up and down {cycles:.0f} times "
            f"in {seen.epochs} epochs instead of falling once.",
            per_epoch,
            "epoch",
        )
    return None


def _returns(rates: tuple[tuple[int, float], ...]) -> int:
    """How often the rate comes back to near its peak after it had nearly vanished."""
    peak, count, fell, rose = highest(rates), 0, False, False
    for _, rate in rates:
        if rate >= 0.8 * peak:
            count, fell, rose = count + fell, False, True
        elif rose and rate <= 0.2 * peak:
            fell = True
    return count


def _gone(seen: ScheduleForecast, start: int, level: float) -> bool:
    return all(rate <= level for step, rate in seen.rates if step >= start)


def _too_long(seen: ScheduleForecast, limits: Limits) -> Fault | None:
    """A one-cycle schedule that the run will not complete, though it was built for the batches of the run."""
    total = seen.batches_per_epoch * seen.epochs
    if seen.length_name != "total_steps" or seen.length is None or total <= seen.optimizer_steps:
        return None
    if not near(seen.length, total, limits.exact) or seen.scheduler_steps > (1.0 - limits.short / 2) * seen.length:
        return None
    return Fault(
        f"{seen.scheduler} was built for total_steps={seen.length}, the number of batches, but the optimizer makes "
        f"{seen.optimizer_steps} steps: it ends at a learning rate of {seen.rates[-1][1]:.2g}, before it has annealed.",
        "Set total_steps=self.trainer.estimated_stepping_batches, which counts accumulation.",
    )
