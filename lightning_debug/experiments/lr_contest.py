"""Is the learning rate in use a good one? Few short trainings, and proof before any verdict.

A full search costs a thousand steps. Most learning rates are fine, and one trial shows it; a rate that is off by
far shows in a second one. What looks off is then repeated with other orders of the data.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_debug.experiments.lr_trials import Budget, Plan, Runner, Shape, Trial, run_trial

PATIENT = 1000
"""Runs are taken to be at least so many steps long: a sane rate needs some time, however short a test run is."""

DOWN = (10.0, 100.0, 1000.0)
FURTHER_DOWN = (10_000.0, 100_000.0)
UP = (100.0, 1000.0, 10_000.0, 100_000.0, 10.0, 1_000_000.0)

FIRST = 8
"""Batches whose mean loss is taken for the loss before training, where nothing is held out."""

LONGER = 4
"""How many times as long trials are where all rates are slow, and a higher one is the least so."""

SOARING = 10.0
"""A training whose loss reaches so many times the loss it began with has left its valley, even if it comes back."""


@dataclass(frozen=True)
class Contest:
    """See :class:`~lightning_debug.evidence.lr_range.LRContest`."""

    other: float
    steps: int
    start: float
    in_use: tuple[float, ...]
    others: tuple[float, ...]
    highest: tuple[float, ...]
    lasted: tuple[int, ...]


@dataclass(frozen=True)
class Glance:
    """What a few trials say.

    Args:
        trials: The trials, that of the rate in use first; empty when time ran out before.
        start: The loss that they started from.
        rival: The trial that does far better, if there is one.
        cut_short: Whether time ran out.
        steps: Steps of a trial; 0 where they are the plan's.
    """

    trials: tuple[Trial, ...]
    start: float
    rival: Trial | None
    cut_short: bool
    steps: int = 0


def start_loss(runner: Runner, plan: Plan) -> float:
    """The loss on held-out examples before any step; without such, that of a few batches, at a rate that moves nothing.

    One batch alone may be an easy one, so that no training seems to come below it.
    """
    runner.rewind(100)
    held = runner.held_out()
    if math.isfinite(held):
        return held
    losses = [runner.step(plan.lr_min) for _ in range(FIRST)]
    return sum(losses) / FIRST if all(map(math.isfinite, losses)) else math.nan


def glance(
    runner: Runner,
    plan: Plan,
    lr: float,
    planned: int | None,
    *,
    budget: Budget,
    shape: Shape | None = None,
    progress: Callable[[str], None] | None = None,
    grace: float = 0.0,
) -> Glance:
    """Tries the learning rate in use, and rates far from it as long as they could do far better.

    Args:
        runner: The training run.
        plan: Says how long a trial is, and between which rates to look.
        lr: The learning rate in use.
        planned: Optimizer steps of the whole run, if known.
        budget: When to stop.
        shape: The schedule, by share of the run.
        progress: Called with half a sentence before each trial.
        grace: More seconds where the first trial leaves a doubt.
    """
    say = progress or (lambda _: None)
    start = start_loss(runner, plan)
    trials: list[Trial] = []

    def attempt(rate: float) -> Trial | None:
        say(f"a trial at {rate:.2g}")
        one = run_trial(runner, plan, rate, budget, shape=shape) if budget.left() else None
        if one is None or not one.losses:
            return None
        trials.append(one)
        return one

    used = attempt(lr)
    if used is None:
        return Glance((), start, None, True)
    begin = start if math.isfinite(start) else used.losses[0]
    if not math.isfinite(begin):
        return Glance(tuple(trials), begin, None, budget.cut)
    rates = _far_rates(plan, lr, begin, used, planned)
    budget.deadline += grace if rates else 0.0
    worse = math.inf
    for rate in rates:
        if rate < lr and worse < lr:
            continue  # lower rates get worse from here on
        one = attempt(rate)
        if one is None:
            break
        if rate < lr and used.score < min(begin, one.score):
            worse = rate
        if far_better(begin, used.score, one.score, soared=rate < lr and soars(begin, used)):
            return Glance(tuple(trials), begin, one, budget.cut)
    longer = dataclasses.replace(plan, trial_steps=min(LONGER * plan.trial_steps, planned or PATIENT))
    pair = _longer_trials(runner, longer, plan, begin, trials, budget, shape, say)
    found, rival, steps = (pair, pair[1], longer.trial_steps) if pair else (tuple(trials), None, 0)
    return Glance(found, begin, rival, budget.cut, steps)


def _longer_trials(
    runner: Runner,
    longer: Plan,
    plan: Plan,
    start: float,
    trials: Sequence[Trial],
    budget: Budget,
    shape: Shape | None,
    say: Callable[[str], None],
) -> tuple[Trial, Trial] | None:
    """Longer trials at the rate in use and at the least slow one, if that then does far better."""
    lr = trials[0].lr
    fastest = _least_slow(lr, start, trials)
    if fastest is None or longer.trial_steps <= plan.trial_steps or not budget.left():
        return None
    say(f"longer trials at {lr:.2g} and {fastest:.2g}")
    used, other = (run_trial(runner, longer, rate, budget, shape=shape) for rate in (lr, fastest))
    known = used.losses and other.losses
    return (used, other) if known and far_better(start, used.score, other.score) else None


def _least_slow(lr: float, start: float, trials: Sequence[Trial]) -> float | None:
    """A higher rate whose fall, too small for a verdict, is twenty times the fall at the rate in use."""
    best = min(trials, key=lambda one: one.score)
    fall = start - best.score
    clear = best.lr > lr and fall > 0.01 * abs(start) and start - trials[0].score < 0.05 * fall
    return best.lr if clear else None


def _far_rates(plan: Plan, lr: float, start: float, used: Trial, planned: int | None) -> list[float]:
    """Rates that could do far better than the one in use, given its trial."""
    fall = start - used.score
    pace = max(planned or 0, PATIENT) / plan.trial_steps
    bounded = start > 0 and min(used.losses) >= 0  # then no loss can fall by more than where it begins
    worth = 0.5 if soars(start, used) else 0.25
    down = not bounded or fall <= worth * start  # a lower rate could do four times as well
    up = math.isfinite(used.score) and (not bounded or fall * pace <= 0.5 * start)  # else the run arrives at this pace
    lower = (*DOWN, *FURTHER_DOWN) if math.isinf(used.score) else DOWN
    rates = [lr / factor for factor in lower if down] + [lr * factor for factor in UP if up]
    return [rate for rate in rates if plan.lr_min * 0.99 <= rate <= max(plan.lr_max, lr)]


def soars(start: float, trial: Trial) -> bool:
    """Whether the loss has risen far above where it began, on the way."""
    return start > 0 and max(filter(math.isfinite, trial.losses), default=0.0) > SOARING * start


def far_better(start: float, score: float, other: float, *, soared: bool = False) -> bool:
    """Whether another rate's fall is noticeable, and four times as large; twice, where the loss soared before."""
    fall = start - other
    return math.isfinite(other) and fall > 0.15 * abs(start) and start - score < (0.5 if soared else 0.25) * fall


def contest(
    runner: Runner,
    plan: Plan,
    lr: float,
    other: float,
    start: float,
    *,
    budget: Budget,
    shape: Shape | None = None,
    known: Sequence[Trial] = (),
    orders: int = 3,
) -> Contest | None:
    """Trains at both rates with several orders of the data; ``None`` if time runs out before the second order.

    Args:
        runner: The training run.
        plan: Says how long a trial is.
        lr: The learning rate in use.
        other: The other.
        start: The loss before any step.
        budget: When to stop.
        shape: The schedule, by share of the run.
        known: Trials made already with the same shape and the first order.
        orders: How many orders.
    """
    used: list[Trial] = []
    others: list[Trial] = []
    for order in range(100, 100 + orders):
        pair = []
        for rate in (lr, other):
            seen = [one for one in known if order == 100 and math.isclose(one.lr, rate, rel_tol=1e-6)]
            one = seen[0] if seen else run_trial(runner, plan, rate, budget, order=order, shape=shape)
            if not one.losses:
                break
            pair.append(one)
        if len(pair) < 2:
            break
        used.append(pair[0])
        others.append(pair[1])
    if len(used) < 2:
        return None
    return Contest(
        other=other,
        steps=plan.trial_steps,
        start=start if math.isfinite(start) else used[0].losses[0],
        in_use=tuple(one.score for one in used),
        others=tuple(one.score for one in others),
        highest=tuple(max(filter(math.isfinite, one.losses), default=math.nan) for one in used),
        lasted=tuple(len(one.losses) for one in used),
    )
