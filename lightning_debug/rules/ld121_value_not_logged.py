"""A callback, a schedule or a line of code looks up a logged value that is not there.

What it sees: the exception of a ``ModelCheckpoint``, an ``EarlyStopping`` or a ``ReduceLROnPlateau`` whose monitored
    value is missing, and a ``KeyError`` of ``trainer.callback_metrics``; then the names that are logged (one of them is
    the same but for its spelling, or carries the number of a loader), whether a validation has run, and if not, why
    not, whether a plateau schedule steps after each batch, and whether a step holds the name without logging it.
Why it hurts: the run ends, after its first epoch or the first validation. The exception lists the names that there
    are, and not why the one that is wanted is not among them.
How to fix: monitor the name that is logged, or log it: ``self.log("val_loss", loss)`` in ``validation_step``. What a
    step returns is not logged. A value of validation is there after validation only.
When to ignore: never: the run has ended. ``strict=False`` of ``EarlyStopping`` passes over a missing value, and then
    it never stops anything.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            self.log("valid_loss", F.cross_entropy(self.net(inputs), labels))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    inputs = torch.randn(640, 8)
    labels = inputs[:, :4].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4, callbacks=[pl.callbacks.EarlyStopping("val_loss")])
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            self.log("valid_loss", F.cross_entropy(self.net(inputs), labels))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    inputs = torch.randn(640, 8)
    labels = inputs[:, :4].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4, callbacks=[pl.callbacks.EarlyStopping("valid_loss")])
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorRaised
    >>> from lightning_debug.record import Record
    >>> text = "Early stopping conditioned on metric `val_loss` which is not available."
    >>> error = ErrorRaised(error="RuntimeError", phase="logging", message=text,
    ...                     notes={"near": "valid_loss", "there": "train_loss, valid_loss"})
    >>> for claim in value_not_logged(Record([error])):
    ...     print(claim.message)
    EarlyStopping monitors 'val_loss', and it is logged as 'valid_loss'. Logged are: train_loss, valid_loss.

References:
    https://lightning.ai/docs/pytorch/stable/extensions/logging.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._errors import claims


@rule("LD121", severity=ERROR, needs=ErrorRaised, explains=("LD604",))
def value_not_logged(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD121")
