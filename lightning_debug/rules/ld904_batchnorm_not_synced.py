"""Batch-norm averages over the few samples of its own rank.

What it sees: what each batch-norm in train mode is given in the first training step of a rank. At most ``samples``
    samples that bring fewer than ``values`` values a channel (samples times positions) are few, and the ranks together
    have more.
Why it hurts: mean and variance of a handful of values are noise: outputs depend on which samples share a device,
    running statistics differ from rank to rank, and the checkpoint holds rank 0's. The batch that counts is that of a
    single device, not the whole one.
How to fix: ``Trainer(sync_batchnorm=True)``, which averages over all ranks; larger batches a device; GroupNorm or
    LayerNorm.
When to ignore: when the same small batch is known to do on one device. Silent on batch-norms in eval mode, on
    SyncBatchNorm, on feature maps of many positions, and on one process.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))

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
    train = DataLoader(TensorDataset(inputs[:800], labels[:800]), batch_size=4, shuffle=True)
    val = DataLoader(TensorDataset(inputs[800:], labels[800:]), batch_size=16)
    trainer = Trainer(max_epochs=2, accelerator="cpu", devices=2, strategy="ddp")
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))

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
    trainer = Trainer(max_epochs=2, accelerator="cpu", devices=2, strategy="ddp")
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.ranks import RankNorm, RankNorms
    >>> from lightning_debug.record import Record
    >>> norm = RankNorm(path="net.1", class_name="BatchNorm1d", samples=4, values=4)
    >>> for claim in batchnorm_not_synced(Record([RankNorms(ranks=2, norms=(norm,))])):
    ...     print(claim.message)
    `net.1` (BatchNorm1d) averages over the 4 samples of its own rank, 4 values a channel, while 2 ranks have 8.

References:
    https://pytorch.org/docs/stable/generated/torch.nn.SyncBatchNorm.html
    Wu and He: Group Normalization, https://arxiv.org/abs/1803.08494
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.ranks import RankNorms
from lightning_debug.finding import WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD904", severity=WARNING, needs=RankNorms, explains=("LD405",))
def batchnorm_not_synced(record: Record, *, samples: int = 4, values: int = 32) -> Iterator[Claim]:
    """Claims one finding for all batch-norms with few values."""
    seen = record.first(RankNorms)
    if seen is None or seen.ranks < 2:
        return
    few = [item for item in seen.norms if item.samples <= samples and item.values < values]
    if not few:
        return
    norm = min(few, key=lambda item: item.values)
    more = f" (and {len(few) - 1} more)" if len(few) > 1 else ""
    yield Claim(
        message=f"`{norm.path}` ({norm.class_name}){more} averages over the {norm.samples} samples of its own rank, "
        f"{norm.values} values a channel, while {seen.ranks} ranks have {norm.values * seen.ranks}.",
        subject=norm.path,
        measured={
            "samples": norm.samples,
            "values": norm.values,
            "ranks": seen.ranks,
            "modules": tuple(item.path for item in few),
        },
        fix="Trainer(sync_batchnorm=True), larger batches a device, or GroupNorm in place of batch-norm.",
        at=seen.at,
    )
