"""A value that the backward pass needs was overwritten.

What it sees: the exception about an in-place operation, and the operation of the step that wrote (x += y, relu_,
    x[...] = y, a module with inplace=True), found by running the step again under watch.
Why it hurts: the run ends; the message names a shape and a version, and not the line that wrote.
How to fix: write x = x + y instead of x += y; write into a clone; take inplace=True away.
When to ignore: never: backward has raised. In-place operations that autograd allows are told nothing.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(12, 32), nn.Linear(32, 3)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            hidden = torch.sigmoid(self.first(inputs))
            hidden += 1
            return F.cross_entropy(self.second(hidden), labels)

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
            self.first, self.second = nn.Linear(12, 32), nn.Linear(32, 3)

        def forward(self, inputs):
            hidden = torch.relu(self.first(inputs))
            return self.second(hidden + 0.1)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            self.log("val_loss", F.cross_entropy(self(inputs), labels))

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
    >>> row = ShapeRow(operation="add", line="train.py:9", inputs=((32, 32),), output=(32, 32), in_place=True,
    ...                     gradient=True)
    >>> message = "[torch.FloatTensor [32, 32]], which is output 0 of SigmoidBackward0, is at version 1"
    >>> error = ErrorRaised(error="RuntimeError", phase="backward", line="train.py:20", rows=(row,),
    ...                     message=f"one of the variables has been modified by an inplace operation: {message}")
    >>> for claim in modified_in_place(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    add at train.py:9 overwrites values of shape (32, 32) that sigmoid needs for its gradient.
    At train.py:9, write x = x + y instead of x += y.

References:
    https://pytorch.org/docs/stable/notes/autograd.html#in-place-operations-with-autograd
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._errors import claims


@rule("LD113", severity=ERROR, needs=ErrorRaised)
def modified_in_place(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD113")
