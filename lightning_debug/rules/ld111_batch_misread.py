"""A step reads the batch as something that it is not.

What it sees: a key, an attribute or a number of items that the batch does not have, where the step reads it, and
    what the batch is: its kind, its keys, its number of items.
Why it hurts: the run ends, and the message does not say what is there.
How to fix: read what the batch has, or return the missing field from the dataset.
When to ignore: never: the step has raised.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))

        def training_step(self, batch, batch_idx):
            inputs, labels, weights = batch
            return F.cross_entropy(self.net(inputs), labels)

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 12)
    labels = inputs[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            self.log("val_loss", F.cross_entropy(self.net(inputs), labels))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 12)
    labels = inputs[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorRaised
    >>> from lightning_debug.record import Record
    >>> about = "a dict with the keys 'image', 'label'"
    >>> error = ErrorRaised(error="KeyError", message="'images'", phase="training_step", line="train.py:9",
    ...                     source="x = batch['images']", containers={"batch": about})
    >>> for claim in batch_misread(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    batch has no key 'images': it is a dict with the keys 'image', 'label'.
    Read batch['image'] instead of batch['images'].

References:
    https://pytorch.org/docs/stable/torch.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._errors import claims


@rule("LD111", severity=ERROR, needs=ErrorRaised)
def batch_misread(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD111")
