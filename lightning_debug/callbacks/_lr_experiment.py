"""The learning-rate experiment for one optimizer, inside a sandbox: how much is affordable, and what it says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from lightning_debug.callbacks import _ranks
from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.callbacks._lightning_data import Batches
from lightning_debug.callbacks._lr_runner import NoLoss, SandboxRunner, StepFailed
from lightning_debug.callbacks._lr_schedule import Schedule, planned_steps, schedule
from lightning_debug.evidence import Hindrance
from lightning_debug.evidence.lr_range import LRContest, LRRange, LRTrial
from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.isolation import Sandbox
from lightning_debug.experiments.lr_contest import Contest, contest, far_better, glance, soars, start_loss
from lightning_debug.experiments.lr_search import Search, search
from lightning_debug.experiments.lr_trials import Budget, Plan, Trial

FEWEST = 10
"""Steps that a trial has at least, and a run that is judged."""

TRIALS = 8
"""Trials, with what they measure, that a quick look makes at most, proof included."""


class NotTried(Exception):
    """The experiment is not made.

    Args:
        reason: Half a sentence that can follow "not judged, because".
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Experiment:
    """What is asked of the experiment.

    Args:
        plan: How much to search, given time.
        seconds: Says how long it may take, given the seconds of a step; ``math.inf`` for as long as it takes.
        grace: More seconds, where a first trial leaves a doubt.
        progress: Called with half a sentence before each part.
        thorough: Whether to make the whole search whatever it costs, instead of a quick look.
        resumed: Whether training goes on from a checkpoint.
    """

    plan: Plan
    seconds: Callable[[float], float]
    grace: Callable[[], float]
    progress: Callable[[str], None]
    thorough: bool
    resumed: bool = False


def run_experiment(
    trainer: Trainer, pl_module: LightningModule, sandbox: Sandbox, batches: Batches, index: int, asked: Experiment
) -> tuple[LRRange, Schedule]:
    """Judges the learning rate of one optimizer.

    Raises:
        NotTried: If there is no time, or the optimizer or the step is none that can be judged.
        NoLoss: If the step returns no loss.
        StepFailed: If the step raises.
    """
    optimizer = trainer.optimizers[index]
    begun = working_time()
    sandbox.rewind()
    try:
        found = schedule(trainer, optimizer)
    except ValueError as error:
        raise NotTried(f"{type(optimizer).__name__}: {error}") from error
    planned = planned_steps(trainer)
    if planned is not None and planned < FEWEST and not asked.thorough:
        raise NotTried(f"the run has {planned} optimizer steps, too few to tell rates apart")
    runner = SandboxRunner(trainer, pl_module, sandbox, batches, index, found.ratios)
    step_seconds = _time_steps(trainer, runner, found.peak, asked.seconds)
    seconds = _ranks.mean([min(asked.seconds(step_seconds), 1e9)], trainer)[0]
    plan = dataclasses.replace(asked.plan, lr_max=max(asked.plan.lr_max, found.peak))
    plan = _fit(plan, planned)
    affordable = seconds / step_seconds
    whole = plan.sweeps * plan.steps + TRIALS * 1.2 * plan.trial_steps
    quick = not asked.thorough and affordable < whole
    if quick:
        length = int(affordable / TRIALS)
        if affordable < 1.3 * FEWEST:
            told = f"a step takes {step_seconds:.2g} s, and {max(seconds, 0):.2g} s are left of the experiments' share"
            raise NotTried(Hindrance(f"there is no time for it: {told}"))
        plan = dataclasses.replace(plan, trial_steps=max(FEWEST, min(length, plan.trial_steps)))
    runner.measured = min(runner.measured, max(1, plan.trial_steps // 8))
    budget = Budget(runner.clock() + seconds, runner.clock)
    base = LRRange(
        optimizer=index,
        name=type(optimizer).__name__,
        optimizers=len(trainer.optimizers),
        in_use=found.peak,
        planned_steps=planned,
        resumed=asked.resumed,
    )
    if quick:
        grace = _ranks.mean([asked.grace()], trainer)[0]
        budget.deadline += min(grace, seconds)  # a step may take longer than the one that was timed
        result = _quick(runner, plan, found, planned, budget, asked.progress, base, grace)
    else:
        result = _whole(runner, plan, found, budget, asked.progress, base)
    if result.optimizers > 1 and result.suggestion is not None:
        against = None if math.isclose(result.suggestion, found.peak) else runner.pull(result.suggestion, found.peak)
        if against is not None:
            told = _pulls(result.suggestion, *against)
            result = dataclasses.replace(result, suggestion=None, confidence="none", reason=told)
    if result.optimizers > 1 and result.suggestion is not None:
        told = f"{result.reason}, with the other optimizers at their rates, whose losses may pull against it"
        result = dataclasses.replace(result, reason=told, confidence="rough")
    return dataclasses.replace(result, cut_short=budget.cut, seconds=working_time() - begun), found


def _time_steps(trainer: Trainer, runner: SandboxRunner, lr: float, seconds: Callable[[float], float]) -> float:
    """What a step takes: of the first one alone, where a quarter of that would be too long already."""
    runner.rewind(0)
    begun = working_time()
    runner.step(lr)
    first = _ranks.mean([working_time() - begun], trainer)[0]
    if _ranks.mean([min(seconds(first), 1e9)], trainer)[0] < 1.3 * FEWEST * first / WARMING:
        return first
    taken = []
    for _ in range(2):
        begun = working_time()
        runner.step(lr)
        taken.append(working_time() - begun)
    return max(1e-5, _ranks.mean([min(taken)], trainer)[0])  # the other may have waited for the processor


WARMING = 4.0
"""How much longer the first step may take than those that follow."""


def _fit(plan: Plan, planned: int | None) -> Plan:
    """A trial is no longer than the run."""
    if planned is None:
        return plan
    return dataclasses.replace(plan, trial_steps=max(FEWEST, min(plan.trial_steps, planned)))


def _quick(
    runner: SandboxRunner,
    plan: Plan,
    found: Schedule,
    planned: int | None,
    budget: Budget,
    progress: Callable[[str], None],
    base: LRRange,
    grace: float,
) -> LRRange:
    shape = None if found.constant else found.shape
    seen = glance(runner, plan, found.peak, planned, budget=budget, shape=shape, progress=progress, grace=grace)
    if not seen.trials:
        raise NotTried("time ran out before a first trial was done")
    base = dataclasses.replace(base, trials=_trials(seen.trials))
    plan = dataclasses.replace(plan, trial_steps=seen.steps or plan.trial_steps)
    used = seen.trials[0]
    if seen.rival is None:
        holds = math.isfinite(used.score) and used.score < seen.start
        words = f"in {plan.trial_steps} steps the loss goes from {seen.start:.3g} to {used.score:.3g}"
        far = len(seen.trials) - 1
        tried = f"; none of {far} rates far from it does several times as well" if far else ""
        return dataclasses.replace(
            base,
            suggestion=found.peak if holds else None,
            confidence="rough" if holds else "none",
            reason=f"{words}{tried}" if holds else f"no clear answer: {words}{tried}",
        )
    base = dataclasses.replace(
        base,
        suggestion=seen.rival.lr,
        confidence="rough",
        reason=f"in {plan.trial_steps} steps the loss goes from {seen.start:.3g} to {seen.rival.score:.3g}",
    )
    if base.optimizers > 1 and math.isfinite(used.score):
        return base  # the loss of another optimizer may rise meanwhile: no verdict, so no proof is needed
    progress(f"{found.peak:.2g} against {seen.rival.lr:.2g}")
    start = seen.start if math.isfinite(seen.start) else used.losses[0]
    held = contest(runner, plan, found.peak, seen.rival.lr, start, budget=budget, shape=shape, known=seen.trials)
    return base if held is None else dataclasses.replace(base, contest=_told(held, runner.measurable))


def _whole(
    runner: SandboxRunner,
    plan: Plan,
    found: Schedule,
    budget: Budget,
    progress: Callable[[str], None],
    base: LRRange,
) -> LRRange:
    shape = None if found.constant else found.shape
    outcome: Search = search(runner, plan, also=[found.peak], progress=progress, budget=budget, shape=shape)
    curve = outcome.range
    base = dataclasses.replace(
        base,
        suggestion=outcome.suggestion,
        reason=outcome.reason,
        confidence="none" if outcome.suggestion is None else "rough" if budget.cut or not outcome.falls else "high",
        trials=_trials(outcome.trials),
        lr_min=curve.lr_min if curve is not None and curve.clear else None,
        lr_max=curve.lr_max if curve is not None and curve.clear else None,
        curve_lrs=curve.lrs if curve is not None else (),
        curve_losses=curve.losses if curve is not None else (),
    )
    used = next((one for one in outcome.trials if math.isclose(one.lr, found.peak, rel_tol=1e-3)), None)
    best = next((one for one in outcome.trials if one.lr == outcome.suggestion), None)
    if used is None or best is None or used is best:
        return base
    start = start_loss(runner, plan)
    start = start if math.isfinite(start) else outcome.start_loss
    soared = best.lr < used.lr and soars(start, used)
    if not far_better(start, used.score, best.score, soared=soared) or (
        base.optimizers > 1 and math.isfinite(used.score)
    ):
        return base
    progress(f"{found.peak:.2g} against {best.lr:.2g}")
    held = contest(runner, plan, found.peak, best.lr, start, budget=budget, shape=shape, known=outcome.trials)
    return base if held is None else dataclasses.replace(base, contest=_told(held, runner.measurable))


def _told(held: Contest, held_out: bool) -> LRContest:
    """The contest as evidence."""
    return LRContest(**dataclasses.asdict(held), held_out=held_out)


def _pulls(lr: float, index: int, first: float, last: float) -> str:
    """Why the rate with the lowest loss is no answer for one of several optimizers."""
    return (
        f"at lr={lr:.2g}, where its own loss ends lowest, that of optimizers[{index}] ends at {last:.3g} instead of "
        f"{first:.3g}: they play against each other, and what is best for one is best for one only"
    )


def _trials(trials: tuple[Trial, ...]) -> tuple[LRTrial, ...]:
    ordered = sorted(trials, key=lambda one: one.lr)
    return tuple(LRTrial(lr=one.lr, losses=one.losses, score=one.score) for one in ordered)


__all__ = ["Experiment", "NoLoss", "NotTried", "StepFailed", "run_experiment"]
