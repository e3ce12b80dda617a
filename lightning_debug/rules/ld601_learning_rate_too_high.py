"""The learning rate is too high: training blows up or gets nowhere, and a lower rate learns.

What it sees: short trainings on the run's own data, undone afterwards, at the learning rate in use (the highest that
    the schedule reaches) and at one at least ``factor`` times lower, with two or three orders of the data. In every
    order the lower rate takes the loss on held-out examples down by at least ``fall`` of its value, and the rate in
    use by less than ``share`` of that, or the loss blows up; by less than ``share_soared`` where the training loss
    soars to ``soar`` times its start at the rate in use, in every order. In the median of the orders, likewise by
    less than ``share_soared``, where the whole run, twice as long or longer, never brings a supervised loss down by as
    much. Where no such experiment could be made: the run's own first losses rise to ``rise`` times the first one, and
    stay there, or go beyond any number, or come back with predictions that no longer depend on the input, after a
    first update of at least ``update`` of the weights' norm; or are no numbers after one of 10 times that; or, after
    updates of any size, they grow through ``through`` values or more above ``growth`` times the first one, until they
    are not finite.
Why it hurts: steps overshoot the valley. The loss jumps, turns to NaN, or stays where guessing is, with units that
    are dead for good.
How to fix: take the lower rate that the finding names. ``LRRangeFinder()`` as a callback of its own searches
    thoroughly and draws the range.
When to ignore: when the rate is meant to be lowered by hand. Silent on spikes that recover within the trial, on
    warm-up (trials follow the schedule), where training is resumed and nothing blows up, where the run itself has
    brought the loss down by ``recovered`` of what the lower rate takes from it in the trials, and stayed finite, on a
    loss that is not finite at any rate or turns to NaN without rising (an operation is at fault then; not where every
    order ends so within ``sudden`` steps), on a loss below 0 that had been as low, at the rate in use, as the lower
    one ever took it (a difference of energies), and on several optimizers, unless the loss blows up at the rate in use
    in every order of the data.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=30.0, momentum=0.9)

    labels = torch.randint(0, 4, (640,))
    inputs = torch.randn(4, 8)[labels] + 0.4 * torch.randn(640, 8)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.03, momentum=0.9)

    labels = torch.randint(0, 4, (640,))
    inputs = torch.randn(4, 8)[labels] + 0.4 * torch.randn(640, 8)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.lr_range import LRContest, LRRange
    >>> from lightning_debug.record import Record
    >>> contest = LRContest(other=0.01, steps=60, start=1.4, in_use=(float("inf"), 9.2), others=(0.21, 0.24),
    ...                     highest=(740.0, 31.0))
    >>> seen = LRRange(in_use=1.0, name="Adam", suggestion=0.01, contest=contest)
    >>> [claim.message for claim in learning_rate_too_high(Record([seen]))]
    ['In 60 steps at lr=1 the held-out loss goes from 1.4 to infinity, at lr=0.01 to 0.24.']

References:
    Smith, Cyclical learning rates for training neural networks (2017), section 3.3, on the range test.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading, LossKind
from lightning_debug.evidence.lr_range import EarlyLosses, LRContest, LRRange
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._learning_rate import (
    culprit,
    falls,
    measured,
    noticeable,
    subject,
    times,
    told,
    typical,
    unsettled,
    which,
)
from lightning_debug.rules._model import constant_outputs

BLOWN = 10.0
"""So many times `update` is no step any more, whatever operation overflows first."""


@rule(
    "LD601",
    severity=ERROR,
    needs=EarlyLosses,
    explains=(
        *("LD302", "LD303", "LD304", "LD305", "LD306", "LD307", "LD308", "LD309", "LD310"),
        *("LD413", "LD505", "LD605", "LD701", "LD702", "LD703", "LD705", "LD712", "LD713"),
    ),
)
def learning_rate_too_high(
    record: Record,
    *,
    factor: float = 5.0,
    share: float = 0.25,
    share_soared: float = 0.5,
    soar: float = 10.0,
    sudden: int = 5,
    fall: float = 0.1,
    rise: float = 3.0,
    update: float = 0.5,
    growth: float = 1000.0,
    through: int = 4,
    recovered: float = 0.9,
) -> Iterator[Claim | Skip]:
    """Claims one finding for each optimizer whose rate loses to a lower one, or whose run blows up from the start."""
    latest = {seen.optimizer: seen for seen in record.of(LRRange)}
    settled = any(seen.contest and not _tells_nothing(seen.contest, fall) for seen in latest.values())
    for seen in latest.values():
        reason = unsettled(seen, culprit(latest.values()))
        if reason is not None:
            yield reason
            continue
        contest = seen.contest
        confirmed = contest is not None and _never_came_near(record, contest, share_soared)
        if contest is not None and confirmed:
            contest = typical(contest)
        if contest is None or seen.in_use < factor * contest.other or not noticeable(contest, fall):
            continue
        used, others = falls(contest)
        soared = _soared(contest, soar)
        least = share_soared if soared or confirmed else share
        if any(one >= least * other for one, other in zip(used, others, strict=True)):
            continue
        refuted = _refuted(record, seen, contest, recovered, soared=soared)
        if refuted is not None:
            yield refuted
            continue
        at_once = bool(contest.lasted) and max(contest.lasted) <= sudden
        if not at_once and any(
            math.isinf(score) and not high > contest.start + abs(contest.start)
            for score, high in zip(contest.in_use, contest.highest, strict=False)
        ):
            yield Skip("the loss is not finite without having risen, so an operation is at fault, not the rate")
            continue
        yield Claim(
            message=f"In {contest.steps} steps at lr={seen.in_use:.2g} {which(contest)} goes from "
            f"{contest.start:.4g}{_way(contest) if soared else ''} to {told(contest.in_use)}, "
            f"at lr={contest.other:.2g} to {told(contest.others)}.",
            subject=subject(seen),
            measured=measured(seen),
            fix=f"Lower it {times(seen.in_use / contest.other)} times, to lr={contest.other:.2g}.",
            at=seen.at,
        )
    if not settled:
        yield from _from_the_run(record, rise, update, growth, through)


def _refuted(record: Record, seen: LRRange, contest: LRContest, recovered: float, *, soared: bool) -> Skip | None:
    """What there is to be said for the rate in use, though it loses the contest."""
    if seen.resumed and not soared and all(map(math.isfinite, contest.in_use)):
        return Skip("training goes on from trained weights: for a few steps a lower rate is better than any")
    if _went_well(record, contest, recovered):
        return Skip("the run itself has learned at the rate in use")
    if _was_as_low(seen, contest, recovered):
        return Skip(
            f"the loss was as low at lr={seen.in_use:.2g} before it rose, below 0: it is measured against "
            "something that follows, as a difference of energies is"
        )
    return None


def _tells_nothing(contest: LRContest, fall: float) -> bool:
    """Whether the loss blew up in every order, and no lower rate was seen to do well: the run itself is asked."""
    return all(map(math.isinf, contest.in_use)) and not noticeable(contest, fall)


def _went_well(record: Record, contest: LRContest, recovered: float) -> bool:
    """Whether the run contradicts the trials: a schedule may reach its peak when weights are past what was delicate."""
    reading = record.last(CurveReading)
    course = reading.training if reading is not None else None
    if course is None or course.nonfinite or not (math.isfinite(course.start) and math.isfinite(course.end)):
        return False
    taken = contest.start - sorted(contest.others)[len(contest.others) // 2]
    start = min(course.start, contest.start)  # the first steps of the run may have thrown it far up
    return start - course.end >= recovered * taken


def _never_came_near(record: Record, contest: LRContest, share: float) -> bool:
    """Whether a whole run at the rate in use stayed above what short trials at the other rate reached."""
    reading, kind = record.last(CurveReading), record.last(LossKind)
    if kind is None or not kind.supervised:
        return False
    if reading is None or not reading.final or reading.training is None or reading.training.nonfinite:
        return False
    if max(reading.training.steps, reading.training.span) < 2 * contest.steps:
        return False
    lows = [reading.training.lowest]
    if contest.held_out:  # examples held out are measured as validation is; training may be made harder on purpose
        known = reading.validation is not None and bool(reading.validation.name)
        lows += [reading.validation.lowest if reading.validation is not None and known else -math.inf]
    needed = share * (contest.start - statistics.median(contest.others))
    return all(math.isfinite(low) and contest.start - low < needed for low in lows)


def _was_as_low(seen: LRRange, contest: LRContest, recovered: float) -> bool:
    """Whether a loss that may be negative had come down, over three steps in turn, as far as the other rate took it.

    A rate that is too high does not get there: it leaves the valley, or never finds it.
    """
    level = min(contest.others)
    if level >= 0 or not all(map(math.isfinite, contest.in_use)):
        return False
    trials = [trial.losses for trial in seen.trials if math.isclose(trial.lr, seen.in_use)]
    means = [sum(losses[at : at + 3]) / 3 for losses in trials for at in range(len(losses) - 2)]
    return bool(means) and contest.start - min(means) >= recovered * (contest.start - level)


def _soared(contest: LRContest, soar: float) -> bool:
    """Whether the training loss left its valley at the rate in use in every order, though it may have come back."""
    return contest.start > 0 and bool(contest.highest) and min(contest.highest) > soar * contest.start


def _way(contest: LRContest) -> str:
    return f", by way of {told(contest.highest)} in training," if all(map(math.isfinite, contest.in_use)) else ""


def _from_the_run(record: Record, rise: float, update: float, growth: float, through: int) -> Iterator[Claim]:
    seen = record.last(EarlyLosses)
    if seen is None or seen.optimizers != 1 or len(seen.losses) < 2:
        return
    first = seen.losses[0]
    if not (math.isfinite(first) and first > 0):
        return
    early, late = seen.losses[1:5], seen.losses[-max(1, len(seen.losses) // 4) :]
    finite = [one for one in seen.losses if math.isfinite(one)]
    lost = not all(map(math.isfinite, seen.losses))
    high = max(finite)
    middle = sorted(late)[len(late) // 2]
    stays = len(seen.losses) >= 20 and min(late) > rise * first
    numb = len(seen.losses) >= 20 and middle >= 0.9 * first and bool(constant_outputs(record))
    thrown = seen.update_ratio >= update and max(filter(math.isfinite, early), default=first) > rise * first
    diverged = lost and sum(one > growth * first for one in finite) >= through
    blown = seen.update_ratio >= BLOWN * update and not all(map(math.isfinite, seen.losses[1:3]))
    if not (diverged or blown or (thrown and (lost or stays or numb))):
        return
    end = "is no longer finite" if lost else f"is {middle:.4g} after {len(seen.losses)} batches"
    end += "; predictions no longer depend on the input" if numb and not lost else ""
    way, lower = "The", "a hundred times"
    if math.isfinite(seen.in_use):  # else the first update was not measured, which takes a copy of the weights
        change = f"changes the weights by {seen.update_ratio:.2g} of their norm"
        way, lower = f"At lr={seen.in_use:.2g} the first update {change}, and the", f"to lr={seen.in_use / 100:.2g}"
    yield Claim(
        message=f"{way} loss rises from {first:.4g} to {high:.4g} and {end}."
        if high > first
        else f"{way} loss, {first:.4g} before, {end}.",
        subject=f"lr of {seen.name}",
        measured={"in_use": seen.in_use, "update_ratio": seen.update_ratio, "losses": list(seen.losses)},
        fix=f"Lower it, {lower} at first; LRRangeFinder() finds the range.",
        at=seen.at,
    )
