"""The training loss falls evenly and slowly.

What it sees: at the end of a run of at least `steps` steps and `epochs` epochs: significant falls in both
    halves, the second at least `even` as steep as the first, that took off no more than `little` of the start
    (`much`, where the run has `long` steps and twice the epochs), while the nearest neighbours reach `better`
    of the end on the same training samples.
Why it hurts: most of the run was spent on the way; the model is far from what it could be.
How to fix: raise the learning rate, by a factor of 10 to begin with; lower that of a parameter group whose rate is
    100 times that of another, where its first updates change its weights by 15 % of their norm.
When to ignore: in runs cut short on purpose. Silent while the learning rate warms up, and where the batch is no
    table of numbers with one target each.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

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
            return torch.optim.SGD(self.parameters(), lr=1e-4)

    labels = torch.randint(0, 4, (1200,))
    inputs = 1.5 * torch.randn(4, 8)[labels] + torch.randn(1200, 8)
    train = DataLoader(TensorDataset(inputs[:960], labels[:960]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[960:], labels[960:]), batch_size=32)
    trainer = Trainer(max_epochs=5)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

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
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 4, (1200,))
    inputs = 1.5 * torch.randn(4, 8)[labels] + torch.randn(1200, 8)
    train = DataLoader(TensorDataset(inputs[:960], labels[:960]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[960:], labels[960:]), batch_size=32)
    trainer = Trainer(max_epochs=6)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.curves import CurveReading, ReferenceLoss, Shift, TrainingCourse
    >>> from lightning_debug.evidence.curves import LossKind
    >>> from lightning_debug.record import Record
    >>> slope = Shift(amount=-0.08, error=0.01)
    >>> reading = CurveReading(final=True, epochs=5, training=TrainingCourse(
    ...     steps=150, start=1.4, end=1.33, slope=slope, first_slope=slope, second_slope=slope))
    >>> reference = ReferenceLoss(function="cross_entropy", samples=256, baseline=1.39, neighbours=0.4, error=0.02)
    >>> [claim.subject for claim in training_loss_falls_slowly(Record([LossKind(supervised=True), reference, reading]))]
    ['training loss']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.evidence.optimization import UpdateAudit
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import LOSS, learnable, length, level, newest, still_falls, training, warming_up


@rule("LD704", severity=WARNING, needs=CurveReading)
def training_loss_falls_slowly(
    record: Record,
    *,
    steps: int = 60,
    epochs: int = 3,
    long: int = 200,
    even: float = 0.6,
    little: float = 0.1,
    much: float = 0.4,
    better: float = 0.7,
) -> Iterator[Claim | Skip]:
    """Claims one finding where the loss falls evenly and has come nowhere near its end."""
    course = training(record, steps=steps, final=True, whole=True)
    if isinstance(course, Skip):
        yield course
        return
    if warming_up(record):
        yield Skip("the learning rate was still warming up when the run ended")
        return
    share = (course.start - level(record, course)) / abs(course.start) if course.start else 1.0
    most = much if course.steps >= long and newest(record).epochs >= 2 * epochs else little
    if newest(record).epochs < epochs or share > most or share < -2 * course.start_error / abs(course.start or 1.0):
        return
    if course.end > course.start + 2 * course.start_error:
        return  # by single steps it has risen: in ordered data, say, whose last batches are the hard ones
    slopes = (course.first_slope, course.second_slope)
    uneven = slopes[1].amount - even * slopes[0].amount
    if not still_falls(record, course) or uneven > 2 * slopes[1].error:
        return
    reference = learnable(record, course.end, share=better)
    if isinstance(reference, Skip):
        yield reference
        return
    left = (course.end - reference.neighbours) / abs(course.slope.amount)
    how = "falls evenly" if share > 0 and course.end < course.start else "hardly moves"
    away = f"{left:.1f} such runs away" if course.slope.amount < -course.slope.error else "not in reach"
    yield Claim(
        message=f"The training loss {how}, from {course.start:.3g} to {course.end:.3g} in {length(course)} "
        f"steps; the {reference.neighbours:.3g} that the nearest neighbours reach is {away}.",
        subject=LOSS,
        measured={"start": course.start, "end": course.end, "neighbours": reference.neighbours, "runs_left": left},
        fix=_too_high(record)
        or "Raise the learning rate, by a factor of 10 to begin with; LRRangeFinder finds how far.",
    )


def _too_high(record: Record, apart: float = 100.0, thrown: float = 0.15) -> str:
    """What to do about a group whose first updates throw its weights about, at a rate far above that of another."""
    looks = [item for item in record.of(UpdateAudit) if item.steps <= 3 and len(item.groups) > 1][:2]
    for place, group in enumerate(looks[0].groups if len(looks) == 2 else ()):
        rates = [other.rate for other in looks[0].groups if other.rate]
        both = [look.groups[place] for look in looks if place < len(look.groups)]
        moved = [one.update_norm / one.weight_norm for one in both if one.weight_norm]
        if len(moved) < 2 or min(moved) < thrown or both[1].weight_norm > 3 * both[0].weight_norm:
            continue
        if group.rate and group.rate >= apart * min(rates):
            return (
                f"Lower the learning rate of parameter group {group.group} ({group.rate:.2g}): the first update "
                f"changes weights by {moved[0]:.0%} of their norm. Another group has {min(rates):.2g}."
            )
    return ""
