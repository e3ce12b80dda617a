"""The learning-rate search itself, apart from Lightning: sweeps give a range, short trials inside it decide.

The range test (L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3) raises
the learning rate geometrically and watches the loss. Where the loss falls fastest is a poor guide to where training
ends best, and a single sweep is noisy; so several short sweeps are pooled for the range, and the suggestion is the
winner of short trainings at constant learning rates, compared on held-out examples of the training set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.lr_valley import Range, Sweep, pool


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
    trial_steps: int = 200
    tolerance: float = 0.03
    grid: float = math.sqrt(10.0)


@dataclass(frozen=True)
class Trial:
    """One training at a constant learning rate.

    Args:
        lr: The learning rate.
        losses: Training loss by step.
        score: Held-out loss towards the end (training loss where nothing is held out); infinite if it blew up.
    """

    lr: float
    losses: tuple[float, ...]
    score: float


@dataclass(frozen=True)
class Search:
    """The outcome.

    Args:
        range: What the sweeps say; ``None`` when none could be run.
        suggestion: The learning rate to use, or ``None`` when there is no clear answer.
        reason: Why there is no answer, or what supports it.
        trials: The trials, by learning rate.
        sweeps: The sweeps.
        cut_short: Whether time ran out.
        start_loss: Loss before any training.
    """

    range: Range | None
    suggestion: float | None
    reason: str
    trials: tuple[Trial, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    cut_short: bool = False
    start_loss: float = math.nan


Shape = Callable[[float], float]
"""A schedule: the share of the highest learning rate that is in use at a share of the run, both from 0 to 1."""


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


def search(
    runner: Runner,
    plan: Plan,
    *,
    also: Sequence[float] = (),
    progress: Callable[[str], None] | None = None,
    budget: Budget | None = None,
) -> Search:
    """Searches for a learning rate.

    Args:
        runner: The training run; it is rewound before every sweep and trial, not after the last.
        plan: How much to search.
        also: Learning rates to try besides, such as the one in use.
        progress: Called with half a sentence before each sweep and trial.
        budget: When to stop; unlimited by default.

    Raises:
        ValueError: If the plan cannot be followed; the message names the argument.
    """
    check(plan)
    say = progress or (lambda _: None)
    budget = budget or Budget()
    sweeps = []
    for order in range(plan.sweeps):
        if budget.left():
            say(f"sweep {order + 1} of {plan.sweeps}")
            sweeps.append(run_sweep(runner, plan, order, budget))
    usable = [one for one in sweeps if len(one.lrs) >= 5 and math.isfinite(one.losses[0])]
    if not usable:
        reason = "time ran out before a sweep was done" if budget.cut else "the loss is not finite at any learning rate"
        return Search(None, None, reason, sweeps=tuple(sweeps), cut_short=budget.cut)
    found = pool(usable)
    start = float(np.median([one.losses[0] for one in usable]))
    trials = _climb(runner, plan, found, budget, say)
    for lr in also:
        if budget.left() and not any(math.isclose(lr, one.lr, rel_tol=1e-3) for one in trials) and lr > 0:
            say(f"a trial at {lr:.2g}")
            trials.append(run_trial(runner, plan, lr, budget))
    trials = [one for one in trials if one.losses]
    suggestion, reason = _choose(trials, found, start, plan)
    ordered = tuple(sorted(trials, key=lambda one: one.lr))
    return Search(found, suggestion, reason, ordered, tuple(sweeps), budget.cut, start)


def check(plan: Plan) -> None:
    """Refuses a plan that cannot be followed.

    Raises:
        ValueError: With the argument, its value and what is accepted.
    """
    if not 0 < plan.lr_min < plan.lr_max:
        raise ValueError(f"lr_min={plan.lr_min} must be above 0 and below lr_max={plan.lr_max}")
    if plan.steps < 10:
        raise ValueError(f"steps={plan.steps} must be at least 10")
    if plan.sweeps < 1:
        raise ValueError(f"sweeps={plan.sweeps} must be at least 1")
    if plan.trial_steps < 10:
        raise ValueError(f"trial_steps={plan.trial_steps} must be at least 10")


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
) -> Trial:
    """One short training, scored three times in its last fifth.

    Args:
        runner: The training run.
        plan: Says how many steps.
        lr: The learning rate; the highest one where there is a ``shape``.
        budget: When to stop.
        order: The order of the data; with one for all trials their differences are the learning rate's.
        shape: The schedule; constant by default.
    """
    runner.rewind(order)
    losses: list[float] = []
    scores: list[float] = []
    checks = {math.ceil(plan.trial_steps * share) - 1 for share in (0.8, 0.9, 1.0)}
    for index in range(plan.trial_steps):
        if budget is not None and not budget.left():
            return Trial(lr, (), math.inf)  # half a trial compares with nothing
        loss = runner.step(lr if shape is None else lr * shape(index / plan.trial_steps))
        losses.append(loss)
        if not math.isfinite(loss) or abs(loss) > 1e4 * (abs(losses[0]) + 1):
            return Trial(lr, tuple(losses), math.inf)
        if index in checks:
            scores.append(runner.held_out())
    score = float(np.mean(scores))
    if math.isnan(score) and not any(map(math.isfinite, scores)):
        score = float(np.mean(losses[-max(1, len(losses) // 4) :]))
    return Trial(lr, tuple(losses), score if math.isfinite(score) else math.inf)


def _climb(runner: Runner, plan: Plan, found: Range, budget: Budget, say: Callable[[str], None]) -> list[Trial]:
    """Tries learning rates on a geometric grid, towards lower scores, until both neighbours are worse."""
    step = math.log(plan.grid)
    here = round(math.log(min(found.lr_max / 3, found.blow_up / 10)) / step)
    lowest, highest = math.ceil(math.log(plan.lr_min) / step), math.floor(math.log(plan.lr_max) / step + 1e-9)
    here = min(max(here, lowest), highest)
    tried: dict[int, Trial] = {}

    def score(index: int) -> float:
        if not lowest <= index <= highest:
            return math.inf
        if index not in tried and budget.left():
            lr = math.exp(index * step)
            say(f"a trial at {lr:.2g}")
            one = run_trial(runner, plan, lr, budget)
            if one.losses:
                tried[index] = one
        return tried[index].score if index in tried else math.inf

    while budget.left():
        now = score(here)
        if math.isinf(now) and here > lowest:
            here -= 1  # it blew up: only lower ones can do better
        elif score(here + 1) < now:
            here += 1
        elif score(here - 1) < now:
            here -= 1
        else:
            break
    return list(tried.values())


def _choose(trials: Sequence[Trial], found: Range, start: float, plan: Plan) -> tuple[float | None, str]:
    finite = [one for one in trials if math.isfinite(one.score)]
    if not finite:
        if trials:
            return None, "the loss blows up at every learning rate that was tried"
        if not found.clear:
            return None, "no clear valley: the loss does not fall at any learning rate by more than its noise"
        middle = math.sqrt(found.lr_min * found.lr_max)
        return middle, "the middle of the range in which the loss falls; time ran out before trials"
    best = min(finite, key=lambda one: one.score)
    fall = start - best.score
    noise = float(np.std(np.diff(best.losses[-50:]))) / math.sqrt(2) if len(best.losses) > 2 else 0.0
    if fall <= 2 * noise / math.sqrt(10) and not found.clear:
        return None, f"no clear valley: in {plan.trial_steps} steps the loss goes from {start:.3g} to {best.score:.3g}"
    enough = [one.lr for one in finite if one.score <= best.score + plan.tolerance * max(fall, 0.0)]
    return min(enough), f"in {plan.trial_steps} steps the loss goes from {start:.3g} to {best.score:.3g}"
