"""The learning rate is too low: at its pace the planned run ends about where it began, and a higher rate learns.

What it sees: short trainings on the run's own data, undone afterwards, at the learning rate in use (the highest that
    the schedule reaches) and at one at least ``factor`` times higher, with two or three orders of the data. In every
    order the higher rate takes the loss on held-out examples down by at least ``fall`` of its value, and the rate in
    use by less than ``share`` of that. And if the loss went on falling at the pace of the rate in use for the whole
    planned run, or for ``patience`` steps where that is more, it would still not fall by ``arrive`` of what the higher
    rate takes from it in the short training. Where nobody knows what the least loss is (likelihoods, contrastive and
    quantile losses, terms that are no comparison with targets), lower need not be better; it is then claimed only if
    all those steps together, each as large as the run's first update, cannot change the weights by ``reach`` of their
    norm either, and the loss would not fall by ``arrive_unknown``. It is taken back once the run's own training loss
    has fallen by ``arrive`` of what the higher rate takes; and where regression targets lie far from the first
    predictions, so that any run is slow at first, it waits for the end. Where no such experiment could be made: the run
    of at least ``fewest`` batches has ended within ``margin`` of what knowing nothing costs, its nearest neighbours
    reach ``better`` of that, and all its steps, each as large as the first, cannot change the weights by ``moved`` of
    their norm; or, whatever the loss means, it has not fallen, and as many steps as the run has, each as large as the
    largest that was looked at, cannot change the weights by ``nowhere`` of their norm.
Why it hurts: the run spends its time getting nowhere, and looks like a model or data that cannot be learned.
How to fix: take the higher rate that the finding names. ``LRRangeFinder()`` as a callback of its own searches
    thoroughly and draws the range.
When to ignore: when so little is meant to change. Silent on fine-tuning that improves at its low rate, on runs
    resumed from a checkpoint, on schedules whose peak is sane, on RAdam (it warms up by itself) unless the whole run
    has stood still, on several optimizers, and where no rate learns.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))

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
            return torch.optim.Adam(self.parameters(), lr=1e-7)

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
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))

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
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    labels = torch.randint(0, 4, (640,))
    inputs = torch.randn(4, 8)[labels] + 0.4 * torch.randn(640, 8)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.lr_range import LRContest, LRRange
    >>> from lightning_debug.record import Record
    >>> contest = LRContest(other=0.01, steps=60, start=1.4, in_use=(1.39999, 1.39999), others=(0.21, 0.24))
    >>> seen = LRRange(in_use=1e-7, name="Adam", suggestion=0.01, contest=contest, planned_steps=64)
    >>> [claim.message for claim in learning_rate_too_low(Record([seen]))]
    ['In 60 steps at lr=1e-07 the held-out loss goes from 1.4 to 1.4, at lr=0.01 to 0.24.']

References:
    Smith, Cyclical learning rates for training neural networks (2017), section 3.3, on the range test.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_debug.evidence import Unavailable
from lightning_debug.evidence.curves import CurveReading, LossKind
from lightning_debug.evidence.lr_range import EarlyLosses, LRContest, LRRange
from lightning_debug.evidence.optimization import UpdateAudit
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import at_baseline, learnable, length, newest, resumed, training
from lightning_debug.rules._far_targets import are_on_the_way
from lightning_debug.rules._learning_rate import falls, measured, noticeable, subject, times, told, unsettled, which

_OWN_WARM_UP = "radam"
"""Optimizers that rectify: at step 20 theirs are a twelfth of full size (Liu et al. 2020, equation 4)."""

_FAR = "the regression targets lie far from the first predictions, and the run has time to reach them"


@rule(
    "LD602",
    severity=WARNING,
    needs=EarlyLosses,
    explains=("LD505", "LD702", "LD703", "LD704", "LD705", "LD712", "LD715"),
)
def learning_rate_too_low(
    record: Record,
    *,
    factor: float = 10.0,
    share: float = 0.1,
    fall: float = 0.1,
    patience: int = 1000,
    arrive: float = 0.5,
    arrive_unknown: float = 0.1,
    reach: float = 0.05,
    moved: float = 0.01,
    margin: float = 0.05,
    better: float = 0.8,
    fewest: int = 60,
    nowhere: float = 1e-4,
) -> Iterator[Claim | Skip]:
    """Claims one finding for each optimizer whose rate loses to a higher one by far, or whose steps go nowhere."""
    latest = {seen.optimizer: seen for seen in record.of(LRRange)}
    if not any(seen.contest or seen.applied for seen in latest.values()):
        stands = _stands_still(record, moved, margin, better, fewest) or _never_moves(record, nowhere, fewest)
        if stands is not None:
            yield stands
            return
    if not latest:
        gaps = [item for item in record.of(Unavailable) if item.evidence == LRRange.__name__]
        yield Skip(gaps[-1].reason, hindrance=gaps[-1].hindrance) if gaps else Skip("no other rate was tried")
    for seen in latest.values():
        reason = (
            _not_comparable(seen, stood=_stood(record, seen, share, 2 * fewest))
            or unsettled(seen)
            or (Skip(_FAR) if are_on_the_way(record) else None)
            or _has_learned(record, seen, arrive)
        )
        if reason is not None:
            yield reason
            continue
        contest = seen.contest
        if contest is None or contest.other < factor * seen.in_use or not noticeable(contest, fall):
            continue
        steps = max(seen.planned_steps or patience, patience)
        unknown, way = _no_floor(record, contest), _way(record, seen.in_use, steps)
        if unknown and not way <= reach:
            yield Skip(unknown)
            continue
        used, others = falls(contest)
        if any(one < -share * other for one, other in zip(used, others, strict=True)):
            yield Skip(f"the loss rises at lr={seen.in_use:.2g}, which steps that are too small do not do")
            continue
        pace, enough = steps / contest.steps, arrive_unknown if unknown else arrive
        if any(one >= share * other or one * pace >= enough * other for one, other in zip(used, others, strict=True)):
            continue
        yield Claim(
            message=f"In {contest.steps} steps at lr={seen.in_use:.2g} {which(contest)} goes from "
            f"{contest.start:.4g} to {told(contest.in_use)}, at lr={contest.other:.2g} to {told(contest.others)}"
            f"{f'; {steps} steps like the first change the weights by {way:.2g} of their norm' if unknown else ''}.",
            subject=subject(seen),
            measured={**measured(seen), "planned_steps": seen.planned_steps, "change_of_weights": way},
            fix=f"Raise it {times(contest.other / seen.in_use)} times, to lr={contest.other:.2g}.",
            at=seen.at,
        )


def _stood(record: Record, seen: LRRange, share: float, fewest: int) -> bool:
    """Whether the whole run, which was no short trial, has taken no more from the loss than a trial at its rate."""
    if seen.contest is None or not record.seen(CurveReading):
        return False
    course = training(record, steps=fewest, final=True)
    if isinstance(course, Skip):
        return False
    return all(course.start - course.end < share * other for other in falls(seen.contest)[1])


def _has_learned(record: Record, seen: LRRange, arrive: float) -> Skip | None:
    """Whether the run has done what its pace in the trial denied: it speeds up, as where targets are far away."""
    reading = record.last(CurveReading)
    course = reading.training if reading is not None else None
    if course is None or course.nonfinite or seen.contest is None or not seen.contest.other > seen.in_use:
        return None
    fall = course.start - course.end - course.start_error - course.end_error
    if fall < arrive * max(falls(seen.contest)[1]):
        return None
    return Skip("the run itself has taken as much from the loss as a trial at the higher rate does")


def _not_comparable(seen: LRRange, *, stood: bool) -> Skip | None:
    """Why short trials tell nothing of the rate in use, whatever they found."""
    if seen.resumed:
        return Skip("training is resumed, and its learning rate may be that of a late phase")
    if _OWN_WARM_UP in seen.name.lower() and not stood:
        return Skip(f"the first steps of {seen.name} are small by design, and trials hold little else")
    return None


def _stands_still(record: Record, moved: float, margin: float, better: float, fewest: int) -> Claim | None:
    """A claim where no step of the run could move the weights, and it learned nothing of what can be learned."""
    early = record.last(EarlyLosses)
    if early is None or early.optimizers != 1 or not early.in_use > 0 or not record.seen(CurveReading):
        return None
    course = training(record, steps=fewest, final=True)
    if isinstance(course, Skip) or resumed(record):
        return None
    stuck, highest = at_baseline(record, course, margin=margin), max((*newest(record).learning_rates, early.in_use))
    way = _way(record, highest, length(course))
    if stuck is None or not way <= moved:
        return None
    price, now = stuck
    reference = learnable(record, price, share=better)
    if isinstance(reference, Skip):
        return None
    return Claim(
        message=f"{length(course)} steps like the first, at lr={highest:.2g}, change the weights by {way:.2g} of their "
        f"norm, and the training loss ends at {now:.4g}, where predicting without the inputs costs {price:.4g} and the "
        f"nearest neighbours reach {reference.neighbours:.4g}.",
        subject=f"lr of {early.name}",
        measured={"in_use": highest, "change_of_weights": way, "level": now, "baseline": price},
        fix="Raise it ten times, and again while that helps; LRRangeFinder() finds the range.",
    )


def _never_moves(record: Record, nowhere: float, fewest: int) -> Claim | None:
    """A claim where all steps of the run together change next to nothing, whatever the loss means."""
    groups = [group for audit in record.of(UpdateAudit) if audit.optimizers == 1 for group in audit.groups]
    ratios = [item.update_norm / item.weight_norm for item in groups if item.weight_norm and item.gradient_norm]
    if len(ratios) < 3 or not record.seen(CurveReading) or resumed(record):
        return None
    reading = newest(record)
    course = reading.training
    if course is None or course.steps < fewest or not reading.final:
        return None
    way, rates = max(ratios) * length(course), [item.rate for item in groups if item.rate]
    if not way <= nowhere or not rates or course.end < course.start - 2 * (course.start_error + course.end_error):
        return None
    return Claim(
        message=f"{length(course)} steps like those looked at, at lr={max(rates):.2g}, change the weights by {way:.2g} "
        f"of their norm, and the training loss stays at {course.end:.4g}.",
        subject=f"lr of {groups[-1].optimizer}",
        measured={"in_use": max(rates), "change_of_weights": way, "steps": length(course)},
        fix="Raise it a thousand times, and look for what was to raise it; LRRangeFinder() finds the range.",
    )


def _no_floor(record: Record, contest: LRContest) -> str:
    """Why a lower loss need not be a better one; empty where it is."""
    if min(contest.start, *contest.in_use, *contest.others) < 0:
        return "the loss has no floor at 0, and a lower one need not be a better one"
    kind = record.last(LossKind)
    return kind.reason if kind is not None and not kind.supervised else ""


def _way(record: Record, rate: float, steps: int) -> float:
    """The most that so many steps, each as large as the first update, change the weights by; NaN if not measured."""
    early = record.last(EarlyLosses)
    if early is None or early.optimizers != 1 or not early.in_use > 0:
        return math.nan
    return early.update_ratio * steps * max(1.0, rate / early.in_use)  # the first step may be a warm-up's
