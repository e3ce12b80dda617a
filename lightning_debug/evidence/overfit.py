"""Evidence about an attempt to fit the network to one or two examples, in isolation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence

APART = 0.02
"""Share of what is paid at first that the knowledge of the input must be worth for it to be asked for."""


@dataclass(frozen=True, kw_only=True)
class OverfitTrial:
    """Steps at one learning rate from the run's own parameters, with a fresh optimizer.

    Args:
        rate: The learning rate.
        whole: Whether the whole batch was taken, not just the examples.
        losses: The loss before each step, and after the last.
        diverged: Whether it ended because the loss was not finite.
    """

    rate: float
    whole: bool = False
    losses: tuple[float, ...] = ()
    diverged: bool = False

    @property
    def end(self) -> float:
        """The median of the last fifth of the losses; infinite where the trial diverged or has none."""
        if self.diverged or not self.losses:
            return float("inf")
        last = sorted(self.losses[-max(1, len(self.losses) // 5) :])
        return last[len(last) // 2]

    @property
    def fall(self) -> float:
        """By how much the last quarter of the trial went below all that was before."""
        quarter = len(self.losses) // 4
        if self.diverged or quarter < 1:
            return 0.0
        return max(0.0, min(self.losses[:-quarter]) - min(self.losses[-quarter:]))

    @property
    def share_down(self) -> float:
        """The share of the second half of the steps that made the loss less."""
        half = self.losses[len(self.losses) // 2 :]
        steps = list(itertools.pairwise(half))
        return sum(after < before for before, after in steps) / len(steps) if steps else 0.0


@dataclass(frozen=True, kw_only=True)
class OverfitCall:
    """A loss function on the way to the loss, before and after the best trial. Costs are means over its values.

    Args:
        function: As :attr:`~lightning_debug.evidence.loss.LossCall.function`.
        line: The user's line.
        value: Its cost at the run's own parameters.
        after: Its cost after the best trial; ``None`` if it was not called there.
        floor: The least that any scores could pay for these targets; ``None`` where that is not known.
        uninformed: The least that scores could pay that are the same for every example; ``None`` likewise.
        carries_gradient: Whether the loss can send a gradient through it.
        additive: Whether it is a summand of the loss, or the loss.
        spread: How far the scores of the examples are apart, as a share of the largest; ``None`` if not known.
        spread_after: The same after the best trial.
        targets_differ: Whether the examples have different targets.
        lowest: Least score after the best trial.
        highest: Greatest score after the best trial.
        target_lowest: Least target.
        target_highest: Greatest target.
        shape: Shape of the scores.
        target_shape: Shape of the targets.
        made_by: The last call that made the scores: ``"sigmoid"``, ``"linear"``.
        made_at: Its line.
        made_in: The path of the module it ran in.
        limits: The least and the greatest value that call can give, where it has such.
        fields: The batch fields that the scores depend on.
        stopped_by: The call where the gradient ends on its way back, if it does.
        stopped_at: Its line.
    """

    function: str
    line: str = ""
    value: float = 0.0
    after: float | None = None
    floor: float | None = None
    uninformed: float | None = None
    carries_gradient: bool = True
    additive: bool = True
    spread: float | None = None
    spread_after: float | None = None
    targets_differ: bool = False
    lowest: float | None = None
    highest: float | None = None
    target_lowest: float | None = None
    target_highest: float | None = None
    shape: tuple[int, ...] = ()
    target_shape: tuple[int, ...] = ()
    made_by: str = ""
    made_at: str = ""
    made_in: str = ""
    limits: tuple[float | None, float | None] = (None, None)
    fields: tuple[str, ...] = ()
    stopped_by: str = ""
    stopped_at: str = ""

    @property
    def headroom(self) -> float | None:
        """How far above its floor the cost is of scores that tell nothing of the input; ``None`` if not known.

        Where the targets are alike, so that nothing of the input is needed, it is what is paid at first.
        """
        if self.floor is None or self.uninformed is None:
            return None
        first, blind = self.value - self.floor, self.uninformed - self.floor
        return first if blind < APART * first else min(first, blind)

    @property
    def left(self) -> float:
        """How far above its floor the cost stayed."""
        return (self.value if self.after is None else self.after) - (self.floor or 0.0)


@dataclass(frozen=True, kw_only=True)
class OverfitField:
    """A field of the whole batch.

    Args:
        name: Such as ``"batch['image']"``.
        shape: Its shape.
        share_zero: Share of its values that are 0.
        finite: Whether all its values are finite.
        alike: Whether it is the same for every sample.
    """

    name: str
    shape: tuple[int, ...] = ()
    share_zero: float = 0.0
    finite: bool = True
    alike: bool = False


@dataclass(frozen=True, kw_only=True)
class OverfitCheck(Evidence):
    """What came of fitting one or two examples of the first batch.

    Args:
        samples: How many examples were taken; ``None`` where the whole batch was.
        batch: How many samples the batch holds, where that is known.
        start: The loss at the run's own parameters.
        trials: What was tried, in order.
        calls: The loss functions that the loss is made of.
        terms: How many summands the loss has.
        steady: Whether the loss stayed in proportion to the loss functions that are known.
        fits: Whether a trial came near the floor, so that nothing else was asked.
        steps: Steps taken in all.
        seconds: What it is charged for: seconds that its thread computed, or a third of the wall's.
        cut_short: Whether the budget of time ended it before an answer.
        parameters: Trainable parameters.
        without_gradient: How many of them got no gradient in the first step.
        zero_gradient: How many got one that is zero throughout.
        not_reached: The names of some of these.
        draws: Whether the step draws random numbers other than for dropout.
        fields: The batch's fields.
        lost_in: The first module whose output is the same for all examples although its input is not.
        lost_type: Its class.
    """

    samples: int | None = None
    batch: int | None = None
    start: float = 0.0
    trials: tuple[OverfitTrial, ...] = ()
    calls: tuple[OverfitCall, ...] = ()
    terms: int = 1
    steady: bool = True
    fits: bool = False
    steps: int = 0
    seconds: float = 0.0
    cut_short: bool = False
    parameters: int = 0
    without_gradient: int = 0
    zero_gradient: int = 0
    not_reached: tuple[str, ...] = ()
    draws: bool = False
    fields: tuple[OverfitField, ...] = ()
    lost_in: str = ""
    lost_type: str = ""

    @property
    def best(self) -> OverfitTrial | None:
        """The trial on the examples that ended lowest."""
        tried = [trial for trial in self.trials if not trial.whole]
        return min(tried, key=lambda trial: trial.end, default=None)
