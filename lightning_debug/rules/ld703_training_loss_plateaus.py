"""The training loss stands still after progress.

What it sees: at the end of a run of at least `steps` steps: a fall by `progress` of the start or more, done
    after a share `first` of the run at most, and a last quarter that differs by less than `still` of that fall.
    Nor does a slow fall go on: the second half takes off no more than `slowly` of the level that is left, or no more
    than its own noise does by chance.
Why it hurts: the remaining steps change nothing. A lower learning rate often lets the loss fall again.
How to fix: lower the learning rate when the loss stops falling (ReduceLROnPlateau), use a schedule that decays,
    or stop earlier.
When to ignore: when the loss has reached what the data allow. This is information, no alarm.
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
            return torch.optim.SGD(self.parameters(), lr=0.1)

    labels = torch.randint(0, 4, (1200,))
    inputs = 0.6 * torch.randn(4, 8)[labels] + torch.randn(1200, 8)
    train = DataLoader(TensorDataset(inputs[:960], labels[:960]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[960:], labels[960:]), batch_size=32)
    trainer = Trainer(max_epochs=12)
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
    >>> from lightning_debug.evidence.curves import CurveReading, TrainingCourse
    >>> from lightning_debug.evidence.curves import LossKind
    >>> from lightning_debug.record import Record
    >>> reading = CurveReading(final=True, epochs=9, training=TrainingCourse(
    ...     steps=400, start=2.0, end=0.5, settled_at=0.2))
    >>> claims = training_loss_plateaus(Record([LossKind(supervised=True), reading]))
    >>> [claim.subject for claim in claims]
    ['training loss']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.finding import INFO, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import LOSS, step_at, training


@rule("LD703", severity=INFO, needs=CurveReading)
def training_loss_plateaus(
    record: Record,
    *,
    steps: int = 100,
    progress: float = 0.3,
    still: float = 0.03,
    first: float = 0.6,
    slowly: float = 0.05,
) -> Iterator[Claim | Skip]:
    """Claims one finding where the loss stands still for the last part of the run, after progress."""
    course = training(record, steps=steps, final=True, whole=True)
    if isinstance(course, Skip):
        yield course
        return
    fall = course.start - course.end
    if fall < progress * abs(course.start) or course.end < 0.02 * abs(course.start) or course.settled_at > first:
        return
    if abs(course.late.amount) > still * fall or abs(course.late.sigmas) > 3:
        return
    parts = ((course.late.amount, course.late.sigmas), (course.second_slope.amount / 2, course.second_slope.sigmas))
    if any(sigmas < -2 and amount < -slowly * abs(course.end) for amount, sigmas in parts):
        return  # it goes on falling, if slowly
    step = step_at(course, course.settled_at)
    yield Claim(
        message=f"The training loss falls from {course.start:.3g} to {course.end:.3g} by step {step} and stands still "
        f"for the remaining {step_at(course, 1.0) - step} steps.",
        subject=LOSS,
        measured={"start": course.start, "end": course.end, "settled_step": step, "late_change": course.late.amount},
        fix="Lower the learning rate when the loss stops falling (ReduceLROnPlateau, or a decaying schedule), or stop "
        "earlier.",
    )
