"""A batch-norm gets one value for each channel, of which there is no variance.

What it sees: the exception of a batch-norm (or instance-norm) in training. It is foretold where the last batch of
    an epoch will have one sample: one step is run on one sample in isolation before the first step.
Why it hurts: the run ends at the last batch of the first epoch.
How to fix: DataLoader(drop_last=True), another batch size, or a norm that does not look across samples.
When to ignore: never: the step raises on that batch.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))

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
    labels = inputs[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:513], labels[:513]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))

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
    train = DataLoader(TensorDataset(inputs[:513], labels[:513]), batch_size=32, shuffle=True, drop_last=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
    >>> from lightning_debug.record import Record
    >>> error = ErrorRaised(error="ValueError", phase="training_step", line="train.py:9", module="net.1",
    ...                     module_type="BatchNorm1d",
    ...                     message="Expected more than 1 value per channel when training",
    ...                     operation="batch_norm", operands=(ErrorOperand(shape=(1, 32)),))
    >>> for claim in batchnorm_on_one_value(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    net.1 gets one value for each channel in training, (1, 32): there is no variance of one value.
    Leave out a last batch of one sample: DataLoader(..., drop_last=True), or use nn.LayerNorm / nn.GroupNorm.

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


@rule("LD116", severity=ERROR, needs=ErrorRaised)
def batchnorm_on_one_value(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD116")
