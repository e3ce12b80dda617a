"""A call gets a value of another kind than it takes.

What it sees: an exception of a step or of ``configure_optimizers`` that comes from the kind of a value, not from its
    shape: the tuple that a recurrent layer returns given to the next layer, ``None`` of a ``forward`` without
    ``return``, NumPy arrays in a batch, a loss module that is made of the tensors it should be called with,
    ``parameters`` without its parentheses, ``shape(0)`` and ``size[0]``.
Why it hurts: the run ends. The message names a type and an argument, and not the layer that returned it.
How to fix: make the edit that the finding names.
When to ignore: never: the program has raised.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.rnn = nn.Sequential(nn.LSTM(4, 24, batch_first=True), nn.Linear(24, 3))

        def forward(self, inputs):
            return self.rnn(inputs)[:, -1]

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

    inputs = torch.randn(640, 8, 4)
    labels = inputs.mean(dim=1)[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(4, 24, batch_first=True), nn.Linear(24, 3)

        def forward(self, inputs):
            states, _ = self.rnn(inputs)
            return self.head(states[:, -1])

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

    inputs = torch.randn(640, 8, 4)
    labels = inputs.mean(dim=1)[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorRaised
    >>> from lightning_debug.record import Record
    >>> error = ErrorRaised(error="TypeError", phase="configure_optimizers", message="'method' object is not iterable",
    ...                     line="train.py:9", source="return torch.optim.Adam(self.net.parameters, lr=0.001)")
    >>> for claim in wrong_kind_of_value(Record([error])):
    ...     print(claim.fix)
    Call it: self.net.parameters().

References:
    https://pytorch.org/docs/stable/generated/torch.nn.LSTM.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._errors import claims


@rule("LD120", severity=ERROR, needs=ErrorRaised)
def wrong_kind_of_value(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD120")
