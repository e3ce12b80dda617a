"""The validation loss lies below the training loss.

What it sees: at the end, with at least `count` validations: in a share `often` of the last half of them the
    validation loss is below the training loss of the same epoch, and at the end by `share` of it. The same
    training batches are measured again in eval mode, and by the validation step: where that takes off more than half
    of the difference, dropout (or batch-norm) explains it, or that the two steps take different losses.
Why it hurts: it does not, where dropout or augmentation explains it. Otherwise the two sets differ.
How to fix: nothing, or compare with the training loss in eval mode.
When to ignore: where training uses dropout, augmentation or label smoothing. This is information, no alarm; a
    difference that remains is LD710.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Dropout(0.3), nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.6), nn.Linear(64, 4))

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
    inputs = 1.2 * torch.randn(4, 8)[labels] + torch.randn(1200, 8)
    train = DataLoader(TensorDataset(inputs[:960], labels[:960]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[960:], labels[960:]), batch_size=32)
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
    >>> reading = CurveReading(final=True, epochs=9, training=TrainingCourse(steps=400, start=1.4, end=0.5),
    ...     validation=ValidationCourse(name="val_loss", count=9, end=0.3, below_training=1.0))
    >>> again = TrainingLossInEval(epoch=8, batches=8, train_mode=0.5, eval_mode=0.31)
    >>> [claim.measured["explained"] for claim in validation_below_training(Record([again, reading]))]
    [True]
    >>> again = TrainingLossInEval(epoch=8, batches=8, train_mode=0.5, eval_mode=0.5, by_validation=0.31)
    >>> [claim.measured["explained"] for claim in validation_below_training(Record([again, reading]))]
    [True]
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.finding import INFO, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import measured_again, newest, validation


@rule("LD709", severity=INFO, needs=CurveReading)
def validation_below_training(
    record: Record, *, count: int = 3, often: float = 0.75, share: float = 0.05
) -> Iterator[Claim | Skip]:
    """Claims one finding where validation lies below training, and says whether dropout explains it."""
    seen = validation(record, count=count, final=True)
    if isinstance(seen, Skip):
        yield seen
        return
    again, course = measured_again(record), newest(record).training
    if course is None or seen.below_training < often or course.end - seen.end < share * abs(course.end):
        return
    if again is None:
        yield Skip("no training batches were measured again in eval mode")
        return
    gap, mode, other = course.end - seen.end, again.train_mode - again.eval_mode, again.by_validation
    explained = mode > 0.5 * gap
    unlike = not explained and other is not None and again.train_mode - other > 0.5 * gap
    if explained:
        why = f"in eval mode the same training batches cost {again.eval_mode:.3g} and in train mode "
        why += f"{again.train_mode:.3g}, which explains it (dropout, batch-norm)"
        fix = "Nothing needs to change: compare validation with the training loss in eval mode."
    elif unlike:
        why = f"the validation step gives {other:.3g} on training batches too, and the training step "
        why += f"{again.eval_mode:.3g} in eval mode: they take different losses"
        fix = "Nothing needs to change; do not compare the two, or log the same quantity in both steps."
    else:
        why = f"training batches measured again in eval mode cost {again.eval_mode:.3g}"
        why += ", and the data set is augmented" if again.augmented else ""
        fix = "Look at what the training step adds to its loss (terms, augmentation, smoothing); see also LD710."
        if again.eval_mode <= seen.end + 0.5 * gap:
            fix = "Nothing needs to change: weights improve while that loss is averaged, and what draws, weighs or "
            fix += "augments samples can make the batches harder."
    yield Claim(
        message=f"Validation loss ends at {seen.end:.3g} (the mean of its last 3 values), below the training loss of "
        f"{course.end:.3g}: {why}.",
        subject=seen.name,
        measured={
            "val_loss": seen.end,
            "train_loss": course.end,
            "eval_mode": again.eval_mode,
            "by_validation": other,
            "explained": explained or unlike,
        },
        fix=fix,
    )
