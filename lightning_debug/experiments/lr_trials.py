"""The parts of a learning-rate search: what it needs of a training run, sweeps and trials."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.lr_valley import Sweep

ENDING = (0.8, 0.9, 1.0)
"""Shares of a trial at which it is scored."""

ON_THE_WAY = (0.2, 0.4, 0.6)
"""Shares of a trial at which held-out examples are looked at besides those towards its end."""

LOWEST, TRAINING = 0.4, 0.3
"""Shares of the lowest held-out loss and of the training loss in a trial's merit (tuned on benchmarks/lr_tuning.py)."""

Shape = Callable[[float], float]
"""A schedule: the share of the highest learning rate that is in use at a share of the run, both from 0 to 1."""


class Runner(Protocol):
    """What the search needs of a training run."""

    def rewind(self, order: int) -> None:
        """Puts everything back to the start; ``order`` chooses the order of batches."""

    def step(self, lr: float) -> float:
        """One optimizer step at a learning rate; returns the training loss before it."""

    def held_out(self) -> float:
        """The loss on examples that :meth:`step` does not train on, in eval mode; NaN if there are none."""


@dataclass(frozen=True)
class Plan:
    """How much to search.

    Args:
        lr_min: Lowest learning rate of a sweep.
        lr_max: Highest learning rate of a sweep.
        steps: Steps a sweep.
        sweeps: Sweeps to pool.
        trial_steps: Steps a trial.
        tolerance: Of learning rates whose trials reach this share of the best trial's fall in loss, the lowest is
            suggested: a training is longer than a trial, and forgives a low rate sooner than a high one.
        grid: Factor between the learning rates tried.
    """

    lr_min: float = 1e-7
    lr_max: float = 10.0
    steps: int = 100
    sweeps: int = 3
    trial_steps: int = 300
    tolerance: float = 0.06
    grid: float = math.sqrt(10.0)


@dataclass(frozen=True)
class Trial:
    """One training at a learning rate.

    Args:
        lr: The learning rate; the highest one where it goes through a schedule.
        losses: Training loss by step.
        score: Held-out loss towards the end (training loss where nothing is held out); infinite if it blew up.
        merit: What learning rates are chosen by, the lower the better: the score, together with the lowest held-out
            loss on the way and the training loss towards the end. A net that grows too sure of itself has a
            held-out loss that rises while its answers still improve, and one that learns nothing has none.
    """

    lr: float
    losses: tuple[float, ...]
    score: float
    merit: float = math.inf


@dataclass
class Budget:
    """Says when to stop.

    Args:
        deadline: Value of ``clock`` at which to stop.
        clock: What tells the time; ranks of one run need one that they share.
        cut: Whether the time has run out.
    """

    deadline: float = math.inf
    clock: Callable[[], float] = working_time
    cut: bool = field(default=False)

    def left(self) -> bool:
        """Whether there is time left."""
        if self.clock() >= self.deadline:
            self.cut = True
        return not self.cut


def run_sweep(runner: Runner, plan: Plan, order: int, budget: Budget | None = None) -> Sweep:
    """One geometric sweep; it ends early once the smoothed loss is four times its best, or not finite."""
    runner.rewind(order)
    lrs: list[float] = []
    losses: list[float] = []
    mean, best, worst_start = 0.0, math.inf, 0.0
    for index in range(plan.steps):
        lr = plan.lr_min * (plan.lr_max / plan.lr_min) ** (index / (plan.steps - 1))
        loss = runner.step(lr)
        lrs.append(lr)
        losses.append(loss)
        if not math.isfinite(loss) or (budget is not None and not budget.left()):
            break
        mean = 0.9 * mean + 0.1 * loss
        smooth = mean / (1 - 0.9 ** (index + 1))
        best = min(best, smooth)
        if index < 5:
            worst_start = max(worst_start, abs(loss))
        elif smooth > best + 3 * max(abs(best), 0.1 * worst_start):  # "four times", also where losses are negative
            break
    return Sweep(tuple(lrs), tuple(losses))


def run_trial(
    runner: Runner,
    plan: Plan,
    lr: float,
    budget: Budget | None = None,
    *,
    order: int = 100,
    shape: Shape | None = None,
    watched: bool = False,
) -> Trial:
    """One short training, scored three times in its last fifth.

    Args:
        runner: The training run.
        plan: Says how many steps.
        lr: The learning rate; the highest one where there is a ``shape``.
        budget: When to stop.
        order: The order of the data; with one for all trials their differences are the learning rate's.
        shape: The schedule; constant by default.
        watched: Whether to look at the held-out examples on the way too; the merit is the score without it.
    """
    runner.rewind(order)
    losses: list[float] = []
    held: dict[float, float] = {}
    checks = {math.ceil(plan.trial_steps * share) - 1: share for share in (*(ON_THE_WAY if watched else ()), *ENDING)}
    for index in range(plan.trial_steps):
        if budget is not None and not budget.left():
            return Trial(lr, (), math.inf)  # half a trial compares with nothing
        loss = runner.step(lr if shape is None else lr * shape(index / plan.trial_steps))
        losses.append(loss)
        if not math.isfinite(loss) or abs(loss) > 1e4 * (abs(losses[0]) + 1):
            return Trial(lr, tuple(losses), math.inf)
        if index in checks:
            held[checks[index]] = runner.held_out()
    score = float(np.mean([held[share] for share in ENDING]))
    if math.isnan(score) and not any(map(math.isfinite, held.values())):
        score = float(np.mean(losses[-max(1, len(losses) // 4) :]))
        held = {}
    if not math.isfinite(score):
        return Trial(lr, tuple(losses), math.inf)
    if not watched:
        return Trial(lr, tuple(losses), score, score)
    lowest = min([score, *(one for one in held.values() if math.isfinite(one))])
    training = float(np.mean(losses[-max(1, len(losses) // 5) :]))
    merit = (1 - LOWEST - TRAINING) * score + LOWEST * lowest + TRAINING * training
    return Trial(lr, tuple(losses), score, merit)
