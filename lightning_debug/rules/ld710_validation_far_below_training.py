"""The validation loss lies far below the training loss, without dropout too.

What it sees: at the end, with at least `count` validations and `steps` steps: the validation loss is at most
    `share` of what the validation step itself gives, in eval mode, on training batches, by `sigmas` standard
    errors of both sets.
Why it hurts: the validation set is easier than the training set, or holds what was trained on; what it measures
    is not what matters.
How to fix: look at the split: shuffle before splitting, by groups where samples belong together; look for
    copies.
When to ignore: when the validation set is easier on purpose. Silent where the data set gives another sample
    when it is read twice (augmentation), where the validation step does not take training batches, and where
    samples of validation are far longer or shorter than those of training; likewise where the last validation,
    with the same weights, is no lower (a loss that swings from epoch to epoch).
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
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 4, (1600,))
    noise = torch.cat([2.0 * torch.ones(1200), 0.2 * torch.ones(400)])
    inputs = 1.5 * torch.randn(4, 8)[labels] + noise[:, None] * torch.randn(1600, 8)
    train = DataLoader(TensorDataset(inputs[:1200], labels[:1200]), batch_size=40, shuffle=True)
    val = DataLoader(TensorDataset(inputs[1200:], labels[1200:]), batch_size=40)
    trainer = Trainer(max_epochs=8)
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

    labels = torch.randint(0, 4, (1600,))
    noise = torch.cat([2.0 * torch.ones(1200), 0.2 * torch.ones(400)])
    inputs = 1.5 * torch.randn(4, 8)[labels] + noise[:, None] * torch.randn(1600, 8)
    order = torch.randperm(1600)
    inputs, labels = inputs[order], labels[order]
    train = DataLoader(TensorDataset(inputs[:1200], labels[:1200]), batch_size=40, shuffle=True)
    val = DataLoader(TensorDataset(inputs[1200:], labels[1200:]), batch_size=40)
    trainer = Trainer(max_epochs=8)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.curves import CurveReading, TrainingCourse, TrainingLossInEval, ValidationCourse
    >>> from lightning_debug.evidence.curves import LossKind
    >>> from lightning_debug.record import Record
    >>> reading = CurveReading(final=True, epochs=9, training=TrainingCourse(steps=400, start=1.4, end=0.9),
    ...     validation=ValidationCourse(name="val_loss", count=9, end=0.1, noise=0.01))
    >>> again = TrainingLossInEval(
    ...     epoch=8, batches=8, train_mode=0.9, eval_mode=0.9, by_validation=0.9, error=0.02, augmented=False,
    ...     val_batches=10)
    >>> [claim.subject for claim in validation_far_below_training(Record([LossKind(supervised=True), again, reading]))]
    ['val_loss']
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading, EpochValues
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import baseline, error_of, measured_again, training, validation


@rule("LD710", severity=WARNING, needs=CurveReading)
def validation_far_below_training(
    record: Record, *, count: int = 3, share: float = 0.7, sigmas: float = 5.0, steps: int = 40
) -> Iterator[Claim | Skip]:
    """Claims one finding where the same computation gives validation data a far lower loss than training data."""
    course, seen = training(record, steps=steps, final=True), validation(record, count=count, final=True)
    if isinstance(course, Skip) or isinstance(seen, Skip):
        yield course if isinstance(course, Skip) else seen  # type: ignore[misc]
        return
    again, price = measured_again(record), baseline(record)
    if again is None or again.by_validation is None:
        yield Skip("the validation step was not run on training batches, so that losses cannot be compared")
        return
    if again.augmented or again.augmented is None:
        yield Skip("the training data are augmented, or it is not known whether they are")
        return
    if again.other_sizes:
        yield Skip("samples of validation have another size than those of training: another length, other losses")
        return
    train, late = again.by_validation, course.end
    there = [item.val_loss for item in record.of(EpochValues) if item.at.step == again.at.step and item.val_loss]
    if any(value > share * train for value in there):
        yield Skip("with the weights that training batches were measured with, validation is no lower")
        return
    apart = train - seen.end
    other = again.error * math.sqrt(again.batches / again.val_batches) if again.val_batches else math.inf
    if seen.end > share * min(train, late) or apart < sigmas * error_of(again.error, other):
        return
    if price is not None and apart < 0.1 * price:
        return
    if train > max(price or 0.0, course.start):
        yield Skip("the training loss is higher than before training: what is compared has learned nothing")
        return
    yield Claim(
        message=f"Validation loss ends at {seen.end:.3g} (the mean of its last 3 values); the same step, in eval mode, "
        f"gives {train:.3g} on {again.batches} training batches, {apart / again.error:.0f} standard errors more, "
        "without dropout.",
        subject=seen.name,
        measured={"val_loss": seen.end, "train_loss": train, "error": again.error, "batches": again.batches},
        fix="Look at how the data were split: an easier part, a class or a source that only one side has, copies of "
        "training samples; shuffle before splitting.",
    )
