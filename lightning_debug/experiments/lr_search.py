"""The learning-rate search itself, apart from Lightning: sweeps give a range, short trials inside it decide.

The range test (L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3) raises
the learning rate geometrically and watches the loss. Where the loss falls fastest is a poor guide to where training
ends best, and a single sweep is noisy; so several short sweeps are pooled for the range, and the suggestion is the
winner of short trainings, compared on held-out examples of the training set. Where the run has a schedule, they go
through all of it: the highest rate of one that warms up and decays is another than the best constant one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lightning_debug.experiments.lr_trials import Budget, Plan, Runner, Shape, Trial, run_sweep, run_trial
from lightning_debug.experiments.lr_valley import Range, Sweep, pool

ENDS_LOW = 0.25
"""Share of its peak below which a schedule ends low."""
ANNEALED = 0.25
"""How much of the tolerance is left there: the steps at low rates that a longer run would reward have been made."""


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
        falls: Whether the loss on held-out examples falls at the suggestion, where there are such.
    """

    range: Range | None
    suggestion: float | None
    reason: str
    trials: tuple[Trial, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    cut_short: bool = False
    start_loss: float = math.nan
    falls: bool = True


def search(
    runner: Runner,
    plan: Plan,
    *,
    also: Sequence[float] = (),
    progress: Callable[[str], None] | None = None,
    budget: Budget | None = None,
    shape: Shape | None = None,
) -> Search:
    """Searches for a learning rate.

    Args:
        runner: The training run; it is rewound before every sweep and trial, not after the last.
        plan: How much to search.
        also: Learning rates to try besides, such as the one in use.
        progress: Called with half a sentence before each sweep and trial.
        budget: When to stop; unlimited by default.
        shape: The run's schedule, which every trial goes through; constant by default.
    """
    say = progress or (lambda _: None)
    budget = budget or Budget()
    sweeps, held = [], math.nan
    if budget.left():
        runner.rewind(0)
        held = runner.held_out()
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

    def attempt(lr: float) -> Trial:
        say(f"a trial at {lr:.2g}")
        return run_trial(runner, plan, lr, budget, shape=shape, watched=True)

    trials = _climb(attempt, plan, found, budget)
    for lr in also:
        if budget.left() and not any(math.isclose(lr, one.lr, rel_tol=1e-3) for one in trials) and lr > 0:
            trials.append(attempt(lr))
    trials = [one for one in trials if one.losses]
    decays = shape is not None and shape(1.0) < ENDS_LOW
    tolerance = plan.tolerance * (ANNEALED if decays else 1.0)
    suggestion, reason = _choose(trials, found, start, plan, tolerance)
    falls = True
    if suggestion is not None and trials:
        falls, reason = _told(trials, suggestion, start, held, plan)
    ordered = tuple(sorted(trials, key=lambda one: one.lr))
    return Search(found, suggestion, reason, ordered, tuple(sweeps), budget.cut, start, falls)


def _climb(attempt: Callable[[float], Trial], plan: Plan, found: Range, budget: Budget) -> list[Trial]:
    """Tries learning rates on a geometric grid, towards lower merits, until both neighbours are worse."""
    step = math.log(plan.grid)
    here = round(math.log(min(found.lr_max / 3, found.blow_up / 10)) / step)
    lowest, highest = math.ceil(math.log(plan.lr_min) / step), math.floor(math.log(plan.lr_max) / step + 1e-9)
    here = min(max(here, lowest), highest)
    tried: dict[int, Trial] = {}

    def merit(index: int) -> float:
        if not lowest <= index <= highest:
            return math.inf
        if index not in tried and budget.left():
            one = attempt(math.exp(index * step))
            if one.losses:
                tried[index] = one
        return tried[index].merit if index in tried else math.inf

    while budget.left():
        now = merit(here)
        if math.isinf(now) and here > lowest:
            here -= 1  # it blew up: only lower ones can do better
        elif merit(here + 1) < now:
            here += 1
        elif merit(here - 1) < now:
            here -= 1
        else:
            break
    return list(tried.values())


def _choose(
    trials: Sequence[Trial], found: Range, start: float, plan: Plan, tolerance: float
) -> tuple[float | None, str]:
    """The lowest rate that is about as good as the best: ``tolerance`` is a share of the fall."""
    finite = [one for one in trials if math.isfinite(one.score)]
    if not finite:
        if trials:
            return None, "the loss blows up at every learning rate that was tried"
        if not found.clear:
            return None, "no clear valley: the loss does not fall at any learning rate by more than its noise"
        middle = math.sqrt(found.lr_min * found.lr_max)
        return middle, "the middle of the range in which the loss falls; time ran out before trials"
    best = min(finite, key=lambda one: one.merit)
    fall = start - best.merit
    noise = float(np.std(np.diff(best.losses[-50:]))) / math.sqrt(2) if len(best.losses) > 2 else 0.0
    if fall <= 2 * noise / math.sqrt(10) and not found.clear:
        return None, f"no clear valley: in {plan.trial_steps} steps the loss goes from {start:.3g} to {best.score:.3g}"
    enough = [one.lr for one in finite if one.merit <= best.merit + tolerance * max(fall, 0.0)]
    return min(enough), ""


def _told(trials: Sequence[Trial], lr: float, start: float, held: float, plan: Plan) -> tuple[bool, str]:
    """Whether the held-out loss falls at the rate ``lr``, and what supports that."""
    taken = min(trials, key=lambda one: abs(one.lr - lr))
    if not math.isfinite(held):
        return True, f"in {plan.trial_steps} steps the loss goes from {start:.3g} to {taken.score:.3g}"
    if taken.score < held:
        return True, f"in {plan.trial_steps} steps the held-out loss goes from {held:.3g} to {taken.score:.3g}"
    told = f"in {plan.trial_steps} steps at it the training loss falls, but the held-out loss does not"
    return False, f"{told} ({held:.3g} before, {taken.score:.3g} after)"
