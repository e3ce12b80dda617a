"""An operation gets tensors whose shapes do not go together.

What it sees: an exception of a step, of its backward pass or of a metric that comes from shapes. The step is run
    again in isolation under watch, and the tensors that met are named with their shapes, with the table of shapes
    from the batch to there. The cause is read from the shapes themselves: a missing flatten, features and time
    swapped, images with their channels last, a missing channel or feature dimension, targets that are one-hot or of
    shape (N, 1), parts that cannot be joined or reshaped, hidden states, attention masks, positional tables that
    are too short.
Why it hurts: the run ends. The message of PyTorch names two sizes, and neither the layer nor the place where they
    went apart.
How to fix: make the edit that the finding names: it is worked out from the sizes that met.
When to ignore: never: the step has raised. A program that catches the exception itself is told nothing.
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
            inputs, labels = batch
            self.log("val_loss", F.cross_entropy(self.net(inputs), labels))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 3, 4)
    labels = inputs[:, :, 0].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))

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

    inputs = torch.randn(640, 3, 4)
    labels = inputs[:, :, 0].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
    >>> from lightning_debug.record import Record
    >>> given = ErrorOperand(name="x", shape=(32, 1, 28, 28))
    >>> weight = ErrorOperand(name="net.0.weight", kind="parameter", argument="weight", shape=(10, 784))
    >>> error = ErrorRaised(error="RuntimeError", message="mat1 and mat2 shapes cannot be multiplied",
    ...                     phase="training_step",
    ...                     line="train.py:20", module="net.0", module_type="Linear", operation="linear",
    ...                     operands=(given, weight))
    >>> for claim in shape_mismatch(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    linear in net.0 (Linear) takes 784 features, and gets x (32, 1, 28, 28) float32.
    Flatten before net.0: x.flatten(1), or nn.Flatten() in front of it: (32, 1, 28, 28) becomes (32, 784).

References:
    https://pytorch.org/docs/stable/notes/broadcasting.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._errors import claims


@rule("LD101", severity=ERROR, needs=ErrorRaised)
def shape_mismatch(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD101")
