"""What the rules about the learning rate share."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable
from typing import Any

from lightning_debug.evidence.lr_range import LRContest, LRRange
from lightning_debug.finding import Skip


def falls(contest: LRContest) -> tuple[list[float], list[float]]:
    """How far the loss falls by order of the data: at the rate in use, and at the other."""
    return [contest.start - one for one in contest.in_use], [contest.start - one for one in contest.others]


def typical(contest: LRContest) -> LRContest:
    """The contest as its median says it was in every order of the data."""
    count = len(contest.others)
    others, in_use = statistics.median(contest.others), statistics.median(contest.in_use)
    return dataclasses.replace(contest, others=(others,) * count, in_use=(in_use,) * count)


def noticeable(contest: LRContest, least: float, large: float = 0.3) -> bool:
    """Whether the other rate's fall is a share ``least`` of the loss, and far out of the noise, in every order.

    A fall by ``large`` of the loss in every order is no noise, however much further it falls in some; nor is one
    beside which the loss at the rate in use does not move at all.
    """
    if not all(map(math.isfinite, contest.others)):
        return False
    spread = max(contest.others) - min(contest.others)
    fall = min(contest.start - one for one in contest.others)
    stands = all(abs(contest.start - one) < 0.01 * fall for one in contest.in_use)
    sure = fall > large * abs(contest.start) or stands
    return fall > least * abs(contest.start) and fall > (1 if sure else 2) * spread


def culprit(every: Iterable[LRRange]) -> LRRange | None:
    """Of several optimizers, the one at whose rate the loss blows up in every order, whatever the others' losses do.

    One that blows up takes the others with it: it is the one whose lower rate ends lowest.
    """
    blown = [seen for seen in every if seen.contest is not None and all(map(math.isinf, seen.contest.in_use))]
    return min(blown, key=lambda seen: max(seen.contest.others) if seen.contest else math.inf, default=None)


def which(contest: LRContest) -> str:
    """What the losses of a contest are of, in a sentence."""
    return "the held-out loss" if contest.held_out else "the training loss"


def unsettled(seen: LRRange, culprit: LRRange | None = None) -> Skip | None:
    """Why there is no verdict although there was an experiment."""
    if seen.optimizers > 1 and seen is not culprit:
        return Skip("the losses of several optimizers may pull in different directions")
    if seen.applied:
        return Skip(f"the rate was set to {seen.suggestion:.2g}, as the experiment suggests")
    if seen.contest is None and seen.cut_short:
        return Skip("the experiment was cut short before the answer was clear", hindrance=True)
    return None


def subject(seen: LRRange) -> str:
    """What the user would change."""
    return f"lr of {seen.name}" if seen.optimizers == 1 else f"lr of optimizers[{seen.optimizer}] ({seen.name})"


def told(values: tuple[float, ...]) -> str:
    """A loss in a sentence: the middle one of several."""
    middle = sorted(values)[len(values) // 2]
    return f"{middle:.4g}" if math.isfinite(middle) else "infinity"


def times(factor: float) -> str:
    """A factor with two digits, without an exponent.

    >>> times(12345.6), times(3.2)
    ('12000', '3.2')
    """
    if factor < 10:
        return f"{factor:.2g}"
    digits = len(str(int(factor))) - 2
    return str(int(round(factor, -digits)))


def measured(seen: LRRange) -> dict[str, Any]:
    """The numbers behind a verdict."""
    contest = seen.contest
    assert contest is not None
    return {
        "in_use": seen.in_use,
        "other": contest.other,
        "steps": contest.steps,
        "start": contest.start,
        "losses_in_use": list(contest.in_use),
        "losses_at_other": list(contest.others),
    }
