"""Training succeeds and validation gains almost nothing from it.

What it sees: at the end, with at least `count` validations and `steps` steps: training took off `learned` of
    what it began with, the validation loss ends having lost `gained` of it at most, and is above `gap` times
    the loss that the validation step gives on training batches, by `sigmas` standard errors. Where validation
    first fell with training and then rose by `worse` of that, it is LD707. A validation loss that was never below
    `alien` times what training began with speaks of other inputs or targets instead.
Why it hurts: the model learns the training samples by heart instead of what they have in common.
How to fix: regularise (weight decay, dropout, augmentation), take a smaller model, gather more data.
When to ignore: when interpolation is wanted. Silent where the metric still improves, and where the validation
    step does not take training batches: losses in different units cannot be compared.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 2))

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

    inputs = torch.randn(260, 20)
    labels = (inputs[:, 0] + 2 * torch.randn(260) > 0).long()
    train = DataLoader(TensorDataset(inputs[:60], labels[:60]), batch_size=20, shuffle=True)
    val = DataLoader(TensorDataset(inputs[60:], labels[60:]), batch_size=100)
    trainer = Trainer(max_epochs=25)
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
    >>> from lightning_debug.evidence.curves import CurveReading, TrainingCourse, TrainingLossInEval, ValidationCourse
    >>> from lightning_debug.evidence.curves import LossKind
    >>> from lightning_debug.record import Record
    >>> reading = CurveReading(final=True, epochs=20, training=TrainingCourse(steps=400, start=0.7, end=0.01),
    ...     validation=ValidationCourse(name="val_loss", count=20, first=0.7, lowest=0.68, end=1.1, noise=0.02))
    >>> again = TrainingLossInEval(epoch=19, batches=5, train_mode=0.01, eval_mode=0.01, by_validation=0.01, error=0.01)
    >>> [claim.subject for claim in overfitting(Record([LossKind(supervised=True), again, reading]))]
    ['val_loss']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import (
    baseline,
    diverges,
    error_of,
    improves,
    judged_samples,
    measured_again,
    newest,
    tracked,
    training,
    validation,
)


@rule("LD706", severity=WARNING, needs=CurveReading)
def overfitting(
    record: Record,
    *,
    count: int = 5,
    steps: int = 30,
    sigmas: float = 4.0,
    gained: float = 0.4,
    learned: float = 0.75,
    gap: float = 2.0,
    worse: float = 0.3,
    alien: float = 2.0,
) -> Iterator[Claim | Skip]:
    """Claims one finding where training succeeds and validation has hardly gained from it, or loses from the start."""
    course, seen = training(record, steps=steps, final=False), validation(record, count=count)
    if isinstance(course, Skip) or isinstance(seen, Skip):
        yield course if isinstance(course, Skip) else seen  # type: ignore[misc]
        return
    again = measured_again(record)
    if again is None or again.by_validation is None:
        yield Skip("the validation step was not run on training batches, so that losses cannot be compared")
        return
    price = max(baseline(record) or 0.0, course.start)
    train = min(again.by_validation, course.end)
    apart = seen.end - again.by_validation
    if newest(record).final is False or price <= 0 or again.by_validation < 0:
        return
    best_gain, train_gain = (price - seen.lowest) / price, (price - train) / price
    end_gain = (price - seen.end) / price
    far = seen.end > gap * again.by_validation and apart > sigmas * error_of(again.error, min(seen.noise, seen.end))
    if diverges(seen, sigmas=sigmas, worse=worse, price=price) and tracked(seen, price=price):
        return  # LD707
    if train_gain < learned or end_gain > gained or not far:
        return
    if improves(seen, sigmas=sigmas, samples=judged_samples(record)):
        return
    ever = f"at its best {best_gain:.0%}" if best_gain > 0 else f"was never below {seen.lowest:.3g}"
    fix = "Regularise (weight decay, dropout, augmentation), take a smaller model, or gather more data."
    if seen.lowest > alien * price:
        fix = (
            "A model that has learned nothing would be nearer: first compare the inputs and targets of a validation "
            f"batch with a training batch's (units, scale, order, classes). {fix}"
        )
    yield Claim(
        message=f"The validation loss ends at {seen.end:.3g}, the same loss on training batches at "
        f"{again.by_validation:.3g}: of the {price:.3g} it began with, training lost {train_gain:.0%} and validation "
        f"{ever} (epoch {seen.lowest_epoch}).",
        subject=seen.name,
        measured={"val_loss": seen.end, "train_loss": again.by_validation, "start": price, "lowest": seen.lowest},
        fix=fix,
    )
