"""Ranks hold different weights, though the model is replicated.

What it sees: at the beginning of an epoch and at the end of training, an exact checksum of each trainable parameter on
    every rank. Where bits differ, a few values at the same places are compared: a difference beyond ``difference``
    times the parameter's mean magnitude is more than rounding.
Why it hurts: each rank trains a model of its own. Gradients are averaged that belong to different weights, the
    checkpoint holds rank 0's model only, and its validation is that of a model nobody saves.
How to fix: have every trained parameter take part in DistributedDataParallel: it averages the gradients of those that
    require one when training is set up, in ``setup`` or before. Unfreeze later by the learning rate (0 at first), not
    by ``requires_grad``; call the LightningModule's own layers inside the step; draw noise on weights or gradients
    from a generator that all ranks seed alike.
When to ignore: when ranks are to train apart for a while and are averaged by hand. Silent on sharded strategies, on
    local SGD of the strategy's own, on buffers such as running statistics, and on frozen parameters.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU())
            self.head = nn.Linear(32, 4)
            self.body.requires_grad_(False)

        def on_train_start(self):
            self.body.requires_grad_(True)

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.head(self.body(batch[0])), batch[1])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            scores = self.head(self.body(batch[0]))
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
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU())
            self.head = nn.Linear(32, 4)

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.head(self.body(batch[0])), batch[1])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            scores = self.head(self.body(batch[0]))
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
    >>> from lightning_debug.evidence.ranks import RankWeights, UnequalParameter
    >>> from lightning_debug.record import Record
    >>> apart = UnequalParameter(name="body.0.weight", rank=1, difference=0.25)
    >>> for claim in ranks_diverge(Record([RankWeights(ranks=2, parameters=4, unequal=(apart,), count=1)])):
    ...     print(claim.message)
    1 of 4 trained parameters differs between ranks: `body.0.weight` on rank 1 is 0.25 times its mean magnitude away
    from rank 0.

References:
    https://pytorch.org/docs/stable/notes/ddp.html#internal-design
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.ranks import RankWeights
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD902", severity=ERROR, needs=RankWeights, explains=("LD903",))
def ranks_diverge(record: Record, *, difference: float = 1e-4) -> Iterator[Claim]:
    """Claims one finding, at the parameter that is furthest apart."""
    for seen in record.of(RankWeights):
        apart = [item for item in seen.unequal if item.difference > difference]
        if not apart:
            continue
        worst = apart[0]
        verb = "differs" if seen.count == 1 else "differ"
        yield Claim(
            message=f"{seen.count} of {seen.parameters} trained parameters {verb} between ranks: `{worst.name}` on "
            f"rank {worst.rank} is {worst.difference:.2g} times its mean magnitude away from rank 0.",
            subject=worst.name,
            measured={
                "difference": worst.difference,
                "unequal": seen.count,
                "parameters": seen.parameters,
                "ranks": seen.ranks,
                "first": tuple(item.name for item in apart),
            },
            fix="Set requires_grad before training is set up, not later, and change weights and gradients alike on all "
            "ranks.",
            at=seen.at,
        )
        return
