"""The forward pass only takes batches of one size, and the last batch is smaller.

What it sees: a size of the batch that is written into the code (view(32, -1), zeros(1, 32, 64), expand(32, ...)) or
    kept from construction. It is foretold: before the first step, one step is run in isolation on as many samples
    as the smaller last batch of the epoch will have. Where the step raised by itself, that is explained.
Why it hurts: the run ends at the end of the first epoch, after all its work.
How to fix: take the size from the tensor: x.view(x.size(0), -1), torch.zeros(1, x.size(0), 64).
    DataLoader(drop_last=True) only hides it until prediction.
When to ignore: never: the step raises on that batch. It is silent with drop_last=True, where the last batch is
    full, and where the limit on batches leaves the last one out.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            features = inputs.view(32, 12)
            return F.cross_entropy(self.net(features), labels)

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(648, 3, 4)
    labels = inputs[:, :, 0].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:520], labels[:520]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[520:], labels[520:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs.view(inputs.size(0), 12)), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            self.log("val_loss", F.cross_entropy(self.net(inputs.view(inputs.size(0), 12)), labels))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(648, 3, 4)
    labels = inputs[:, :, 0].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:520], labels[:520]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[520:], labels[520:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
    >>> from lightning_debug.record import Record
    >>> error = ErrorRaised(error="RuntimeError", message="shape '[32, 12]' is invalid for input of size 96",
    ...                     line="train.py:9",
    ...                     phase="training_step", operation="view", arguments={"1": "32", "2": "12"}, batch_size=8,
    ...                     operands=(ErrorOperand(name="x", shape=(8, 3, 4)),), full_batch_size=32,
    ...                     foretold="the last training batch of each epoch has 8 samples")
    >>> for claim in hard_coded_batch_size(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    The last training batch of each epoch has 8 samples, and the step raises on it: view at train.py:9 is written for
    batches of 32, and gets one of 8: x (8, 3, 4) float32.
    Take the size from the tensor: .view(x.size(0), ...) instead of 32, or write -1 there.

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


@rule("LD103", severity=ERROR, needs=ErrorRaised, explains=("LD101",))
def hard_coded_batch_size(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD103")
