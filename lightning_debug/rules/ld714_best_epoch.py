"""The epoch whose weights to keep.

What it sees: validation metric and loss of the whole run, smoothed in the logarithm of the epoch. Of the epochs
    at which the loss has not degraded by more than its noise, it is the one with the best metric (less a price for
    the loss, where the metric is a share): the choice that EarlyStoppingSelector makes, too (LD716). Metric and loss
    are those that a ModelCheckpoint or EarlyStopping of the run monitors, or else known by their names.
Why it hurts: the last weights are rarely the best, and the single best value of a noisy metric is luck.
How to fix: keep the checkpoint of that epoch.
When to ignore: always, where another choice is wanted. This is information, no alarm. Where EarlyStoppingSelector has
    chosen, only its choice is told: it sees more than is logged, and the epochs before a run was resumed.
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

    labels = torch.randint(0, 4, (1200,))
    inputs = 1.5 * torch.randn(4, 8)[labels] + torch.randn(1200, 8)
    train = DataLoader(TensorDataset(inputs[:960], labels[:960]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[960:], labels[960:]), batch_size=32)
    trainer = Trainer(max_epochs=6)
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
    >>> from lightning_debug.evidence.curves import BestEpoch, CurveReading
    >>> from lightning_debug.evidence.curves import LossKind
    >>> from lightning_debug.record import Record
    >>> reading = CurveReading(final=True, epochs=9, best=BestEpoch(epoch=6, reason="why", rule="loss", loss=0.3))
    >>> [claim.measured["epoch"] for claim in best_epoch(Record([reading]))]
    [6]
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.evidence.selection import EpochSelection
from lightning_debug.finding import INFO, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import newest


@rule("LD714", severity=INFO, needs=CurveReading)
def best_epoch(record: Record) -> Iterator[Claim | Skip]:
    """Claims one finding: the epoch whose weights to keep."""
    reading = newest(record)
    if not reading.final:
        yield Skip("the run is not over")
        return
    if (chosen := record.last(EpochSelection)) is not None:
        yield Skip(f"EarlyStoppingSelector has chosen epoch {chosen.epoch} (LD716)")
        return
    best = reading.best
    if best is None:
        yield Skip("fewer than 3 validations logged a loss or a metric under a name that is known, or it never changed")
        return
    values = {"loss": best.loss, "metric": best.metric}
    told = ", ".join(
        f"{name or f'validation {kind}'} {value:.3g}"
        for name, (kind, value) in zip(best.names, values.items(), strict=True)
        if value is not None
    )
    yield Claim(
        message=f"The epoch to keep is {best.epoch} ({told}): {best.reason}.",
        subject=f"epoch {best.epoch}",
        measured={"epoch": best.epoch, "rule": best.rule, **values},
        fix=f"Keep the checkpoint of epoch {best.epoch}; EarlyStoppingSelector chooses it while training.",
    )
