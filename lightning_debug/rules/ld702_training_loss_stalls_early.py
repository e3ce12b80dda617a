"""The training loss stops falling early, at a high value, and jumps about there.

What it sees: at the end of a run of at least `steps` steps: the loss falls by less than `falls` standard errors,
    and by less than `still` of what is left, over the second half (or was lower before), is still above `high` of
    what knowing nothing costs over the last tenth, the nearest neighbours reach `better` of it on the same training
    samples, and the validation loss jumps from one validation to the next by `jitter` of itself: the data are the
    same each time, so it is the steps that are too long. Or the first steps drove the loss far above what knowing
    nothing costs, or it stays above that, where a constant answer would do better. Validation is above `high`, too.
Why it hurts: the weights bounce around the minimum and cannot get down into it.
How to fix: halve the learning rate, or let it decay.
When to ignore: when the jumps are wanted, as in cyclic schedules. Silent where the loss jumps in single
    steps of every epoch (LD713), and where the batch is no table of numbers
    with one target each: then it is not known what the data allow.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))

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
            return torch.optim.Adam(self.parameters(), lr=0.5)

    inputs = torch.randn(1600, 2)
    labels = 2 * (inputs.norm(dim=1) > 1.2).long() + (inputs[:, 0] > 0).long()
    train = DataLoader(TensorDataset(inputs[:1280], labels[:1280]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[1280:], labels[1280:]), batch_size=32)
    trainer = Trainer(max_epochs=8)
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
    trainer = Trainer(max_epochs=10)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.curves import CurveReading, ReferenceLoss, TrainingCourse, ValidationCourse
    >>> from lightning_debug.evidence.curves import LossKind
    >>> from lightning_debug.record import Record
    >>> reading = CurveReading(final=True, epochs=10, training=TrainingCourse(
    ...     steps=400, start=1.4, end=0.9, settled_at=0.1), validation=ValidationCourse(count=10, end=0.9, noise=0.2))
    >>> reference = ReferenceLoss(function="cross_entropy", samples=256, baseline=1.39, neighbours=0.4, error=0.02)
    >>> record = Record([LossKind(supervised=True), reference, reading])
    >>> [claim.measured["jitter"] > 0.2 for claim in training_loss_stalls_early(record)]
    [True]
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import (
    LOSS,
    baseline,
    comes_each_epoch,
    draws_first,
    learnable,
    length,
    newest,
    plateau,
    too_long_steps,
    training,
    unrest,
)


@rule("LD702", severity=WARNING, needs=CurveReading, explains=("LD713",))
def training_loss_stalls_early(
    record: Record,
    *,
    steps: int = 60,
    falls: float = 3.0,
    high: float = 0.3,
    better: float = 0.6,
    jitter: float = 0.05,
    still: float = 0.3,
) -> Iterator[Claim | Skip]:
    """Claims one finding where the loss stops falling early, high, and jumps about there."""
    course = training(record, steps=steps, final=True, whole=True)
    if isinstance(course, Skip):
        yield course
        return
    now, price = plateau(record, course), baseline(record)
    moves = unrest(record) or 0.0
    if price is None or now < high * price or not too_long_steps(record, course, jitter=jitter):
        return
    if comes_each_epoch(record, course):
        yield Skip("the loss jumps in single steps of every epoch, as wrong samples make it")
        return
    seen = newest(record).validation
    if seen is not None and seen.end < high * price:
        return  # what it has learned shows where dropout does not hide it
    fall = course.second_slope  # a curve that bends fits no line well: its fall may be plain and yet not significant
    falling = fall.sigmas < -falls or fall.amount <= -still * now
    if falling and course.end < course.lowest + falls * course.end_error:
        return
    reference = learnable(record, now, share=better)
    if isinstance(reference, Skip):
        yield reference
        return
    sign = (
        f"from one validation to the next the same data's loss jumps by {moves:.0%}"
        if moves >= jitter
        else f"the first steps drove it up to {course.start:.3g}"
        if course.start > 2 * price
        else f"a constant answer would cost {price:.3g}"
    )
    yield Claim(
        message=f"The training loss no longer falls in the second half of {length(course)} steps and ends at "
        f"{now:.3g}, where the nearest neighbours reach {reference.neighbours:.3g}, and {sign}.",
        subject=LOSS,
        measured={"level": now, "baseline": price, "neighbours": reference.neighbours, "jitter": moves},
        fix=draws_first(
            record, "Halve the learning rate until the loss no longer jumps; LRRangeFinder finds the range."
        ),
    )
