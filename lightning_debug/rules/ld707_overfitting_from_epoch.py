"""Validation falls with training, then rises while training goes on falling.

What it sees: with at least `count` validations: the smoothed validation loss fell, then rose from its lowest
    part by `sigmas` standard errors (of the noise around its own course) and by `worse` of its fall (half of that
    will do where it is half of the lowest value, or a fifth of it while an accuracy has fallen, too), the last three
    values all lie above, and the training loss has fallen by `train` since. The epoch is named with the interval that
    noise leaves. Where the validation step has been run on training batches since then, they must have been spared a
    share `spared` of the rise.
Why it hurts: from that epoch on the model learns training samples by heart; the last weights are not the best.
How to fix: keep the weights of that epoch; more or augmented data, dropout or weight decay move it further out.
When to ignore: when the best checkpoint is kept anyway. Silent where the validation metric has improved
    significantly since: then it is confidence that grows, not errors (LD711); where training batches cost as much
    by the same computation (a term whose weight grows, a bound that is maximised); where the loss is the plain mean
    of uneven batches and lies far from the mean by rows (LD803); and in the final report where
    EarlyStoppingSelector has put back weights from before the rise, or from its lower half.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))

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
            return torch.optim.Adam(self.parameters(), lr=4e-4)

    labels = torch.randint(0, 2, (500,))
    inputs = 0.8 * torch.randn(2, 20)[labels] + torch.randn(500, 20)
    labels = torch.where(torch.rand(500) < 0.15, 1 - labels, labels)
    train = DataLoader(TensorDataset(inputs[:200], labels[:200]), batch_size=20, shuffle=True)
    val = DataLoader(TensorDataset(inputs[200:], labels[200:]), batch_size=100)
    trainer = Trainer(max_epochs=30)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(20, 2)

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
            return torch.optim.AdamW(self.parameters(), lr=3e-3, weight_decay=0.1)

    labels = torch.randint(0, 2, (500,))
    inputs = 0.8 * torch.randn(2, 20)[labels] + torch.randn(500, 20)
    labels = torch.where(torch.rand(500) < 0.15, 1 - labels, labels)
    train = DataLoader(TensorDataset(inputs[:200], labels[:200]), batch_size=20, shuffle=True)
    val = DataLoader(TensorDataset(inputs[200:], labels[200:]), batch_size=100)
    trainer = Trainer(max_epochs=25)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.curves import CurveReading, Shift, ValidationCourse
    >>> from lightning_debug.evidence.curves import LossKind
    >>> from lightning_debug.record import Record
    >>> reading = CurveReading(epochs=30, validation=ValidationCourse(
    ...     name="val_loss", count=30, epochs=(0, 29), first=1.4, lowest=0.6, lowest_epoch=9, lowest_between=(8, 11),
    ...     end=1.1, noise=0.02, rise=Shift(amount=0.5, error=0.02), all_above=True,
    ...     train_at_lowest=0.4, train_end=0.05, train_since=Shift(amount=-0.35, error=0.01)))
    >>> [claim.measured["lowest_epoch"] for claim in overfitting_from_epoch(Record([reading]))]
    [9]
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading, ValidationCourse
from lightning_debug.evidence.selection import EpochSelection
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import (
    baseline,
    distorted,
    diverges,
    improves,
    judged_samples,
    measured_again,
    newest,
    tracked,
    validation,
)

_BEST = ("where the metric is best and the loss near its lowest", "where the smoothed loss is lowest")
"""What is said of the epoch to keep: chosen by metric and loss, and by the loss alone."""


@rule("LD707", severity=WARNING, needs=CurveReading)
def overfitting_from_epoch(
    record: Record, *, count: int = 6, sigmas: float = 4.0, worse: float = 0.3, train: float = 0.1, spared: float = 0.5
) -> Iterator[Claim | Skip]:
    """Claims one finding where validation falls with training, then rises while training goes on falling."""
    seen = validation(record, count=count)
    if isinstance(seen, Skip):
        yield seen
        return
    course = newest(record).training
    price = max(baseline(record) or 0.0, seen.first, course.start if course is not None else 0.0)
    if not diverges(seen, sigmas=sigmas, worse=worse, price=price):
        return
    if not tracked(seen, price=price) and not newest(record).assumed:
        return  # LD706; logs alone tell too little for that
    before = seen.train_at_lowest
    if (
        before is None
        or seen.train_end is None
        or seen.train_since.sigmas > -3
        or seen.train_since.amount > -train * abs(before)
        or seen.train_end > before - 1e-3 * abs(before)  # a loss that ended in NaN has fallen before, not since
    ):
        return
    if improves(seen, sigmas=2.0, samples=judged_samples(record)):
        return  # LD711
    uneven = distorted(record, seen)
    if uneven is not None:
        yield uneven  # LD803
        return
    again = measured_again(record)
    if again is not None and again.by_validation is not None and again.epoch >= seen.lowest_epoch:
        apart = seen.end - again.by_validation
        if not again.augmented and apart < spared * (seen.end - seen.lowest):
            yield Skip(f"training batches cost {again.by_validation:.3g} by the same computation")
            return
    low, high = seen.lowest_between
    kept = record.last(EpochSelection)
    if (
        kept is not None
        and kept.restored
        and (
            low <= kept.epoch <= high
            or (kept.loss_value is not None and kept.loss_value < seen.lowest + (seen.end - seen.lowest) / 2)
        )
    ):
        yield Skip(f"the weights of epoch {kept.epoch} have been put back, where the validation loss is low")
        return
    between = f"epoch {seen.lowest_epoch}" if low == high else f"epoch {seen.lowest_epoch} (between {low} and {high})"
    reading = newest(record)
    yield Claim(
        message=f"Validation loss is lowest at {between} with {seen.lowest:.3g} and rises to {seen.end:.3g} by epoch "
        f"{seen.epochs[1]} (more than {min(seen.rise.sigmas, 100):.0f} standard errors), while training falls "
        f"from {before:.3g} to {seen.train_end:.3g}.",
        subject=seen.name,
        measured={
            "lowest": seen.lowest,
            "lowest_epoch": seen.lowest_epoch,
            "between": [low, high],
            "end": seen.end,
            "sigmas": min(seen.rise.sigmas, 1e6),
        },
        fix=f"{_advice(reading, seen, kept)} To get below its loss, train on more or augmented data, or add dropout or "
        "decay.",
    )


def _advice(reading: CurveReading, seen: ValidationCourse, kept: EpochSelection | None) -> str:
    """The epoch to keep, the one that LD716 or LD714 names, too: two would be one too many."""
    low, high = seen.lowest_between
    best = reading.best if reading.final else None
    if kept is not None:
        return f"Keep the weights of epoch {kept.epoch} (LD716)."
    if best is None or low <= best.epoch <= high:
        keep = f"epoch {seen.lowest_epoch if best is None else best.epoch}"
    else:
        keep = f"epoch {best.epoch}, {_BEST[best.rule == 'loss']} (LD714)"
    return f"Keep the weights of {keep}; EarlyStoppingSelector does."
