"""Evidence about steps to come: learning-rate schedules, accumulation windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class AccumulationWindow(Evidence):
    """How the accumulation window fits the epoch.

    Args:
        accumulate: Batches a window.
        batches: Batches an epoch.
        last: Whether the optimizer steps on the last batch of an epoch, whether the window is full or not.
    """

    accumulate: int = 1
    batches: int = 0
    last: bool = True


@dataclass(frozen=True, kw_only=True)
class ScheduleInUse(Evidence):
    """A scheduler that is configured, when training starts.

    Args:
        scheduler: Class name.
        interval: ``"step"`` or ``"epoch"``.
        unforeseen: Why its learning rates cannot be foreseen; empty where they are.
        line: ``file.py:31`` of ``configure_optimizers``.
    """

    scheduler: str = ""
    interval: str = "epoch"
    unforeseen: str = ""
    line: str = ""


@dataclass(frozen=True, kw_only=True)
class PlateauWatch(Evidence):
    """What a scheduler that waits for a plateau is given to read.

    Args:
        scheduler: Class name.
        monitor: The value it waits for.
        mode: ``"min"`` or ``"max"``.
        direction: ``"max"`` for a name of values that are better when larger (an accuracy), ``"min"`` for one of
            values that are better when smaller (a loss), empty where the name does not tell.
        value: What was logged under that name; ``None`` where nothing was.
        logged: Names that values were logged under.
        interval: ``"step"`` or ``"epoch"``.
        epochs: Whole epochs seen.
        raised: Whether Lightning raised because the value is missing.
        line: ``file.py:31`` of ``configure_optimizers``.
    """

    scheduler: str = ""
    monitor: str = ""
    mode: str = "min"
    direction: str = ""
    value: float | None = None
    logged: tuple[str, ...] = ()
    interval: str = "epoch"
    epochs: int = 0
    raised: bool = False
    line: str = ""


@dataclass(frozen=True, kw_only=True)
class ScheduleForecast(Evidence):
    """The learning rate that will happen, beside the one that another interval would give.

    Args:
        scheduler: Class name.
        optimizer: Class name of its optimizer.
        interval: ``"step"`` or ``"epoch"``.
        frequency: Intervals between two steps of the scheduler.
        epochs: Planned epochs.
        steps_per_epoch: Optimizer steps an epoch.
        batches_per_epoch: Batches an epoch.
        optimizer_steps: Optimizer steps in the whole fit.
        scheduler_steps: Steps of the scheduler in the whole fit.
        length: Steps that the schedule was built for; ``None`` when it has no length.
        length_name: The argument that says so: ``"total_steps"``, ``"T_max"``.
        milestones: Steps at which it changes, where these are listed.
        words: Words in ``configure_optimizers`` that tell the unit its author had in mind.
        rates: Optimizer step and learning rate that will happen, a few points.
        other_rates: The same with the other interval.
        misplaced: Keys that stand in the optimizer's dictionary and belong into the scheduler's.
        line: ``file.py:31`` of ``configure_optimizers``.
        done: Optimizer steps made before, where training continues from a checkpoint.
        counted: Steps that the scheduler counts from before.
        built: The length that ``configure_optimizers`` gave it, where a checkpoint brought another; else ``None``.
        base: The learning rate its author asked for, the highest of the groups; ``None`` when not known.
        gamma: The factor by which it multiplies rates, where it has one.
        trial: Whether the run is cut short for a trial (``overfit_batches``, ``limit_train_batches``).
        by_hand: Whether the model's own code was seen to step it after each batch, beside Lightning after each epoch.
    """

    scheduler: str = ""
    optimizer: str = ""
    interval: str = "epoch"
    frequency: int = 1
    epochs: int = 0
    steps_per_epoch: int = 0
    batches_per_epoch: int = 0
    optimizer_steps: int = 0
    scheduler_steps: int = 0
    length: int | None = None
    length_name: str = ""
    milestones: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    rates: tuple[tuple[int, float], ...] = ()
    other_rates: tuple[tuple[int, float], ...] = ()
    misplaced: Mapping[str, str] = field(default_factory=dict)
    line: str = ""
    done: int = 0
    counted: int = 0
    built: int | None = None
    base: float | None = None
    gamma: float | None = None
    trial: bool = False
    by_hand: bool = False


@dataclass(frozen=True, kw_only=True)
class ScheduleProgress(Evidence):
    """How often a scheduler stepped, against how often Lightning steps it, at the end of an epoch or after it.

    Args:
        scheduler: Class name.
        interval: ``"step"`` or ``"epoch"``.
        expected: Steps that Lightning made since training began.
        made: Steps that the scheduler counts since then.
        automatic: Whether Lightning drives the optimizer, and so the scheduler.
        batches: Epochs looked at.
        plain: Whether its class is one of torch's that only counts steps, and Lightning alone decides how it is called.
        line: ``file.py:31`` of ``configure_optimizers``.
        idle: Whether it stands where it began when training is over, though it would change the rate and no code of
            the model's steps a scheduler.
        rate: Highest learning rate of its optimizer.
    """

    scheduler: str = ""
    interval: str = "epoch"
    expected: int = 0
    made: int = 0
    automatic: bool = True
    batches: int = 0
    plain: bool = False
    line: str = ""
    idle: bool = False
    rate: float | None = None
