"""The epoch that EarlyStoppingSelector kept, and why.

What it sees: the validation metric and loss of every epoch, smoothed in the logarithm of the epoch. Of the epochs at
    which the loss has not degraded by more than its noise, the one with the best metric is kept; where the metric
    is a share, a loss that is a hundredth above its lowest costs a fifth of a point. Where validation calls a
    classification loss of torch, its scores are divided by the temperature that suits them best before the loss counts,
    so that confidence in wrong answers takes no epoch away; a hundredth costs three quarters of a point then.
Why it hurts: it need not. But the single best value of a small validation set is in good part luck, and the lowest
    loss comes before the metric is at its best where the model grows too sure of itself.
How to fix: nothing is to be done: the module has that epoch's weights, or ``best_path`` names a checkpoint of them.
When to ignore: when you choose the epoch by another criterion.
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
    trainer = Trainer(max_epochs=5, callbacks=[EarlyStoppingSelector(patience=3)])
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
    trainer = Trainer(max_epochs=5)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.selection import EpochSelection
    >>> from lightning_debug.record import Record
    >>> seen = EpochSelection(epoch=11, validations=30, metric="val_acc", metric_value=0.91, best_metric=0.92,
    ...                       loss="val_loss", loss_value=0.31, lowest_loss=0.30, tolerance=0.02, restored=True)
    >>> [claim.message for claim in epoch_selected(Record([seen]))]
    ['Epoch 11 of 30 validations is kept: val_acc 0.91 (best 0.92), val_loss 0.31 (lowest 0.3); ...']

References:
    Prechelt, Early stopping - but when? (1998), for the classic criteria.
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.selection import EpochSelection
from lightning_debug.finding import INFO, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD716", severity=INFO, needs=EpochSelection)
def epoch_selected(record: Record) -> Iterator[Claim]:
    """Claims one finding: the epoch that was kept."""
    seen = record.last(EpochSelection)
    if seen is None:
        return
    told = []
    if seen.metric_value is not None and seen.best_metric is not None:
        told.append(f"{seen.metric} {seen.metric_value:.4g} (best {seen.best_metric:.4g})")
    if seen.loss_value is not None and seen.lowest_loss is not None:
        told.append(f"{seen.loss} {seen.loss_value:.4g} (lowest {seen.lowest_loss:.4g})")
    why = (
        "the smoothed metric (less a price for the loss) is best there among the epochs whose loss has not degraded "
        "beyond its noise"
    )
    if seen.tempered:
        why = "the smoothed metric is best there, less a price for the loss that scores have at their best temperature"
    if not seen.metric:
        why = "the smoothed loss is lowest there"
    elif not seen.loss:
        why = "the smoothed metric is best there"
    where = f"Load its checkpoint: {seen.path}." if seen.path else ""
    where = "The module has its weights." if seen.restored else where
    yield Claim(
        message=f"Epoch {seen.epoch} of {seen.validations} validations is kept: {', '.join(told)}; {why}.",
        subject=f"epoch {seen.epoch}",
        measured={
            "epoch": seen.epoch,
            "metric": seen.metric_value,
            "loss": seen.loss_value,
            "stopped": seen.stopped,
            "restored": seen.restored,
        },
        fix=" ".join(filter(None, (where, f"Its weights were not restored: {seen.reason}." if seen.reason else ""))),
        at=seen.at,
    )
