"""A validation value that decides is a different one on every rank.

What it sees: at the end of a validation, the values that a checkpoint, early stopping or a scheduler watches, on every
    rank. They differ where the distance from smallest to largest is beyond ``spread`` of the larger magnitude.
Why it hurts: each rank validates on its share of the data. What is logged is rank 0's share alone; the best checkpoint,
    the stop and the learning rate follow it, and schedulers on different ranks may step differently.
How to fix: ``self.log("val_loss", loss, sync_dist=True)``, or log a torchmetrics object, which gathers by itself.
When to ignore: when rank 0's share is large enough for you. Silent on values that only some ranks log, on values
    that nothing watches, and where all ranks validate on the same data.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            scores = self.net(batch[0])
            self.log("val_loss", F.cross_entropy(scores, batch[1]))
            self.log("val_accuracy", (scores.argmax(dim=1) == batch[1]).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    torch.manual_seed(0)
    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (1200,))
    inputs = centres[labels] + 0.5 * torch.randn(1200, 8)
    train = DataLoader(TensorDataset(inputs[:800], labels[:800]), batch_size=16, shuffle=True)
    val = DataLoader(TensorDataset(inputs[800:], labels[800:]), batch_size=16)
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp",
        callbacks=[pl.callbacks.EarlyStopping("val_loss", patience=3)],
    )
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            scores = self.net(batch[0])
            self.log("val_loss", F.cross_entropy(scores, batch[1]), sync_dist=True)
            self.log("val_accuracy", (scores.argmax(dim=1) == batch[1]).float().mean(), sync_dist=True)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    torch.manual_seed(0)
    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (1200,))
    inputs = centres[labels] + 0.5 * torch.randn(1200, 8)
    train = DataLoader(TensorDataset(inputs[:800], labels[:800]), batch_size=16, shuffle=True)
    val = DataLoader(TensorDataset(inputs[800:], labels[800:]), batch_size=16)
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp",
        callbacks=[pl.callbacks.EarlyStopping("val_loss", patience=3)],
    )
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.ranks import RankValue, RankValues
    >>> from lightning_debug.record import Record
    >>> value = RankValue(name="val_loss", low=0.4, high=0.5, high_rank=1, users=("EarlyStopping",))
    >>> for claim in validation_metric_not_synced(Record([RankValues(ranks=2, values=(value,))])):
    ...     print(claim.message)
    'val_loss' is 0.4 on rank 0 and 0.5 on rank 1 after the same validation, and EarlyStopping decides by it.

References:
    https://lightning.ai/docs/pytorch/stable/accelerators/accelerator_prepare.html#synchronize-validation-and-test-logging
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_debug.evidence.ranks import RankValue, RankValues
from lightning_debug.finding import WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD903", severity=WARNING, needs=RankValues)
def validation_metric_not_synced(record: Record, *, spread: float = 1e-3) -> Iterator[Claim]:
    """Claims one finding, for all values of the first validation in which some differ."""
    for seen in record.of(RankValues):
        differing = [item for item in seen.values if item.users and _spread(item) > spread]
        if not differing:
            continue
        value = max(differing, key=_spread)
        yield Claim(
            message=f"{value.name!r} is {value.low:.4g} on rank {value.low_rank} and {value.high:.4g} on rank "
            f"{value.high_rank} after the same validation, and {' and '.join(value.users)} decides by it.",
            subject=f"self.log({value.name!r})",
            measured={
                "low": value.low,
                "high": value.high,
                "ranks": seen.ranks,
                "names": tuple(item.name for item in differing),
            },
            fix=f"self.log({value.name!r}, ..., sync_dist=True)",
            at=seen.at,
        )
        return


def _spread(value: RankValue) -> float:
    """Distance between ranks over the larger magnitude."""
    if math.isnan(value.low):
        return math.inf
    if value.high == value.low:
        return 0.0
    return abs(value.high - value.low) / max(abs(value.high), abs(value.low))
