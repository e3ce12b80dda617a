"""Backward starts from a loss that is not one number, or such a loss is logged.

What it sees: the exception of the backward pass, or of ``self.log`` where that comes first; the shape of the loss, and
    the operation that left it unreduced.
Why it hurts: the run ends.
How to fix: return loss.mean(), or leave reduction='none' out.
When to ignore: never: backward has raised. A loss of shape (1,) is one number.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self.net(inputs), labels, reduction="none")

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
    >>> from lightning_debug.evidence.errors import ErrorRaised, ShapeRow
    >>> from lightning_debug.record import Record
    >>> row = ShapeRow(operation="cross_entropy", line="train.py:9", inputs=((32, 3), (32,)), output=(32,))
    >>> error = ErrorRaised(error="RuntimeError", message="grad can be implicitly created only for scalar outputs",
    ...                     phase="backward", line="train.py:20", rows=(row,), notes={"loss_shape": "(32,)"})
    >>> for claim in loss_not_scalar(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    backward starts at a loss of shape (32,), which cross_entropy leaves unreduced.
    Take the mean of what goes backward: loss.mean(); or leave reduction='none' out at train.py:9.

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


@rule("LD110", severity=ERROR, needs=ErrorRaised)
def loss_not_scalar(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD110")
