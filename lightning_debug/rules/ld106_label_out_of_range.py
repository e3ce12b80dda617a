"""A class label is below 0, or not below the number of classes.

What it sees: the labels that reach a classification loss (or one_hot, or a metric), beside the number of scores. On
    a GPU the first batch is checked in isolation before the loss sees it, because there the error takes the whole
    process with it.
Why it hurts: the run ends; on a GPU with "device-side assert triggered", often at another line, and without a
    value.
How to fix: map labels to 0..C-1 (y - 1 where they are 1..C), give the last layer C outputs, or name a label to
    leave out by ignore_index.
When to ignore: never: the loss raises. Labels equal to ignore_index are in order.
Broken:
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
            pass

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 12)
    labels = inputs[:, :3].argmax(dim=1) + 1
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
    >>> from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
    >>> from lightning_debug.record import Record
    >>> scores = ErrorOperand(shape=(32, 3))
    >>> labels = ErrorOperand(name="batch[1]", kind="batch", shape=(32,), dtype="int64", minimum=1, maximum=3)
    >>> error = ErrorRaised(error="IndexError", message="Target 3 is out of bounds.", phase="training_step",
    ...                     line="train.py:9",
    ...                     operation="cross_entropy", operands=(scores, labels))
    >>> for claim in label_out_of_range(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    cross_entropy at train.py:9 gets labels 1..3 (batch[1]) for 3 classes (0..2).
    Labels begin at 0: batch[1] - 1, best in the dataset.

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


@rule("LD106", severity=ERROR, needs=ErrorRaised, explains=("LD302",))
def label_out_of_range(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD106")
