"""The model settles at a loss that is far higher than the data allow.

What it sees: at the end of a run of at least `steps` steps (`long` where it has fewer than `epochs` epochs, in
    which nothing has had the time to settle): the loss has settled (after a share `first` of the
    run, or it no longer falls by `falls` standard errors; a line through the second half is flatter than `even`
    of one through the first), in eval mode too, above `high` of what knowing nothing costs; validation agrees
    within a factor `agree`, and does not end at its lowest after a fall by `low` of it in the last quarter; the nearest
    neighbours reach `better` of it on the same training samples, and as long
    a run again, at the pace of the last quarter (or one `falls` standard errors faster, which few noisy steps do not
    rule out), would not close `closed` of what lies between. Where validation
    jumps by `jitter` (or the first steps drove the loss far up), that is LD702. Where nothing at all was learned, it
    stands as a symptom beside LD712, whose causes are more.
Why it hurts: the model is too small, too regularised or too frozen for the task: neither more data nor more
    epochs help.
How to fix: more layers or units, a structure that fits the data, less weight decay or dropout, more layers
    unfrozen. Where training_step mixes, mirrors or shifts samples by itself, first see that labels follow them.
When to ignore: when the model is simple on purpose, as a baseline. Silent where the loss begins below `trained` of
    what knowing nothing costs (fine-tuning, where a small learning rate is meant to change little), and where the
    batch is no table of numbers with one target each: a task with much noise looks the same from outside.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 4)

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
            return torch.optim.Adam(self.parameters(), lr=0.1)

    inputs = torch.randn(1600, 2)
    labels = 2 * (inputs.norm(dim=1) > 1.2).long() + (inputs[:, 0] > 0).long()
    train = DataLoader(TensorDataset(inputs[:1280], labels[:1280]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[1280:], labels[1280:]), batch_size=32)
    trainer = Trainer(max_epochs=10)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 4))

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
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(1600, 2)
    labels = 2 * (inputs.norm(dim=1) > 1.2).long() + (inputs[:, 0] > 0).long()
    train = DataLoader(TensorDataset(inputs[:1280], labels[:1280]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[1280:], labels[1280:]), batch_size=32)
    trainer = Trainer(max_epochs=8)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.curves import CurveReading, ReferenceLoss, TrainingCourse, ValidationCourse
    >>> from lightning_debug.evidence.curves import LossKind
    >>> from lightning_debug.record import Record
    >>> reading = CurveReading(final=True, epochs=10, training=TrainingCourse(
    ...     steps=400, start=1.4, end=0.9, settled_at=0.3), validation=ValidationCourse(count=10, end=0.92, noise=0.01))
    >>> reference = ReferenceLoss(function="cross_entropy", samples=256, baseline=1.39, neighbours=0.4, error=0.02)
    >>> [claim.subject for claim in underfitting(Record([LossKind(supervised=True), reference, reading]))]
    ['training loss']
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading, ValidationCourse
from lightning_debug.evidence.run import RunContext
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import (
    LOSS,
    baseline,
    draws_first,
    learnable,
    level,
    newest,
    too_long_steps,
    training,
    warming_up,
)


@rule("LD705", severity=WARNING, needs=CurveReading)
def underfitting(
    record: Record,
    *,
    steps: int = 60,
    epochs: int = 3,
    long: int = 300,
    first: float = 0.75,
    falls: float = 2.0,
    even: float = 0.4,
    closed: float = 0.6,
    high: float = 0.3,
    better: float = 0.6,
    jitter: float = 0.05,
    agree: float = 0.7,
    low: float = 0.05,
    trained: float = 0.8,
) -> Iterator[Claim | Skip]:
    """Claims one finding where the loss settles high, quietly, in training and validation alike."""
    course = training(record, steps=steps, final=True, whole=True)
    if isinstance(course, Skip):
        yield course
        return
    now, price = level(record, course), baseline(record)
    if price is None or not high * price < now < 1.05 * price:  # what knows nothing at all is LD712 as well
        return
    run = record.last(RunContext)
    updates = course.steps // max(1, run.accumulate_grad_batches if run else 1)
    short = updates < steps or (newest(record).epochs < epochs and updates < long)
    if short or course.start < trained * price:
        yield Skip(
            "the run is too short to settle in"
            if short
            else "the loss begins far below what knowing nothing costs: the model had been trained before"
        )
        return
    moving = course.late.sigmas < -falls
    slopes = (course.first_slope, course.second_slope)
    if moving and (course.settled_at > first or slopes[1].amount < even * slopes[0].amount):
        return
    if warming_up(record):
        yield Skip("the learning rate was still warming up when the run ended")
        return
    seen = newest(record).validation
    if too_long_steps(record, course, jitter=jitter):
        return  # LD702
    if seen is not None and not (agree * now < seen.end < now / agree and _rests(seen, low, falls / 2)):
        return
    reference = learnable(record, now, share=better)
    if isinstance(reference, Skip):
        yield reference
        return
    noise = course.late.error if math.isfinite(course.late.error) else 0.0
    if -4 * (course.late.amount - falls * noise) > closed * (now - reference.neighbours):
        return  # it may need more epochs (LD715), as far as one can tell
    both = f", validation at {seen.end:.3g}" if seen is not None else ""
    yield Claim(
        message=f"The training loss settles at {now:.3g}{both}; knowing nothing costs {price:.3g}, and the nearest "
        f"neighbours reach {reference.neighbours:.3g} on the same samples.",
        subject=LOSS,
        measured={"level": now, "baseline": price, "neighbours": reference.neighbours, "samples": reference.samples},
        fix=draws_first(
            record,
            "Give the model more capacity (width, layers), regularise less (weight decay, dropout), or unfreeze.",
        ),
    )


def _rests(seen: ValidationCourse, low: float, sigmas: float) -> bool:
    """Whether validation has stopped falling, too: where steps are few, they tell little of training."""
    return seen.rise.amount > 0 or seen.late.amount >= -low * seen.end or seen.late.sigmas >= -sigmas
