"""A backward pass runs a second time through a graph that is gone.

What it sees: the exception of the backward pass, and tensors with a graph that the module keeps from one step to
    the next: a hidden state, a running loss.
Why it hurts: the run ends at the second step.
How to fix: detach what is kept; add losses up, and call backward once.
When to ignore: never: backward has raised.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))
            self.running = 0.0

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            self.running = 0.9 * self.running + F.cross_entropy(self.net(inputs), labels)
            return self.running

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
            self.running = 0.0

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.running = 0.9 * self.running + loss.detach()
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
    >>> error = ErrorRaised(error="RuntimeError", message="Trying to backward through the graph a second time",
    ...                     phase="backward",
    ...                     line="train.py:20", held=("hidden",))
    >>> for claim in graph_used_twice(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    a backward pass reaches the graph of an earlier step through hidden, which the module keeps.
    Cut it when it is kept: self.hidden = self.hidden.detach().

References:
    https://pytorch.org/docs/stable/notes/autograd.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._errors import claims


@rule("LD112", severity=ERROR, needs=ErrorRaised)
def graph_used_twice(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD112")
