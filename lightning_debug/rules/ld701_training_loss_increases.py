"""The training loss rises.

What it sees: a loss that is the mean of one loss function against targets of the batch, whose last tenth lies
    above its first steps by `sigmas` standard errors and by `share` of its start (its mean, and its median by half of
    that; or three quarters of it: a loss that soars has no mean worth the name); or that had fallen
    significantly and then climbs back by `back` of that fall and stays up for 15 % of the run (30 % while the
    run goes on). Judged from `steps` steps on at the end, from `live` steps on while the run goes on. Where the
    targets are known, the end must cost more than half of what knowing nothing does.
Why it hurts: each step makes the model worse: the learning rate is so high that steps overshoot, or the sign is
    wrong.
How to fix: lower the learning rate, by a factor of 10 to begin with; warm up; clip the gradients.
When to ignore: when the data become harder on purpose (a curriculum). Silent on losses of several terms, on
    adversarial, contrastive and reinforcement learning, whose losses may rise in a healthy run, where the
    loss jumps in single steps of every epoch (LD713), and in the first case on resumed fits.
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
            return torch.optim.SGD(self.parameters(), lr=3e-3, maximize=True)

    labels = torch.randint(0, 4, (1200,))
    inputs = 1.5 * torch.randn(4, 8)[labels] + torch.randn(1200, 8)
    train = DataLoader(TensorDataset(inputs[:960], labels[:960]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[960:], labels[960:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
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
    >>> reading = CurveReading(final=True, epochs=4, training=TrainingCourse(
    ...     steps=120, start=1.4, start_error=0.01, end=9.0, end_error=0.5, lowest=1.3))
    >>> claims = training_loss_increases(Record([LossKind(supervised=True), reading]))
    >>> [claim.subject for claim in claims]
    ['training loss']
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import (
    LOSS,
    baseline,
    comes_each_epoch,
    error_of,
    length,
    newest,
    resumed,
    step_at,
    training,
)


@rule("LD701", severity=ERROR, needs=CurveReading, explains=("LD702", "LD705", "LD710", "LD712", "LD713"))
def training_loss_increases(
    record: Record, *, steps: int = 20, live: int = 100, sigmas: float = 5.0, share: float = 0.25, back: float = 0.75
) -> Iterator[Claim | Skip]:
    """Claims one finding where the training loss rises from the start, or after it had fallen."""
    course = training(record, steps=steps, final=False, whole=True)
    if isinstance(course, Skip):
        yield course
        return
    final = newest(record).final
    if not final and course.steps < live:
        return
    if comes_each_epoch(record, course):
        yield Skip("the loss jumps in single steps of every epoch, as wrong samples make it")  # LD713
        return
    price = baseline(record)
    up, error = course.end - course.start, error_of(course.start_error, course.end_error)
    low = course.start - course.lowest
    # a loss that soars has no mean worth the name, and a few huge values at a level raise no more than the mean
    quartile, median = course.end_quartiles or (-math.inf, course.end)
    half = median - course.start > 0.5 * share * abs(course.start)
    risen, most_risen = half and up > sigmas * error, quartile - course.start > sigmas * course.start_error
    far = (risen and up > share * abs(course.start)) or (
        most_risen and quartile - course.start > share * abs(course.start)
    )
    if far and not resumed(record) and low < up and (price is None or course.end > 0.5 * price):
        told = (
            f"{up / error if error else math.inf:.0f} standard errors" if risen else f"most of it above {quartile:.3g}"
        )
        yield Claim(
            message=f"The training loss rises from {course.start:.3g} at the start to {course.end:.3g} over the last "
            f"tenth of {length(course)} steps, {told}.",
            subject=LOSS,
            measured={"start": course.start, "end": course.end, "error": error, "steps": length(course)},
            fix="Lower the learning rate, by a factor of 10 to begin with (LRRangeFinder finds the range); where "
            "that does not help, look for a wrong sign: maximize=True, a loss that is negated.",
        )
        return
    again = course.end - course.lowest
    fell = low > sigmas * error_of(course.start_error, min(course.start_error, course.end_error))
    lasts = course.above_since >= (0.15 if final else 0.3)
    back_up = quartile - course.lowest > back * low or (
        again > back * low and again > sigmas * error and median - course.lowest > 0.5 * back * low
    )
    if fell and low > 0.1 * abs(course.start) and lasts and back_up and (price is None or course.end > 0.5 * price):
        at = step_at(course, course.lowest_at)
        yield Claim(
            message=f"The training loss falls from {course.start:.3g} to {course.lowest:.3g} near step {at}, then "
            f"rises to {course.end:.3g} and stays up for the last {course.above_since:.0%} of {length(course)} steps.",
            subject=LOSS,
            measured={"start": course.start, "lowest": course.lowest, "lowest_step": at, "end": course.end},
            fix=f"Lower the learning rate from step {at} on (a schedule that decays), or clip the gradients.",
        )
