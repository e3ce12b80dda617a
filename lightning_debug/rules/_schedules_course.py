"""Where a schedule leads: over its end, up all the way, or up again after a checkpoint."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from lightning_debug.evidence.schedules import PlateauWatch, ScheduleForecast, ScheduleProgress

FREE = ("CosineAnnealingWarmRestarts", "ConstantLR", "ReduceLROnPlateau", "CyclicLR")
"""Schedules that may go up and down, or end, whenever they like."""

_SAME = {
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "accuracy": "acc",
    "tr": "train",
    "epoch": "",
}

RANGE_TEST = 1e-5
"""A rate that starts so low and only grows is a range test by hand."""


@dataclass(frozen=True)
class Limits:
    """The thresholds of LD604."""

    short: float
    collapse: float
    early: float
    warm: float
    exact: float
    grows: float
    reached: float
    behind: float


@dataclass(frozen=True)
class Fault:
    """What is wrong with a schedule, in words.

    Args:
        message: What happens.
        fix: The edit.
        intended: The interval whose course was meant, where that is the fault.
        rises: Whether it is a warm-up that does not end.
    """

    message: str
    fix: str
    intended: str = ""
    rises: bool = False

    @property
    def by_steps(self) -> bool:
        """Whether more steps of the scheduler would cure it."""
        return self.rises or self.intended == "step"


def highest(rates: tuple[tuple[int, float], ...]) -> float:
    """The highest rate of a curve."""
    return max((rate for _, rate in rates), default=0.0)


def near(length: float, planned: float, exact: float) -> bool:
    """Whether a length agrees with a number of steps."""
    return abs(length - planned) <= max(1.0, exact * planned)


def exceeded(seen: ScheduleForecast) -> Fault | None:
    """A schedule that raises when it is stepped beyond its end."""
    total = seen.counted + seen.scheduler_steps
    if seen.length is None or seen.length_name != "total_steps" or total <= seen.length:
        return None
    if seen.done:
        told = f", where configure_optimizers builds total_steps={seen.built}" if seen.built is not None else ""
        return Fault(
            f"{seen.scheduler} comes from the checkpoint with total_steps={seen.length}, of which {seen.counted} are "
            f"made{told}; the run steps it {seen.scheduler_steps} times more: step {seen.length + 1} will raise.",
            _anew(seen),
        )
    intended = "epoch" if seen.interval == "step" and near(seen.length, seen.epochs, 0.01) else ""
    return Fault(
        f"{seen.scheduler} was built for total_steps={seen.length} and is stepped every {seen.interval}, "
        f"{seen.scheduler_steps} times: step {seen.length + 1} will raise.",
        "Set total_steps=self.trainer.estimated_stepping_batches" + (', or "interval": "epoch".' if intended else "."),
        intended,
    )


def _anew(seen: ScheduleForecast) -> str:
    return (
        "A checkpoint brings the old schedule back: give max_epochs its final value in the first run; or start a new "
        "fit from the weights (load_from_checkpoint, then fit without ckpt_path), which builds the schedule anew"
        f" for the {seen.optimizer_steps - seen.done} steps to come."
    )


def outgrown(seen: ScheduleForecast) -> Fault | None:
    """A cosine of a shorter run that a checkpoint brought back: it rises again after its end."""
    if not seen.done or seen.built is None or seen.length is None or seen.scheduler != "CosineAnnealingLR":
        return None
    total = seen.counted + seen.scheduler_steps
    lowest = min(range(len(seen.rates)), key=lambda place: seen.rates[place][1], default=0)
    rises = [rate for _, rate in seen.rates[lowest:]]
    if seen.built <= seen.length or total <= 1.1 * seen.length or len(rises) < 2 or rises[-1] < 10 * rises[0]:
        return None
    return Fault(
        f"{seen.scheduler} comes from the checkpoint with T_max={seen.length}, where configure_optimizers builds "
        f"T_max={seen.built}: at step {total} of it the learning rate has risen again from {rises[0]:.2g} to "
        f"{rises[-1]:.2g} instead of falling to the end.",
        _anew(seen),
    )


def growing(seen: ScheduleForecast, limits: Limits) -> Fault | None:
    """A decay whose factor is above 1."""
    if seen.gamma is None or seen.gamma <= 1.0 or seen.trial or seen.epochs < 2 or not seen.rates:
        return None
    (_, first), (last_step, last) = seen.rates[0], seen.rates[-1]
    if first <= RANGE_TEST or last < limits.grows * first:
        return None
    return Fault(
        f"{seen.scheduler} multiplies the learning rate by gamma={seen.gamma:g}, which is above 1: it grows from "
        f"{first:.2g} to {last:.2g} by step {last_step}.",
        f"Use a gamma below 1, such as gamma={1 / seen.gamma:.3g}.",
    )


def endless_rise(seen: ScheduleForecast, limits: Limits) -> Fault | None:
    """A warm-up that is longer than the run."""
    if seen.base is None or seen.base <= 0.0 or seen.trial or seen.scheduler in FREE or seen.scheduler_steps < 3:
        return None
    rates = [rate for _, rate in seen.rates]
    if len(rates) < 3 or any(later < sooner for sooner, later in itertools.pairwise(rates)):
        return None
    last, middle = rates[-1], rates[len(rates) // 2]
    cycle = seen.scheduler == "OneCycleLR" and seen.scheduler_steps <= limits.short * (seen.length or 0)
    if last > (0.9 if cycle else limits.reached) * seen.base or not rates[-3] < rates[-2] < last or middle < 0.2 * last:
        return None  # one that rises by the same factor each step is a range test by hand
    length = f" ({seen.length_name}={seen.length})" if seen.length is not None else ""
    return Fault(
        f"{seen.scheduler} rises to the very end{length}: after {seen.scheduler_steps} of its steps, with the run's "
        f"{seen.optimizer_steps} optimizer steps made, the learning rate is {last:.2g} of the {seen.base:.2g} that the "
        "warm-up leads to.",
        f"Make the warm-up 5 to 10 % of the run: {max(1, seen.scheduler_steps // 20)} to "
        f"{max(1, seen.scheduler_steps // 10)} steps of the scheduler, from self.trainer.estimated_stepping_batches.",
        rises=True,
    )


def _one_driver(seen: ScheduleProgress, foreseen: ScheduleForecast | None) -> str:
    """Whose steps to keep: Lightning's, at the pace that the schedule was made for."""
    delete = "Delete the scheduler.step() in your code; with automatic optimization Lightning steps it"
    if seen.interval != "epoch" or seen.made <= 2 * seen.expected:
        return f"{delete}."
    key = '"lr_scheduler": {"scheduler": scheduler, "interval": "step"}'
    rises = foreseen is not None and 0.0 < highest(foreseen.rates) < 0.5 * highest(foreseen.other_rates)
    if rises:  # its warm-up would not end in so few steps
        return f"Delete the scheduler.step() in your code, and have Lightning step it after each batch: {key}."
    return f"{delete} after each epoch. Where it is counted in batches, write {key}."


def driven(seen: ScheduleProgress, limits: Limits, foreseen: ScheduleForecast | None = None) -> Fault | None:
    """A scheduler that the user's code steps as well as Lightning, or that nobody steps."""
    if seen.idle:
        stays = "" if seen.rate is None else f", and the learning rate stays at {seen.rate:.2g}"
        hook = "training_step" if seen.interval == "step" else "on_train_epoch_end"
        value = 'self.trainer.callback_metrics["val_loss"]' if seen.scheduler == "ReduceLROnPlateau" else ""
        return Fault(
            f"{seen.scheduler} made no step in {seen.batches} epochs: with manual optimization Lightning steps no "
            f"scheduler{stays}.",
            f"Call self.lr_schedulers().step({value}) in {hook}, or return the optimizer alone.",
        )
    if not seen.automatic:
        return None
    often = seen.expected >= 2 and seen.made >= 2 * seen.expected
    if often or (seen.expected == 1 and seen.made >= 5):
        times = "twice" if seen.made == 2 * seen.expected else f"{seen.made / seen.expected:.3g} times"
        return Fault(
            f"{seen.scheduler} made {seen.made} steps where Lightning made {seen.expected}: it is stepped by hand as "
            f"well, and runs {times} as fast.",
            _one_driver(seen, foreseen),
        )
    if seen.plain and seen.interval == "step" and seen.expected >= 4 and seen.made <= limits.behind * seen.expected:
        return Fault(
            f"{seen.scheduler} stands at step {seen.made} after Lightning stepped it {seen.expected} times: "
            "scheduler.step(epoch) in your code sets it back.",
            "Delete the scheduler.step(...) in your code; with automatic optimization Lightning steps it.",
        )
    return None


def waiting(seen: PlateauWatch) -> Fault | None:
    """A plateau of values that are not logged, or of the wrong direction."""
    told = f"{seen.scheduler} waits for {seen.monitor!r}"
    if seen.value is None:
        others = [name for name in seen.logged if not re.search(r"_step(/|$)", name)]
        close = _alike(seen.monitor, others)
        there = ", ".join(repr(name) for name in others[:6]) or "nothing"
        epochs = max(1, seen.epochs)
        when = "after each step" if seen.interval == "step" else f"after {epochs} epoch{'s' if epochs > 1 else ''}"
        follows = "Lightning raises" if seen.raised else "the learning rate never falls"
        fix = f'Write "monitor": "{close}"' if close else f"Log it: self.log({seen.monitor!r}, ...) in validation_step"
        if seen.interval == "step":
            fix += ', or leave out "interval": "step": a value of validation is there once an epoch'
        return Fault(
            f"{told}, which is not logged {when} ({there} {'are' if ', ' in there else 'is'}): {follows}.", f"{fix}."
        )
    if seen.mode not in ("min", "max") or not seen.direction or seen.direction == seen.mode:
        return None
    if seen.direction == "max" and not 0.0 <= seen.value <= 100.0:
        return None
    if seen.direction == "min" and seen.value <= 0.0:  # one that was negated
        return None
    better = "larger" if seen.direction == "max" else "smaller"
    says = " (the default)" if seen.mode == "min" else ""
    return Fault(
        f"{told} with mode={seen.mode!r}{says}, but {better} values of it are better (it is {seen.value:.3g}): the "
        "learning rate falls while training goes well.",
        f"Write {seen.scheduler}(optimizer, mode={seen.direction!r}).",
    )


def _alike(name: str, others: list[str]) -> str:
    """The logged name that means the same, if one does."""
    parts = {_plain(other): other for other in sorted(others, key=len, reverse=True)}
    known = parts.get(_plain(name))
    if known is None:
        known = next((parts[found] for found in get_close_matches(_plain(name), list(parts), 1, 0.8)), None)
    return known or ""


def _plain(name: str) -> str:
    words = re.split(r"[^a-z0-9]+", name.lower())
    same = {
        "valid": "val",
        "validation": "val",
        "dev": "val",
        "eval": "val",
        "accuracy": "acc",
        "epoch": "",
        "tr": "train",
    }
    return " ".join(sorted(filter(None, (same.get(word, word) for word in words))))


def faults_met(
    progress: tuple[ScheduleProgress, ...],
    plateaus: tuple[PlateauWatch, ...],
    forecasts: tuple[ScheduleForecast, ...],
    limits: Limits,
) -> Iterator[tuple[ScheduleProgress | PlateauWatch, Fault]]:
    """What training itself showed."""
    for seen in progress:
        alike = [item for item in forecasts if item.scheduler == seen.scheduler]
        fault = driven(seen, limits, alike[0] if len(alike) == 1 else None)
        if fault is not None:
            yield seen, fault
    for watch in plateaus:
        fault = waiting(watch)
        if fault is not None:
            yield watch, fault
