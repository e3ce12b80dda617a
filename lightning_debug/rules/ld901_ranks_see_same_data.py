"""Ranks train on the same samples.

What it sees: fingerprints of up to 16 samples in each of the first 8 training batches of an epoch, from every rank. Two
    ranks see the same data where at least ``share`` of a rank's samples stand at the same place of the same batch of
    another, and the rank has at least ``samples`` different ones among them.
Why it hurts: gradients of equal batches are averaged, so that two devices do the work of one, for the price of two; an
    epoch takes as many steps as on one device, and the batch that the learning rate was scaled for does not exist.
How to fix: leave ``use_distributed_sampler`` at its default, or give the loader a ``DistributedSampler``. A sampler of
    your own takes every ``world_size``-th index from ``rank`` on; an ``IterableDataset`` does likewise with its items
    (``itertools.islice(items, rank, None, world_size)``), over its workers too.
When to ignore: when ranks are to see the same data, each with other noise. Silent on validation, on the ranks of one
    model-parallel group, on repeated samples that fill up the last batch, on samples of fewer than ``values`` whole
    numbers, and on batches that are mostly alike. Ranks that draw from the whole data set in different orders are
    not noticed.
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
    trainer = Trainer(max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", use_distributed_sampler=False)
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
    trainer = Trainer(max_epochs=2, accelerator="cpu", devices=2, strategy="ddp")
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.ranks import RankBatches
    >>> from lightning_debug.record import Record
    >>> seen = RankBatches(ranks=2, batches=8, samples=128, distinct=128, twins=1, rank=1, share=1.0, values=9)
    >>> for claim in ranks_see_same_data(Record([seen])):
    ...     print(claim.message)
    Ranks 0 and 1 train on the same samples: 128 of 128 in the first 8 batches of epoch 0 are equal, place by place.

References:
    https://pytorch.org/docs/stable/data.html#torch.utils.data.distributed.DistributedSampler
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.ranks import RankBatches
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD901", severity=ERROR, needs=RankBatches)
def ranks_see_same_data(
    record: Record, *, share: float = 0.9, samples: int = 8, values: int = 4
) -> Iterator[Claim | Skip]:
    """Claims one finding for the training loader."""
    judged = False
    for seen in record.of(RankBatches):
        if seen.distinct < max(samples, 0.9 * seen.samples) or (not seen.floating and seen.values < values):
            continue
        judged = True
        if seen.share < share:
            continue
        equal = round(seen.share * seen.samples)
        others = f" ({seen.twins} of {seen.ranks} ranks repeat another)" if seen.ranks > 2 else ""
        yield Claim(
            message=f"Ranks {seen.other} and {seen.rank} train on the same samples: {equal} of {seen.samples} in the "
            f"first {seen.batches} batches of epoch {seen.at.epoch} are equal, place by place{others}.",
            subject="training DataLoader",
            measured={
                "share": seen.share,
                "samples": seen.samples,
                "batches": seen.batches,
                "ranks": seen.ranks,
                "twins": seen.twins,
                "sampler": seen.sampler,
            },
            fix=_fix(seen),
            at=seen.at,
        )
        return
    if not judged:
        yield Skip("batches hold too few samples that can be told apart")


def _fix(seen: RankBatches) -> str:
    if seen.iterable:
        return (
            "Share the stream out in __iter__: itertools.islice(items, rank, None, world_size), over the workers too."
        )
    if seen.sampler in ("", "RandomSampler", "SequentialSampler"):
        return "Leave use_distributed_sampler at True, or give the DataLoader sampler=DistributedSampler(dataset)."
    return (
        f"Have {seen.sampler} give each rank its own part: indices[rank::world_size] of one order, equal on all ranks."
    )
