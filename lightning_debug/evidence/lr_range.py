"""Evidence about the learning rate: what an experiment on the run's own data says, and how training began."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class LRTrial:
    """One short training, undone afterwards.

    Args:
        lr: Its (highest) learning rate.
        losses: Training loss by step; the last may be non-finite.
        score: Loss on examples that were held out, towards the end; infinite if the loss blew up.
    """

    lr: float
    losses: tuple[float, ...]
    score: float


@dataclass(frozen=True, kw_only=True)
class LRContest:
    """Short trainings at the learning rate in use against another, with several orders of the same data.

    Args:
        other: The other learning rate.
        steps: Optimizer steps of a training.
        start: Loss on the examples held out before any step (training loss where nothing is held out).
        in_use: That loss after training at the learning rate in use, by order; infinite if it blew up.
        others: Likewise at the other.
        highest: Highest finite training loss on the way at the learning rate in use, by order.
        lasted: Steps made at the learning rate in use, by order; fewer than ``steps`` where the loss blew up.
        held_out: Whether the losses are of examples held out; of the training itself otherwise.
    """

    other: float
    steps: int
    start: float
    in_use: tuple[float, ...]
    others: tuple[float, ...]
    highest: tuple[float, ...] = ()
    lasted: tuple[int, ...] = ()
    held_out: bool = True


@dataclass(frozen=True, kw_only=True)
class LRRange(Evidence):
    """The outcome of the learning-rate experiment for one optimizer.

    Args:
        optimizer: Its index.
        name: Its class name.
        optimizers: How many there are; of several, the losses may pull in different directions.
        in_use: The learning rate of the run: the highest that its schedule reaches, of the fastest group.
        lr_min: Where the loss begins to drop steeply; ``None`` when no sweep was made or shows no fall.
        lr_max: Where it slows down, wiggles or rises.
        suggestion: The learning rate that does best in short trainings; ``None`` without a clear answer.
        reason: What supports the answer, or why there is none.
        confidence: ``"high"``: several sweeps and trials; ``"rough"``: a few trials; ``"none"``.
        curve_lrs: Learning rates of the pooled sweep.
        curve_losses: Smoothed loss at each.
        trials: The trials, by learning rate.
        contest: The learning rate in use against another, if that was in question.
        planned_steps: Optimizer steps of the whole run; ``None`` when not known.
        cut_short: Whether time ran out before all was tried.
        resumed: Whether training goes on from a checkpoint.
        applied: Whether the suggestion was put to use.
        seconds: What the experiment is charged for: seconds that its thread computed, or a third of the wall's.
    """

    optimizer: int = 0
    name: str = ""
    optimizers: int = 1
    in_use: float
    lr_min: float | None = None
    lr_max: float | None = None
    suggestion: float | None = None
    reason: str = ""
    confidence: str = "none"
    curve_lrs: tuple[float, ...] = ()
    curve_losses: tuple[float, ...] = ()
    trials: tuple[LRTrial, ...] = ()
    contest: LRContest | None = None
    planned_steps: int | None = None
    cut_short: bool = False
    resumed: bool = False
    applied: bool = False
    seconds: float = 0.0

    @property
    def factor(self) -> float | None:
        """How many times the learning rate in use is the one suggested."""
        return self.in_use / self.suggestion if self.suggestion else None


@dataclass(frozen=True, kw_only=True)
class EarlyLosses(Evidence):
    """The training losses of the first steps of the run itself, and how large its first update was.

    Recorded when training starts, still empty, and again when the steps are done.

    Args:
        losses: Loss by batch, from the first on.
        update_ratio: Norm of the first update over the norm of the weights it changed; NaN when not measured.
        in_use: The learning rate of that update.
        name: Class name of the optimizer.
        optimizers: How many optimizers there are.
    """

    losses: tuple[float, ...] = ()
    update_ratio: float = math.nan
    in_use: float = math.nan
    name: str = ""
    optimizers: int = 1
