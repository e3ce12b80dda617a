"""The run ended while the validation loss was still falling.

What it sees: at the end, with at least `count` validations: the last quarter of them lies below the quarter
    before by `sigmas` standard errors and by `share` of the loss, and the lowest part is in the last fifth.
Why it hurts: more epochs would have made the model better.
How to fix: train longer.
When to ignore: when the run was short on purpose. This is information, no alarm.
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
            return torch.optim.Adam(self.parameters(), lr=3e-4)

    labels = torch.randint(0, 4, (1200,))
    inputs = 1.5 * torch.randn(4, 8)[labels] + torch.randn(1200, 8)
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
    >>> from lightning_debug.evidence.curves import CurveReading, Shift, ValidationCourse
    >>> from lightning_debug.evidence.curves import LossKind
    >>> from lightning_debug.record import Record
    >>> reading = CurveReading(final=True, epochs=12, validation=ValidationCourse(
    ...     name="val_loss", count=12, end=0.5, lowest_share=1.0, late=Shift(amount=-0.1, error=0.01)))
    >>> [claim.subject for claim in still_improving(Record([reading]))]
    ['val_loss']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.finding import INFO, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import validation


@rule("LD715", severity=INFO, needs=CurveReading)
def still_improving(
    record: Record, *, count: int = 6, sigmas: float = 3.0, share: float = 0.02
) -> Iterator[Claim | Skip]:
    """Claims one finding where the validation loss was still falling when the run ended."""
    seen = validation(record, count=count, final=True)
    if isinstance(seen, Skip):
        yield seen
        return
    if seen.late.sigmas > -sigmas or seen.late.amount > -share * abs(seen.end) or seen.lowest_share < 0.8:
        return
    yield Claim(
        message=f"Validation loss still falls when the run ends: by {-seen.late.amount:.3g} to {seen.end:.3g} over the "
        f"last quarter of {seen.count} validations.",
        subject=seen.name,
        measured={"end": seen.end, "late_change": seen.late.amount, "error": seen.late.error},
        fix="Train longer: raise max_epochs, and let EarlyStoppingSelector end the run.",
    )
