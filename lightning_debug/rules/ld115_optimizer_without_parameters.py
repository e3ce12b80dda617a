"""The optimizer is given no parameters.

What it sees: the exception of the optimizer, and modules that are kept in a plain list or dict, where no module
    sees them.
Why it hurts: the run ends before it begins.
How to fix: nn.ModuleList or nn.ModuleDict for layers; layers made in __init__; a generator used once.
When to ignore: never: the optimizer has raised.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3)]

        def net(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

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
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3)])

        def net(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

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
    >>> error = ErrorRaised(error="ValueError", message="optimizer got an empty parameter list",
    ...                     phase="configure_optimizers",
    ...                     line="train.py:20", unregistered=("layers",))
    >>> for claim in optimizer_without_parameters(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    the optimizer gets no parameters: those of layers are in a plain list, where no module sees them.
    Keep layers in nn.ModuleList(...) (or nn.ModuleDict): self.layers = nn.ModuleList(self.layers).

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


@rule("LD115", severity=ERROR, needs=ErrorRaised)
def optimizer_without_parameters(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD115")
